"""The reader tells where each tensor lies, and refuses a file that is not whole."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.model_files import TINY, write_tensors
from vicinal.embeddings.safetensors import read_tensors
from vicinal.errors import Corruption


def test_each_tensor_is_found_where_its_bytes_are(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    arrays: dict[str, NDArray[Any]] = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "scalar": np.array(7.0, dtype=np.float32),
        "half": np.array([1.5, -2.0], dtype=np.float16),
        "ids": np.array([[1, 2]], dtype=np.int64),
        "empty": np.zeros((0, 4), dtype=np.float32),
    }
    write_tensors(path, arrays)

    tensors = read_tensors(path)

    raw = path.read_bytes()
    assert {name: (each.dtype, each.shape) for name, each in tensors.items()} == {
        "a": ("F32", (2, 3)),
        "scalar": ("F32", ()),
        "half": ("F16", (2,)),
        "ids": ("I64", (1, 2)),
        "empty": ("F32", (0, 4)),
    }
    for name, array in arrays.items():
        tensor = tensors[name]
        assert raw[tensor.offset : tensor.offset + tensor.length] == array.tobytes()


def test_a_file_cut_anywhere_is_refused_by_name(tmp_path: Path) -> None:
    whole = TINY.joinpath("model.safetensors").read_bytes()
    header_end = 8 + int.from_bytes(whole[:8], "little")
    path = tmp_path / "cut.safetensors"

    for cut in (0, 1, 7, 8, 9, header_end - 1, header_end, header_end + 1, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(Corruption, match=r"cut\.safetensors"):
            read_tensors(path)


def test_bytes_after_the_last_tensor_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.safetensors"
    path.write_bytes(TINY.joinpath("model.safetensors").read_bytes() + b"\0")

    with pytest.raises(Corruption, match=r"long\.safetensors has 94553 bytes"):
        read_tensors(path)


def test_an_absurd_header_length_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "absurd.safetensors"
    path.write_bytes(b"\xff" * 64)

    with pytest.raises(Corruption, match="header claims 18446744073709551615"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}, "8 bytes.*needs 12"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}, "4 to 12 of 8"),
        ({"dtype": "F32", "shape": [0], "data_offsets": [8, 0]}, "8 to 0"),
        ({"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]}, r"\[-1, -2\]"),
        ({"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}, "'F99'"),
        ({"dtype": "F32", "shape": [2]}, "header.*data_offsets"),
        ({"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}, "header.*damaged"),
        ([], "header.*damaged"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(
    tmp_path: Path, entry: object, said: str
) -> None:
    path = tmp_path / "bad.safetensors"
    header = json.dumps({"weights": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))

    with pytest.raises(Corruption, match=said) as caught:
        read_tensors(path)
    assert "bad.safetensors" in str(caught.value)
