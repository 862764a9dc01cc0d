"""Sinks, which get the files of a snapshot while it is taken: a store, or a stream.

A stream is a store with one snapshot, as a tar compressed by zstd, so that ``tar --zstd -x`` makes
a store of it. Its manifest is its last member: what ends before that is no snapshot.
"""

import io
import tarfile
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self, cast

import msgspec

from vicinal.errors import Corruption
from vicinal.snapshots import manifest
from vicinal.snapshots.files import described, is_sealed
from vicinal.snapshots.manifest import ServerSnapshot
from vicinal.snapshots.store import D1, FORMAT, MARKER, Store
from vicinal.snapshots.work import PlaceFile, VerifyFile, Work
from vicinal.storage import private
from vicinal.storage.files import Seal

_LEVEL = 1  # of zstd: vectors hardly shrink at any


class Sink(Protocol):
    """Receives the files of one snapshot.

    Attributes:
        folder: Where its own files are made, under their names.
        work: Does the tasks that make and verify files; the caller closes it.
        written_bytes: Bytes written to the sink.
        linked_bytes: Bytes of files that were linked.
    """

    folder: Path
    work: Work
    written_bytes: int
    linked_bytes: int

    def add_component(self, name: str, source: Path, kind: str, seal: Seal) -> None:
        """Add a component file under its path in a store, unless it is there.

        Raises:
            Corruption: it is not as its seal says.
            FileNotFoundError: it is gone.
        """

    def add_content(self, name: str, source: Path) -> None:
        """Add a file that was made in `folder` and is named by its content, unless it is there."""

    def add_own(self, path: Path) -> None:
        """Add a file that was made in `folder` to the snapshot's own."""

    def publish(self, snapshot: ServerSnapshot) -> None:
        """Write the manifest, after all files."""


class StoreSink:
    """A sink that makes a snapshot in a store, which the caller has locked for writing.

    As a context manager, it leaves nothing unless it was published.
    """

    def __init__(self, store: Store, snapshot_id: str, work: Work, *, copies: bool = False) -> None:
        self._store = store
        self.work = work
        self._copies = copies
        self._is_published = False
        self.written_bytes = 0
        self.linked_bytes = 0
        self.folder = store.begin(snapshot_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if not self._is_published:
            self._store.collect_garbage()

    def add_component(self, name: str, source: Path, kind: str, seal: Seal) -> None:
        """See `Sink`."""
        target = self._store.folder / name
        if is_sealed(target, kind, seal):
            return
        private.make_folders(target.parent)
        temporary = target.with_name(f"{target.name}.tmp")
        end = self.work.perform(
            PlaceFile(str(source), str(temporary), kind, seal.size, seal.checksum, self._copies)
        )
        temporary.replace(target)
        if end.is_linked:
            self.linked_bytes += seal.size
        else:
            self.written_bytes += seal.size

    def add_content(self, name: str, source: Path) -> None:
        """See `Sink`."""
        target = self._store.folder / name
        if target.exists() and target.stat().st_size == source.stat().st_size:
            source.unlink()
            return
        private.make_folders(target.parent)
        self.written_bytes += source.stat().st_size
        source.rename(target)

    def add_own(self, path: Path) -> None:
        """See `Sink`."""
        self.written_bytes += path.stat().st_size

    def publish(self, snapshot: ServerSnapshot) -> None:
        """See `Sink`."""
        self._store.publish(snapshot)
        self._is_published = True


class _Output:
    """Passes on what an archive writes until it is over: one that is given up writes its end too,
    at the latest when it is dropped."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.is_over = False

    def write(self, data: bytes) -> int:
        return len(data) if self.is_over else self._stream.write(data)


class StreamSink:
    """A sink that writes a snapshot to a stream, without the shared files that its reader has.

    Use as a context manager. The stream is not closed.

    Args:
        stream: Takes the bytes.
        snapshot_id: Of the new snapshot.
        work: Verifies files.
        known: Paths of shared files that are left out.
    """

    def __init__(
        self,
        stream: IO[bytes],
        snapshot_id: str,
        work: Work,
        known: frozenset[str] = frozenset(),
    ) -> None:
        self.work = work
        self._known = known
        self._own = f"snapshots/{snapshot_id}"
        self.written_bytes = 0
        self.linked_bytes = 0
        self._temporary = tempfile.TemporaryDirectory(prefix="vicinal-snapshot-")
        self.folder = Path(self._temporary.name)
        import zstandard  # not needed where nothing is streamed

        compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        self.compressed = compressor.stream_writer(stream, closefd=False)
        self._output = _Output(self.compressed)
        self._tar = tarfile.open(  # noqa: SIM115 - closed by `__exit__`
            fileobj=cast(IO[bytes], self._output), mode="w|", format=tarfile.PAX_FORMAT
        )
        self._add_bytes(MARKER, msgspec.json.encode({"format": FORMAT}) + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._output.is_over = True
        self._tar.close()
        self._temporary.cleanup()

    def add_component(self, name: str, source: Path, kind: str, seal: Seal) -> None:
        """See `Sink`."""
        if name in self._known:
            return
        self.work.perform(VerifyFile(str(source), kind, seal.size, seal.checksum))
        self._add_file(name, source)

    def add_content(self, name: str, source: Path) -> None:
        """See `Sink`."""
        if name not in self._known:
            self._add_file(name, source)
        source.unlink()

    def add_own(self, path: Path) -> None:
        """See `Sink`."""
        self._add_file(f"{self._own}/{path.name}", path)
        path.unlink()

    def publish(self, snapshot: ServerSnapshot) -> None:
        """See `Sink`."""
        self._add_bytes(f"{self._own}/{manifest.FILE_NAME}", manifest.encode(snapshot))
        self._tar.close()
        self.compressed.close()  # type: ignore[no-untyped-call] # its stub lacks the type

    def add_stored(self, store: Store, snapshot: ServerSnapshot) -> None:
        """Add a snapshot that a store has, verified as it is read, and publish it.

        Raises:
            Corruption: a file is not as it was written.
            FileNotFoundError: one is gone, as when the snapshot was deleted meanwhile.
        """
        own = store.own(snapshot.id)
        contents = {f"{self._own}/{index.log.name}": index.log for index in snapshot.indexes}
        files = [database.file for database in snapshot.databases]
        contents |= {f"shared/{D1}/{file.name}": file for file in files}
        if snapshot.tokens is not None:
            contents[f"{self._own}/{snapshot.tokens.name}"] = snapshot.tokens
        for name, file in contents.items():
            if name in self._known:
                continue
            path = own / file.name if name.startswith(self._own) else store.folder / name
            if described(path, file.name) != file:
                raise Corruption(f"{path} is damaged: its size or its digest differs")
            self._add_file(name, path)
        for index in snapshot.indexes:
            for component in index.files:
                name = f"shared/{index.id}/{component.name}"
                self.add_component(name, store.folder / name, component.kind, component.seal)
        self.publish(snapshot)

    def _add_file(self, name: str, path: Path) -> None:
        with path.open("rb") as file:
            member = self._member(name, path.stat().st_size)
            self._tar.addfile(member, file)
        self.written_bytes += member.size

    def _add_bytes(self, name: str, content: bytes) -> None:
        self._tar.addfile(self._member(name, len(content)), io.BytesIO(content))

    @staticmethod
    def _member(name: str, size: int) -> tarfile.TarInfo:
        member = tarfile.TarInfo(name)
        member.size = size
        member.mode = 0o600
        return member
