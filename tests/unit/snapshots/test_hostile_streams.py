"""A stream that was made to do harm takes no memory, no disk and no file that is not its own."""

import io
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import zstandard

from tests.support.engines import create, upsert
from tests.support.inline import open_inline
from tests.support.snapshots import points
from tests.unit.snapshots.conftest import OPTIONS
from tests.unit.snapshots.test_streams import received, streamed
from vicinal.errors import Corruption, ResourceExhausted
from vicinal.snapshots import receiving
from vicinal.snapshots.receiving import known_names, relay
from vicinal.snapshots.store import MARKER, Store

ID = "20260101-000000-000000"
INDEX = "00000000-0000-0000-0000-000000000000"
Member = tuple[tarfile.TarInfo, bytes]


def packed(members: Sequence[Member]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return zstandard.compress(raw.getvalue())


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE) -> Member:
    info = tarfile.TarInfo(name)
    info.type = kind
    return info, content


def unpacked(stream: bytes) -> list[Member]:
    reader = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
    with tarfile.open(fileobj=io.BytesIO(reader.readall())) as tar:
        return [(each, tar.extractfile(each).read()) for each in tar]  # type: ignore[union-attr]


def left(folder: Path) -> list[str]:
    """What a store holds beside its marker and lock."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (MARKER, "lock")
    )


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
     tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE],
)  # fmt: skip
@pytest.mark.parametrize(
    "name", [MARKER, f"snapshots/{ID}/tokens.db", f"shared/d1/{'0' * 64}", "../evil", "/tmp/evil"]
)
def test_a_member_that_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes, name: str) -> None:
    each, _ = member(name, kind=kind)
    each.linkname = "/etc/passwd"

    with pytest.raises(Corruption):
        received(packed([(each, b"")]), tmp_path / "store")

    assert left(tmp_path / "store") == []


@pytest.mark.parametrize(
    "name", ["..", ".", ".hidden", "a/b", "manifest/", "é", "a" * 61, "A", "-" * 3]
)
def test_a_name_that_no_file_of_a_snapshot_has_is_refused(tmp_path: Path, name: str) -> None:
    stream = packed([member(f"snapshots/{ID}/{name}", b"x")])

    with pytest.raises(Corruption, match="which no snapshot has"):
        received(stream, tmp_path / "store")

    assert left(tmp_path / "store") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_a_file_that_comes_twice_is_refused(data: Path, tmp_path: Path) -> None:
    members = unpacked(streamed(data)[0])
    own = next(each for each in members if each[0].name.endswith(".db"))

    with pytest.raises(Corruption, match="twice"):
        received(packed([own, *members]), tmp_path / "store")

    assert left(tmp_path / "store") == []


def test_a_shared_file_that_comes_twice_does_no_harm(data: Path, tmp_path: Path) -> None:
    stream, snapshot, _ = streamed(data)
    members = unpacked(stream)
    shared = [each for each in members if each[0].name.startswith("shared/")]

    assert received(packed([*shared, *members]), tmp_path / "store") == snapshot


def test_a_shared_file_that_the_manifest_does_not_name_does_not_stay(
    data: Path, tmp_path: Path
) -> None:
    first, second = unpacked(streamed(data)[0]), tmp_path / "second"
    with closing(open_inline(second, OPTIONS)) as engine:
        create(engine)
        upsert(engine, *points(0, 30))
    others = [each for each in unpacked(streamed(second)[0]) if each[0].name.startswith("shared/")]

    received(packed([*others, *first]), tmp_path / "store")

    there = left(tmp_path / "store")
    assert there
    assert not {each.name for each, _ in others} & set(there)


@pytest.mark.parametrize("content", [b'{"format":2}', b'{"format":"1"}', b"{}", b"x", b"[" * 900])
def test_a_stream_of_another_format_is_said(data: Path, tmp_path: Path, content: bytes) -> None:
    _, *members = unpacked(streamed(data)[0])

    with pytest.raises(Corruption, match=r"is of format 2, this version reads|cannot be read"):
        received(packed([member(MARKER, content), *members]), tmp_path / "store")

    assert left(tmp_path / "store") == []


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[" * 100_000, b'{"sha256":"","snapshot":' + b"[" * 100_000]
)
def test_a_manifest_that_is_none_is_said(tmp_path: Path, content: bytes) -> None:
    stream = packed([member(f"snapshots/{ID}/manifest", content)])

    with pytest.raises(Corruption, match="the manifest cannot be read"):
        received(stream, tmp_path / "store")
    with pytest.raises(Corruption, match="the manifest cannot be read"):
        relay(io.BytesIO(stream), io.BytesIO())


HEADS: dict[str, bytes] = {
    "pax": tarfile.XHDTYPE, "global pax": tarfile.XGLTYPE, "long name": tarfile.GNUTYPE_LONGNAME,
    "long link": tarfile.GNUTYPE_LONGLINK,
}  # fmt: skip


class Zeros(io.RawIOBase):
    """The zstd of some bytes and then of zeros, made as they are read."""

    def __init__(self, first: bytes, count: int) -> None:
        self._pieces = self._made(first, count)
        self._left = b""

    def _made(self, first: bytes, count: int) -> Iterator[bytes]:
        compressor = zstandard.ZstdCompressor().compressobj()
        yield compressor.compress(first)
        for _ in range(count >> 20):
            yield compressor.compress(bytes(1 << 20))
        yield compressor.flush()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left = piece
        part, self._left = self._left[:size], self._left[size:]
        return part


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("reads", ["receive", "relay"])
def test_a_header_of_zeros_takes_no_memory(tmp_path: Path, kind: str, reads: str) -> None:
    size = 1 << 26
    info = tarfile.TarInfo("x")
    info.type, info.size = HEADS[kind], size
    stream = Zeros(info.tobuf(), size)
    store = Store.create(tmp_path / "store")
    read: Callable[[], object] = {
        "receive": lambda: receiving.receive(stream, store),  # type: ignore[arg-type]  # it reads
        "relay": lambda: relay(stream, io.BytesIO()),  # type: ignore[arg-type]
    }[reads]

    tracemalloc.start()
    try:
        with pytest.raises(Corruption, match="a header of 67,108,864 bytes"):
            read()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < size // 4


@pytest.mark.parametrize(
    "name",
    [f"snapshots/{ID}/tokens.db", f"shared/d1/{'0' * 64}",
     f"shared/{INDEX}/segments.00000001.ids-{1 << 50}-00000000"],
)  # fmt: skip
def test_a_file_that_the_disk_has_no_room_for_is_refused_before_it_is_full(
    tmp_path: Path, name: str
) -> None:
    info = tarfile.TarInfo(name)
    info.size = 1 << 50
    stream = Zeros(info.tobuf(tarfile.GNU_FORMAT), 1 << 24)
    store = Store.create(tmp_path / "store")

    with pytest.raises(ResourceExhausted, match=r"bytes free, and .* of the stream has 1,125,"):
        receiving.receive(stream, store)  # type: ignore[arg-type]

    assert left(tmp_path / "store") == []


def test_a_file_of_another_size_than_its_name_says_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "_write", lambda *_: pytest.fail("it is written"))
    name = f"shared/{INDEX}/segments.00000001.ids-100-00000000"

    with pytest.raises(Corruption, match="of the stream has 3 bytes"):
        received(packed([member(name, b"abc")]), tmp_path / "store")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [_cut, lambda path: path.write_bytes(b"")])
def test_a_shared_file_that_is_cut_off_in_the_store_is_sent_again(
    data: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    received(streamed(data)[0], tmp_path / "store")
    store = Store(tmp_path / "store")
    whole = sorted(known_names(store))
    damage(store.folder / whole[0])

    known = sorted(known_names(store))

    assert known == whole[1:]
    stream, snapshot, _ = streamed(data, frozenset(known))
    assert received(stream, tmp_path / "store") == snapshot
    assert sorted(known_names(store)) == whole


def test_a_full_disk_is_looked_at_where_the_store_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def usage(folder: Path) -> SimpleNamespace:
        asked.append(folder)
        return SimpleNamespace(free=2)

    monkeypatch.setattr("shutil.disk_usage", usage)

    with pytest.raises(ResourceExhausted, match="has 2 bytes free"):
        received(packed([member(f"snapshots/{ID}/tokens.db", b"abc")]), tmp_path / "store")

    assert asked == [tmp_path / "store"]
