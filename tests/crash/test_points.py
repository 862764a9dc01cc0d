"""A crash at any moment of any work loses nothing acknowledged and leaves no half of anything.

One run of the work takes an image of the disk before and after each commit, rename, sync
and removal. Each image is then opened as after the crash: it must hold the state before the
work or after it, strays must be gone, and the index must work on. The last image is taken
when the work has been acknowledged, and must hold the state after it.
"""

from contextlib import closing
from pathlib import Path

import pytest

from tests.support.crash import Disk, Loss, fingerprint, watching
from tests.support.engines import create, upsert
from tests.support.inline import open_inline
from tests.support.works import (
    SEALS_BY_ITSELF,
    SEALS_WHEN_ASKED,
    WORKS,
    State,
    Work,
    modelled,
    points,
    prepared_to_merge,
    state_of,
    works_on,
)
from vicinal.engine import spooling
from vicinal.engine.base import Engine
from vicinal.engine.embedded import EmbeddedEngine


def strays(folder: Path, engine: Engine) -> list[str]:
    """Return what belongs to nothing, of an engine that has opened all its indexes."""
    found = [str(path) for ending in ("tmp", "part") for path in folder.glob(f"**/*.{ending}")]
    if len(list((folder / "indexes").iterdir())) != len(engine.list_indexes("acme")):
        found.append("a folder of an index that does not exist")
    return found


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
@pytest.mark.parametrize("file_bytes_min", [spooling.FILE_BYTES_MIN, 300])
@pytest.mark.parametrize("work", WORKS, ids=lambda each: each.name)
def test_a_crash_during_work_leaves_the_state_before_it_or_after_it(
    memory_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: Work,
    loss: Loss,
    file_bytes_min: int,
) -> None:
    monkeypatch.setattr(spooling, "FILE_BYTES_MIN", file_bytes_min)
    monkeypatch.setattr(spooling, "CHUNK_BYTES", file_bytes_min)
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
