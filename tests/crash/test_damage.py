"""Damage to any file is found and named, or does not matter; wrong answers are never given.

A data folder with every kind of file in it, as closing and as a kill leaves it, is damaged
in one place and opened: either the index says `Corruption` with the name of the file, alone
and before anything wrong is read, or all answers are exactly right.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.crash import Readout, read_all
from tests.support.engines import DOCS, Record, apply, create, upsert
from tests.support.inline import open_inline
from vicinal.engine import blob_files
from vicinal.engine.embedded import EngineOptions
from vicinal.errors import Corruption, Error, Unavailable
from vicinal.filters.nodes import Scalar
from vicinal.model import CreateMetadataIndex, Delete, IndexAddress, IndexType, MetadataIndex
from vicinal.storage import files

OTHER = IndexAddress("acme", "other")
COLOR = MetadataIndex("color", IndexType.STRING)
SIZE = MetadataIndex("size", IndexType.NUMBER)
TEXT = MetadataIndex("text", IndexType.TEXT, "english")
PROBES: list[tuple[str, Scalar]] = [("color", "red"), ("color", "blue"), ("size", 1.0)]
SEED = 20261121


@dataclass(frozen=True)
class Specimen:
    """A data folder, and what is in its two indexes."""

    folder: Path
    docs: Readout
    other: Readout


def points(first: int, last: int) -> list[Record]:
    return [
        Record(
            f"vector-{n:03}",
            [n, n / 7],
            f"namespace-{n % 2}",
            {"color": ["red", "blue"][n % 2], "size": n % 3, "text": f"{'x' * n} fox w{n % 5}"},
        )
        for n in range(first, last)
    ]


@pytest.fixture(scope="module", params=["closed", "killed"])
def specimen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Specimen:
    """Segments, merged and not, tombstones, columns, some of them backfilled, one of texts, and a
    log, of which some is in files."""
    folder = tmp_path_factory.mktemp("specimen")
    engine = open_inline(folder, EngineOptions(memtable_rows_max=20))
    create(engine, OTHER)
    upsert(engine, *points(0, 3), address=OTHER)
    create(engine)
    apply(engine, CreateMetadataIndex(COLOR))
    for first in range(0, 100, 20):
        upsert(engine, *points(first, first + 20))
    apply(engine, CreateMetadataIndex(SIZE, backfill=True))
    apply(engine, CreateMetadataIndex(TEXT, backfill=True))
    apply(engine, Delete([f"vector-{n:03}" for n in range(0, 100, 9)]))
    engine.compact(DOCS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blob_files, "FILE_BYTES_MIN", 300)
        upsert(engine, *points(90, 105))
    apply(engine, Delete(["vector-001", "vector-095"]))
    upsert(engine, *points(3, 5))
    killed = tmp_path_factory.mktemp("killed") / "data"
    shutil.copytree(folder, killed)
    docs, other = read_all(engine, DOCS, PROBES), read_all(engine, OTHER, PROBES)
    engine.close()
    return Specimen(folder if request.param == "closed" else killed, docs, other)


def relative_files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def places(size: int, random_: random.Random, count: int) -> Iterator[int]:
    """Choose bytes of a file: some at both ends, and `count` all over."""
    yield from sorted({0, 7, 16, size // 2, size - 1, size - 8, size - 17} & set(range(size)))
    yield from sorted(random_.sample(range(size), min(count, size)))


def check(specimen: Specimen, folder: Path, file: Path, *, damage: str) -> bool:
    """Open a damaged folder and read it all; return whether the damage was found."""
    error = raised_by(lambda: open_inline(folder).close())
    if error is not None:
        assert file.name.startswith("catalog.db"), f"{damage} of {file} stopped everything"
        assert "catalog.db" in str(error), f"{damage}: {error} does not name {file}"
        return True
    found = False
    with closing(open_inline(folder)) as engine:
        for address, expected in ((DOCS, specimen.docs), (OTHER, specimen.other)):
            answers: list[Readout] = []
            error = raised_by(lambda: answers.append(read_all(engine, address, PROBES)))  # noqa: B023 called at once
            if error is None:
                assert answers == [expected], f"{damage} of {file} changed the answers"
                continue
            assert not found, f"{damage} of {file} stopped both indexes"
            found = True
            name = file.name.removesuffix("-wal")
            assert name in str(error), f"{damage}: {error} does not name {file}"
            with pytest.raises(type(error)):
                engine.append(address, Delete(["vector-001"]))
    return found


def raised_by(call: Callable[[], object]) -> Error | None:
    """Return the error of damage that a call raises; SQLite cannot use some headers at all."""
    try:
        call()
    except (Corruption, Unavailable) as error:
        return error
    return None


def test_the_specimen_holds_every_kind_of_file(specimen: Specimen) -> None:
    names = {path.name for path in relative_files(specimen.folder)}

    components = {"values", "ids", "metadata", "namespaces", "column-1", "column-2", "text-3"}
    assert names >= {"lock", "catalog.db", "index.db", "acknowledged"} | components
    assert len(list(specimen.folder.glob("indexes/*/blobs/*"))) == 1
    assert len(list(specimen.folder.glob("indexes/*/segments/*"))) >= 2


def test_an_undamaged_copy_answers_the_same(specimen: Specimen, memory_path: Path) -> None:
    shutil.copytree(specimen.folder, memory_path / "data")

    assert not check(specimen, memory_path / "data", Path("none"), damage="nothing")


@pytest.mark.parametrize("bits", [0x01, 0xFF])
def test_a_flipped_byte_is_found_or_does_not_matter(
    specimen: Specimen, memory_path: Path, bits: int
) -> None:
    check_flips(specimen, memory_path, bits, count=8)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [0x02, 0x10, 0x80])
def test_flipped_bytes_all_over_are_found_or_do_not_matter(
    specimen: Specimen, memory_path: Path, bits: int
) -> None:
    check_flips(specimen, memory_path, bits, count=100)


def check_flips(specimen: Specimen, memory_path: Path, bits: int, *, count: int) -> None:
    random_ = random.Random(SEED + bits)
    found = 0
    total = 0
    for file in relative_files(specimen.folder):
        raw = (specimen.folder / file).read_bytes()
        for offset in places(len(raw), random_, count):
            copy = memory_path / str(total)
            shutil.copytree(specimen.folder, copy)
            flipped = bytearray(raw)
            flipped[offset] ^= bits
            (copy / file).write_bytes(flipped)

            was_found = check(specimen, copy, file, damage=f"a flip of byte {offset}")
            is_component = not {"segments", "blobs"}.isdisjoint(file.parts)
            assert was_found or not is_component, f"byte {offset} of {file} was not noticed"
            found += was_found
            total += 1
            shutil.rmtree(copy)

    assert found > total / 3


def test_a_file_that_is_cut_off_is_found_or_does_not_matter(
    specimen: Specimen, memory_path: Path
) -> None:
    random_ = random.Random(SEED)
    for file in relative_files(specimen.folder):
        raw = (specimen.folder / file).read_bytes()
        for number, size in enumerate(places(len(raw), random_, 8)):
            copy = memory_path / str(number)
            shutil.copytree(specimen.folder, copy)
            (copy / file).write_bytes(raw[:size])

            was_found = check(specimen, copy, file, damage=f"a cut at byte {size}")
            is_component = not {"segments", "blobs"}.isdisjoint(file.parts)
            assert was_found or not is_component, f"a cut at {size} of {file} was not noticed"
            shutil.rmtree(copy)


def test_a_file_or_folder_that_is_missing_is_found_or_does_not_matter(
    specimen: Specimen, memory_path: Path
) -> None:
    paths = sorted(path.relative_to(specimen.folder) for path in specimen.folder.rglob("*"))
    for number, path in enumerate(paths):
        if path.name == "indexes":
            continue  # with all indexes, which the catalog then names one by one
        copy = memory_path / str(number)
        shutil.copytree(specimen.folder, copy)
        shutil.rmtree(copy / path) if (copy / path).is_dir() else (copy / path).unlink()

        check(specimen, copy, path, damage="the loss")
        shutil.rmtree(copy)


@pytest.mark.parametrize("verified_at_open", [0, files.VERIFIED_AT_OPEN_BYTES_MAX])
def test_a_component_that_is_not_verified_on_opening_is_verified_before_it_is_used(
    specimen: Specimen, memory_path: Path, monkeypatch: pytest.MonkeyPatch, verified_at_open: int
) -> None:
    monkeypatch.setattr(files, "VERIFIED_AT_OPEN_BYTES_MAX", verified_at_open)
    for number, file in enumerate(
        path
        for path in relative_files(specimen.folder)
        if path.name in ("values", "metadata", "ids", "namespaces")
        or "column" in path.name
        or "text" in path.name
    ):
        copy = memory_path / str(number)
        shutil.copytree(specimen.folder, copy)
        raw = bytearray((copy / file).read_bytes())
        raw[100] ^= 1
        (copy / file).write_bytes(raw)

        assert check(specimen, copy, file, damage="a flip of byte 100")
