"""A stream is a whole snapshot or none, whoever has cut or changed it."""

import gc
import io
import shutil
import subprocess
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from tests.support.inline import open_inline
from tests.support.snapshots import Contents, contents, restored
from tests.unit.snapshots.conftest import OPTIONS
from vicinal.errors import Corruption, Unavailable
from vicinal.snapshots.manifest import ServerSnapshot
from vicinal.snapshots.receiving import receive, relay
from vicinal.snapshots.sinks import StreamSink
from vicinal.snapshots.store import Store
from vicinal.snapshots.taking import Server, new_id, take_snapshot
from vicinal.snapshots.work import InlineWork


def streamed(
    data: Path, known: frozenset[str] = frozenset()
) -> tuple[bytes, ServerSnapshot, Contents]:
    stream, snapshot_id = io.BytesIO(), new_id()
    with (
        closing(open_inline(data, OPTIONS)) as engine,
        StreamSink(stream, snapshot_id, InlineWork(), known) as sink,
    ):
        snapshot = take_snapshot(Server(engine, data, "test"), sink, snapshot_id)
        return stream.getvalue(), snapshot, contents(engine)


def received(stream: bytes, folder: Path) -> ServerSnapshot:
    store = Store.create(folder)
    with store.locked(writes=True):
        return receive(io.BytesIO(stream), store)


def test_a_stream_becomes_the_same_snapshot_in_a_store(data: Path, tmp_path: Path) -> None:
    stream, snapshot, expected = streamed(data)

    assert received(stream, tmp_path / "store") == snapshot

    with restored(tmp_path / "store", snapshot.id, tmp_path / "new") as engine:
        assert contents(engine) == expected


def test_what_the_reader_has_is_not_sent_again(data: Path, tmp_path: Path) -> None:
    stream, _, _ = streamed(data)
    received(stream, tmp_path / "store")
    known = frozenset(
        str(path.relative_to(tmp_path / "store"))
        for path in (tmp_path / "store" / "shared").glob("*/*")
    )
    again, snapshot, expected = streamed(data, known)

    assert len(again) < len(stream)
    assert received(again, tmp_path / "store").id == snapshot.id
    with restored(tmp_path / "store", snapshot.id, tmp_path / "new") as engine:
        assert contents(engine) == expected


def test_a_stream_that_lacks_what_the_reader_has_not_is_refused(data: Path, tmp_path: Path) -> None:
    stream, _, _ = streamed(data)
    received(stream, tmp_path / "store")
    known = frozenset(
        str(path.relative_to(tmp_path / "store"))
        for path in (tmp_path / "store" / "shared").glob("*/*")
    )
    again, _, _ = streamed(data, known)

    with pytest.raises(Corruption, match="lacks shared/"):
        received(again, tmp_path / "other")

    assert not list((tmp_path / "other" / "snapshots").iterdir())


def test_a_stream_that_ends_anywhere_leaves_nothing(data: Path, tmp_path: Path) -> None:
    stream, _, _ = streamed(data)

    for end in [0, 1, 17, *range(40, len(stream) - 200, len(stream) // 30)]:
        with pytest.raises(Corruption):
            received(stream[:end], tmp_path / "store")

        store = Store(tmp_path / "store")
        assert list(store.ids()) == []
        assert not [path for path in store.folder.rglob("shared/*/*") if path.is_file()]


def test_a_stream_with_a_changed_byte_is_refused_or_the_same(data: Path, tmp_path: Path) -> None:
    stream, snapshot, expected = streamed(data)

    for at in range(0, len(stream), len(stream) // 40):
        changed = bytearray(stream)
        changed[at] ^= 8
        try:
            received(bytes(changed), tmp_path / "store")
        except Corruption:
            assert list(Store(tmp_path / "store").ids()) == []
            continue
        with restored(tmp_path / "store", snapshot.id, tmp_path / "new") as engine:
            assert contents(engine) == expected
        shutil.rmtree(tmp_path / "store")


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/passwd", "shared/d1/../../evil", "shared/x/y", "snapshots/a/b",
     "shared/d1/" + "0" * 64,
     "shared/00000000-0000-0000-0000-000000000000/segments.00000001.ids-3-00000000"],
)  # fmt: skip
def test_a_member_that_no_snapshot_has_is_refused(tmp_path: Path, name: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 3
        tar.addfile(member, io.BytesIO(b"bad"))
    stream = zstandard.ZstdCompressor().compress(packed.getvalue())

    with pytest.raises(Corruption):
        received(stream, tmp_path / "store")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]
    assert not list((tmp_path / "store").rglob("*evil*"))


def test_a_link_in_a_stream_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("vicinal-snapshots")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)

    with pytest.raises(Corruption, match="out of order"):
        received(zstandard.ZstdCompressor().compress(packed.getvalue()), tmp_path / "store")


def test_a_damaged_file_of_a_stream_is_named_as_the_stream_has_it(
    data: Path, tmp_path: Path
) -> None:
    stream, _, _ = streamed(data)
    reader = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
    raw = bytearray(reader.readall())
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        member = next(each for each in tar if ".values-" in each.name)
    raw[member.offset_data + 70] ^= 1

    with pytest.raises(Corruption) as refused:
        received(zstandard.compress(bytes(raw)), tmp_path / "store")

    assert str(refused.value).startswith(f"{member.name} is damaged between bytes 0 and ")


@pytest.mark.parametrize("end", [0, 1, 40, -1000])
def test_a_stream_that_is_written_on_and_ends_early_is_refused(data: Path, end: int) -> None:
    stream, snapshot, _ = streamed(data)
    target = io.BytesIO()

    with pytest.raises(Corruption):
        relay(io.BytesIO(stream[:end]), io.BytesIO())

    assert relay(io.BytesIO(stream), target) == snapshot
    assert target.getvalue() == stream


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not here")
def test_tar_makes_a_store_of_a_stream(data: Path, tmp_path: Path) -> None:
    stream, snapshot, expected = streamed(data)
    (tmp_path / "a.tar.zst").write_bytes(stream)
    (tmp_path / "store").mkdir()

    command = ["tar", "--zstd", "-xf", str(tmp_path / "a.tar.zst"), "-C", str(tmp_path / "store")]
    subprocess.run(command, check=True)

    with restored(tmp_path / "store", snapshot.id, tmp_path / "new") as engine:
        assert contents(engine) == expected


def test_a_stream_that_is_given_up_gets_nothing_more() -> None:
    """Else the archive writes its end when it is dropped, and raises where nobody catches it."""
    stream = io.BytesIO()
    with pytest.raises(Unavailable), StreamSink(stream, "given-up", InlineWork()) as sink:
        raise Unavailable("the client has gone")
    sink.compressed.close()  # type: ignore[no-untyped-call] # what is written now raises
    del sink
    gc.collect()
