"""A crash at any moment of any work loses nothing acknowledged and leaves no half of anything.

One run of the work takes an image of the disk before and after each commit, rename, sync
and removal. Each image is then opened as after the crash: it must hold the state before the
work or after it, strays must be gone, and the index must work on. The last image is taken
when the work has been acknowledged, and must hold the state after it.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.crash import Disk, Loss, Readout, applied_seqno, fingerprint, read_all, watching
from tests.support.engines import DOCS, Record, apply, create, insert, upsert
from tests.support.inline import open_inline
from tests.support.model_engine import ModelEngine
from vicinal.engine.base import Engine
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.filters.nodes import Scalar
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    DropMetadataIndex,
    IndexAddress,
    IndexType,
    MetadataIndex,
    Seqno,
)

OTHER = IndexAddress("acme", "other")
NEW = IndexAddress("acme", "new")
COLOR = MetadataIndex("color", IndexType.STRING)
SIZE = MetadataIndex("size", IndexType.NUMBER)
PROBES: list[tuple[str, Scalar]] = [("color", "red"), ("color", "blue"), ("size", 1.0)]
SEALS_BY_ITSELF = EngineOptions(tail_rows_max=4)
SEALS_WHEN_ASKED = EngineOptions(tail_rows_max=1000)


def points(first: int, last: int) -> list[Record]:
    return [
        Record(f"v{n}", [n, 1], f"n{n % 2}", {"color": ["red", "blue"][n % 2], "size": n % 3})
        for n in range(first, last)
    ]


def prepared(engine: Engine) -> None:
    """Two indexes; of `DOCS` some is sealed, some dead and some in the log alone."""
    create(engine, OTHER)
    insert(engine, Record("o", [1, 1]), address=OTHER)
    create(engine)
    apply(engine, CreateMetadataIndex(COLOR))
    upsert(engine, *points(0, 4))
    upsert(engine, *points(4, 8))
    engine.maintain(DOCS)
    upsert(engine, *points(2, 5))
    apply(engine, Delete(["v7"]))


def prepared_to_merge(engine: Engine) -> None:
    prepared(engine)
    upsert(engine, *points(10, 14))
    upsert(engine, *points(20, 24))


def prepared_with_backfill(engine: Engine) -> None:
    prepared(engine)
    apply(engine, CreateMetadataIndex(SIZE, backfill=True))


def prepared_to_overtake(engine: Engine) -> None:
    """Metadata indexes come and go after the last seal."""
    prepared_with_backfill(engine)
    apply(engine, DropMetadataIndex("color"))
    apply(engine, CreateMetadataIndex(MetadataIndex("color", IndexType.NUMBER)))
    apply(engine, DropMetadataIndex("size"))


@dataclass(frozen=True)
class Work:
    """Something during which the crash happens.

    Args:
        name: Shown in the names of tests.
        act: The work.
        prepare: What comes before it.
        options: Of the engine that does both.
    """

    name: str
    act: Callable[[Engine], object]
    prepare: Callable[[Engine], object] = prepared
    options: EngineOptions = SEALS_WHEN_ASKED


WORKS = [
    Work("create an index", lambda e: create(e, NEW)),
    Work("drop an index", lambda e: e.drop_index(DOCS)),
    Work("upsert", lambda e: upsert(e, *points(3, 30))),
    Work("insert", lambda e: insert(e, *points(6, 9))),
    Work("delete", lambda e: apply(e, Delete(["v1", "v4", "never"]))),
    Work("create a metadata index", lambda e: apply(e, CreateMetadataIndex(SIZE))),
    Work("backfill", lambda e: apply(e, CreateMetadataIndex(SIZE, backfill=True))),
    Work("drop a metadata index", lambda e: apply(e, DropMetadataIndex("color"))),
    Work("seal", lambda e: e.maintain(DOCS)),
    Work("seal what was backfilled", lambda e: e.maintain(DOCS), prepared_with_backfill),
    Work("seal what came and went", lambda e: e.maintain(DOCS), prepared_to_overtake),
    Work("merge", lambda e: upsert(e, *points(30, 34)), prepared_to_merge, SEALS_BY_ITSELF),
    Work("close", lambda e: e.close()),
]


@dataclass(frozen=True)
class State:
    """All that can be read, index by index, and how far `DOCS` has come."""

    indexes: tuple[Readout | None, ...]
    seqno: Seqno | None


def state_of(engine: Engine) -> State:
    names = {each.name for each in engine.list_indexes("acme")}
    return State(
        tuple(
            read_all(engine, each, PROBES) if each.name in names else None
            for each in (DOCS, OTHER, NEW)
        ),
        applied_seqno(engine, DOCS) if DOCS.name in names else None,
    )


def modelled(*acts: Callable[[Engine], object]) -> State:
    model = ModelEngine()
    for act in acts:
        act(model)
    return state_of(model)


def strays(folder: Path, engine: Engine) -> list[str]:
    """Return what belongs to nothing, of an engine that has opened all its indexes."""
    found = [str(path) for path in folder.glob("**/*.tmp")]
    if len(list((folder / "indexes").iterdir())) != len(engine.list_indexes("acme")):
        found.append("a folder of an index that does not exist")
    return found


def works_on(engine: Engine) -> bool:
    """Tell whether an engine still writes, seals and finds, if it has the index."""
    if all(each.name != DOCS.name for each in engine.list_indexes("acme")):
        return True
    upsert(engine, Record("later", [9, 9]))
    engine.maintain(DOCS)
    return [each.id for each in engine.get(DOCS, ["later"])] == ["later"]


class Photographer:
    """Keeps an image of the disk at each step, but not two that are the same."""

    def __init__(self, folder: Path, loss: Loss) -> None:
        self._folder, self._loss = folder, loss
        self.images: dict[str, tuple[str, Path]] = {}
        self.last = folder

    def __call__(self, disk: Disk, name: str) -> None:
        number = str(len(disk.steps))
        self.last = disk.image(self._folder / number, self._loss)
        self.images.setdefault(fingerprint(self.last), (f"{number}, {name}", self.last))


@pytest.mark.parametrize("loss", Loss, ids=lambda each: each.name)
@pytest.mark.parametrize("work", WORKS, ids=lambda each: each.name)
def test_a_crash_during_work_leaves_the_state_before_it_or_after_it(
    memory_path: Path, work: Work, loss: Loss
) -> None:
    before = modelled(work.prepare)
    after = modelled(work.prepare, work.act)
    engine = open_inline(memory_path / "data", work.options)
    work.prepare(engine)

    photographer = Photographer(memory_path, loss)
    with watching(memory_path / "data", photographer) as disk:
        work.act(engine)
        disk.step("acknowledged")
    engine.close()

    with closing(open_inline(photographer.last, SEALS_WHEN_ASKED)) as engine:
        assert state_of(engine) == after
    for step, image in photographer.images.values():
        check_image(step, image, [before, after])


@pytest.mark.parametrize("loss", Loss, ids=lambda each: each.name)
def test_a_crash_while_opening_after_a_crash_changes_nothing(memory_path: Path, loss: Loss) -> None:
    # The first crash leaves strays and untrimmed mutations, which the opening removes.
    engine = open_inline(memory_path / "data", SEALS_BY_ITSELF)
    prepared_to_merge(engine)
    first = Photographer(memory_path / "first", Loss.NOTHING)
    with watching(memory_path / "data", first):
        upsert(engine, *points(30, 34))
    engine.close()

    for number, (_, crashed) in enumerate(list(first.images.values())[3::7]):
        second = Photographer(memory_path / f"second-{number}", loss)
        with watching(crashed, second):
            opened = open_inline(crashed, SEALS_BY_ITSELF)
            found = state_of(opened)
        opened.close()
        for step, image in second.images.values():
            check_image(step, image, [found])


def check_image(step: str, image: Path, allowed: list[State]) -> None:
    with closing(open_inline(image, SEALS_WHEN_ASKED)) as engine:
        assert state_of(engine) in allowed, f"crash at step {step}"
        assert strays(image, engine) == [], f"crash at step {step}"
        assert works_on(engine), f"crash at step {step}"


@pytest.mark.parametrize("loss", Loss, ids=lambda each: each.name)
def test_a_crash_while_a_data_folder_is_made_leaves_one_that_can_be_used(
    memory_path: Path, loss: Loss
) -> None:
    (memory_path / "disk").mkdir()
    photographer = Photographer(memory_path, loss)
    with watching(memory_path / "disk", photographer):
        engine = EmbeddedEngine.open(memory_path / "disk" / "data")
        create(engine)
    engine.close()

    for step, image in photographer.images.values():
        with closing(open_inline(image / "data")) as engine:
            names = [each.name for each in engine.list_indexes("acme")]
            assert names in ([], ["docs"]), f"crash at step {step}"
            if not names:
                create(engine)
            assert works_on(engine)
    assert (photographer.last / "data" / "indexes").is_dir()
