"""Offsets of the tensors in a safetensors file, without reading them.

    file    := length header data
    length  := u64 little-endian, bytes of the header
    header  := JSON: {name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__"?}
    data    := the tensors, row-major little-endian; offsets count from its first byte

Our own reader because onnxruntime maps the weights straight out of this file when it is
told file offsets, which the package of the same name does not give. It checks that every tensor
lies inside the file and has the length of its shape, and that the file ends with the last tensor.
This module knows nothing of models.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vicinal.errors import Corruption

HEADER_BYTES_MAX = 100_000_000  # the format's own bound, so that a bad length is not read

_ITEM_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2,
    "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: the format's name of its type; its offset and length in the file, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


class _TensorEntry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


_header_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_entry_decoder = msgspec.json.Decoder(_TensorEntry)


def read_tensors(path: Path) -> Mapping[str, Tensor]:
    """Return the tensors of the file, by name.

    Raises:
        Corruption: the file is not in this format, cut off, or contradicts itself; the
            message names the file and the tensor.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        header_length = int.from_bytes(file.read(8), "little")
        data_start = 8 + header_length
        if size < 8 or header_length > HEADER_BYTES_MAX or data_start > size:
            raise Corruption(
                f"{path} is no safetensors file or is cut off: it has {size} bytes and its "
                f"header claims {header_length}"
            )
        header = file.read(header_length)
    try:
        entries = {
            name: _entry_decoder.decode(raw)
            for name, raw in _header_decoder.decode(header).items()
            if name != "__metadata__"
        }
    except msgspec.MsgspecError as error:
        raise Corruption(f"the header of {path} is damaged: {error}") from error
    tensors = {
        name: _located(path, name, entry, data_start, size) for name, entry in entries.items()
    }
    end = max((tensor.offset + tensor.length for tensor in tensors.values()), default=data_start)
    if end != size:
        raise Corruption(f"{path} has {size} bytes where its header accounts for {end}")
    return tensors


def _located(path: Path, name: str, entry: _TensorEntry, data_start: int, size: int) -> Tensor:
    begin, end = entry.data_offsets
    if not 0 <= begin <= end <= size - data_start:
        raise Corruption(
            f"tensor {name} of {path} claims bytes {begin} to {end} of {size - data_start}: "
            "the file is cut off or damaged"
        )
    if entry.dtype not in _ITEM_BYTES:
        raise Corruption(f"tensor {name} of {path} has the unknown dtype {entry.dtype!r}")
    expected = math.prod(entry.shape) * _ITEM_BYTES[entry.dtype]
    if end - begin != expected or min(entry.shape, default=0) < 0:
        raise Corruption(
            f"tensor {name} of {path} has {end - begin} bytes, its shape {list(entry.shape)} "
            f"of {entry.dtype} needs {expected}"
        )
    return Tensor(entry.dtype, entry.shape, data_start + begin, end - begin)
