"""Reading a stream: a tar compressed by zstd, as `sinks` writes it, into a store.

Its bytes may come from anywhere, so only regular files with the names of a store are taken, each
verified before it gets its name, and no more than the manifest names stays. A stream that ends
early leaves nothing.
"""

import io
import re
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self, cast

from vicinal.errors import Corruption, ResourceExhausted
from vicinal.snapshots import manifest
from vicinal.snapshots.files import described, is_sealed, verify_seal
from vicinal.snapshots.manifest import ServerSnapshot
from vicinal.snapshots.store import (
    D1,
    MARKER,
    SHARED_NAME,
    Store,
    check_marker,
    shared_names,
)
from vicinal.storage import private
from vicinal.storage.files import Seal, sync
from vicinal.storage.sqlite import translating

SUFFIX = ".tar.zst"

_OWN = re.compile(rf"snapshots/({manifest.ID.pattern})/({manifest.OWN_NAME.pattern})")
_SEALED = re.compile(r"(?:segments\.[0-9]{8}\.([a-z0-9-]{1,40})|(blob)s\.[0-9]{8,20})"
                     r"-([0-9]{1,19})-([0-9a-f]{8})")  # fmt: skip
_MARKER_BYTES_MAX = 1 << 10  # ours
_MANIFEST_BYTES_MAX = 256 << 20  # ours: about a million component files
_PIECE_BYTES = 1 << 20
_HEADER_BYTES_MAX = 64 << 10  # ours: of what a tar says of a member beside its header
_EXTENDED = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
_MANIFEST = Path("the manifest")


def receive(stream: IO[bytes], store: Store) -> ServerSnapshot:
    """Read a stream into a store, which the caller has locked for writing; return the manifest.

    Raises:
        Corruption: the stream is none of a snapshot, is damaged or ends early.
        ResourceExhausted: the disk is full.
    """
    with translating(store.folder):
        try:
            with _decompressed(stream) as reader:
                return _receive(reader, store)
        finally:
            store.collect_garbage()  # of what has not been published


def relay(stream: IO[bytes], target: IO[bytes]) -> ServerSnapshot:
    """Write a stream on as it is; return the manifest at its end. Other files are not verified.

    Raises:
        Corruption: the stream is none of a snapshot, is damaged or ends early.
    """
    snapshot: ServerSnapshot | None = None
    with _decompressed(_Relayed(stream, target)) as reader:
        with tarfile.open(fileobj=reader, mode="r|", tarinfo=_Member) as tar:
            for member in tar:
                own = _OWN.fullmatch(member.name)
                file = tar.extractfile(member) if member.isreg() else None
                if own is not None and own[2] == manifest.FILE_NAME and file is not None:
                    snapshot = manifest.decode(file.read(_MANIFEST_BYTES_MAX), _MANIFEST)
        while reader.read(_PIECE_BYTES):
            pass  # what ends the tar
    if snapshot is None:
        raise Corruption("the stream ends before its manifest")
    return snapshot


class _Member(tarfile.TarInfo):
    """A member of a tar, whose library reads headers of any length into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type in _EXTENDED and member.size > _HEADER_BYTES_MAX:
            raise tarfile.ReadError(f"a header of {member.size:,} bytes")
        return member


class _Relayed(io.RawIOBase):
    """A stream whose bytes are written on as they are read."""

    def __init__(self, stream: IO[bytes], target: IO[bytes]) -> None:
        self._stream = stream
        self._target = target

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._stream.read(len(buffer))
        self._target.write(piece)
        buffer[: len(piece)] = piece
        return len(piece)


@contextmanager
def _decompressed(stream: object) -> Iterator[IO[bytes]]:
    """Read a stream, and say as `Corruption` that it is none."""
    import zstandard  # not needed where nothing is streamed

    try:
        yield zstandard.ZstdDecompressor().stream_reader(
            cast(IO[bytes], stream), read_across_frames=True
        )
    except (zstandard.ZstdError, tarfile.TarError, EOFError) as error:
        raise Corruption(f"the stream is damaged, or no snapshot: {error}") from error


def _receive(reader: IO[bytes], store: Store) -> ServerSnapshot:
    snapshot: ServerSnapshot | None = None
    store.prepare()
    with tarfile.open(fileobj=reader, mode="r|", tarinfo=_Member) as tar:
        for member in tar:
            is_file = member.isreg() and not member.issparse()
            file = tar.extractfile(member) if is_file else None
            own = _OWN.fullmatch(member.name)
            if file is None or snapshot is not None:
                raise Corruption(f"the stream has a member {member.name!r:.200} out of order")
            _check_capacity(store, member)
            if own is not None:
                snapshot = _add_own(store, own[1], own[2], file)
            elif member.name == MARKER:
                check_marker(file.read(_MARKER_BYTES_MAX), "the stream")
            else:
                _add_shared(store, member, file)
    if snapshot is None:
        raise Corruption("the stream ends before its manifest")
    for name in shared_names(snapshot):
        if not (store.folder / name).exists():
            raise Corruption(f"the stream lacks {name}")
    store.publish(snapshot)
    return snapshot


def _check_capacity(store: Store, member: tarfile.TarInfo) -> None:
    """Refuse a file that does not fit on the disk, before that is full.

    Raises:
        ResourceExhausted: there is none.
    """
    free = shutil.disk_usage(store.folder).free
    if member.size > free:
        raise ResourceExhausted(
            f"{store.folder} has {free:,} bytes free, and {member.name} of the stream has "
            f"{member.size:,}",
            retry_after=1.0,
        )


def _add_own(store: Store, snapshot_id: str, name: str, file: IO[bytes]) -> ServerSnapshot | None:
    if name == manifest.FILE_NAME:
        raw = file.read(_MANIFEST_BYTES_MAX)
        snapshot = manifest.decode(raw, _MANIFEST)
        _check_own(store, snapshot, snapshot_id)
        return snapshot
    folder = store.unfinished(snapshot_id)
    private.make_folders(folder)
    if (folder / name).exists():
        raise Corruption(f"the stream has {name} twice")
    _write(folder / name, file)
    return None


def _check_own(store: Store, snapshot: ServerSnapshot, snapshot_id: str) -> None:
    folder = store.unfinished(snapshot_id)
    private.make_folders(folder)
    files = [*(index.log for index in snapshot.indexes), snapshot.tokens]
    names = {file.name: file for file in files if file is not None}
    if snapshot.id != snapshot_id:
        raise Corruption(f"the manifest of {snapshot_id} is that of {snapshot.id}")
    if snapshot_id in store.ids():
        raise Corruption(f"{store.folder} has snapshot {snapshot_id} already")
    if set(names) != {path.name for path in folder.iterdir()}:
        raise Corruption("the stream has other files than its manifest")
    for name, file in names.items():
        if described(folder / name, name) != file:
            raise Corruption(f"{name} of the stream is damaged")


def _add_shared(store: Store, member: tarfile.TarInfo, file: IO[bytes]) -> None:
    name = member.name
    parts = SHARED_NAME.fullmatch(name)
    sealed = None if parts is None else _SEALED.fullmatch(parts[2])
    if parts is None or (parts[1] != D1 and sealed is None):
        raise Corruption(f"the stream has a member {name!r:.200}, which no snapshot has")
    if sealed is not None and member.size != int(sealed[3]):
        raise Corruption(f"{name} of the stream has {member.size:,} bytes")
    target = store.folder / name
    private.make_folders(target.parent)
    temporary = target.with_name(f"{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    _write(temporary, file)
    if sealed is not None:
        verify_seal(temporary, *_kind_and_seal(sealed), name)
    elif described(temporary, "").sha256 != parts[2]:
        raise Corruption(f"{name} of the stream is damaged")
    temporary.replace(target)


def known_names(store: Store) -> list[str]:
    """Return the paths of the shared files of a store that need not be sent again.

    Of each its seal is looked at, but no block: `verifying` reads those.
    """
    names: list[str] = []
    for path in store.shared.glob("*/*"):
        sealed = _SEALED.fullmatch(path.name)
        if path.parent.name == D1 or (sealed and is_sealed(path, *_kind_and_seal(sealed))):
            names.append(str(path.relative_to(store.folder)))
    return names


def _kind_and_seal(sealed: re.Match[str]) -> tuple[str, Seal]:
    return sealed[1] or sealed[2], Seal(int(sealed[3]), int(sealed[4], 16))


def _write(path: Path, file: IO[bytes]) -> None:
    with open(path, "xb", opener=private.opener) as target:
        while piece := file.read(_PIECE_BYTES):
            target.write(piece)
        target.flush()
        sync(target.fileno())
