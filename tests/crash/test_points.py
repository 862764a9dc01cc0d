"""A crash at any moment of any work loses nothing acknowledged and leaves no half of anything.

One run of the work takes an image of the disk before and after each commit, rename, sync
and removal, for each loss that a crash may bring. Each image is then opened as after the crash: it
must hold the state before the work or after it, strays must be gone, and the index must work on.
The last images are taken when the work has been acknowledged, and must hold the state after it.
"""

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.crash import Disk, Loss, fingerprint, watching, write_image
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
from vicinal.engine import blob_files
from vicinal.engine.base import Engine
from vicinal.engine.embedded import EmbeddedEngine


def strays(folder: Path, engine: Engine) -> list[str]:
    """Return what belongs to nothing, of an engine that has opened all its indexes."""
    found = [str(path) for ending in ("tmp", "part") for path in folder.glob(f"**/*.{ending}")]
    if len(list((folder / "indexes").iterdir())) != len(engine.list_indexes("acme")):
        found.append("a folder of an index that does not exist")
    return found


class Photographer:
    """Keeps an image of the disk at each step for each loss, but not two that are the same."""

    def __init__(self, folder: Path, losses: Iterable[Loss] = Loss) -> None:
        self._folder, self._losses = folder, losses
        self.images: dict[str, tuple[str, Path]] = {}
        self.last: set[str] = set()

    def __call__(self, disk: Disk, name: str) -> None:
        images = disk.images()
        self.last = set()
        for loss in self._losses:
            image, step = images[loss], len(disk.steps)
            digest = fingerprint(image)
            if digest not in self.images:
                path = write_image(image, self._folder / f"{step}-{loss.name}")
                self.images[digest] = (f"{step}, {name}, that loses {loss.value}", path)
            self.last.add(digest)


@pytest.mark.parametrize("file_bytes_min", [blob_files.FILE_BYTES_MIN, 300])
@pytest.mark.parametrize("work", WORKS, ids=lambda each: each.name)
def test_a_crash_during_work_leaves_the_state_before_it_or_after_it(
    memory_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: Work,
    file_bytes_min: int,
) -> None:
    monkeypatch.setattr(blob_files, "FILE_BYTES_MIN", file_bytes_min)
    monkeypatch.setattr(blob_files, "CHUNK_BYTES", file_bytes_min)
    before = modelled(work.prepare)
    after = modelled(work.prepare, work.act)
    engine = open_inline(memory_path / "data", work.options)
    work.prepare(engine)

    photographer = Photographer(memory_path)
    with watching(memory_path / "data", photographer) as disk:
        work.act(engine)
        disk.step("acknowledged")
    engine.close()

    for digest, (step, image) in photographer.images.items():
        check_image(step, image, [after] if digest in photographer.last else [before, after])


def test_a_crash_while_opening_after_a_crash_changes_nothing(memory_path: Path) -> None:
    # The first crash leaves strays and untrimmed mutations, which the opening removes.
    engine = open_inline(memory_path / "data", SEALS_BY_ITSELF)
    prepared_to_merge(engine)
    first = Photographer(memory_path / "first", [Loss.NOTHING])
    with watching(memory_path / "data", first):
        upsert(engine, *points(30, 34))
    engine.close()

    for number, (_, crashed) in enumerate(list(first.images.values())[3::7]):
        second = Photographer(memory_path / f"second-{number}")
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


def test_a_crash_while_a_data_folder_is_made_leaves_one_that_can_be_used(
    memory_path: Path,
) -> None:
    (memory_path / "disk").mkdir()
    photographer = Photographer(memory_path)
    with watching(memory_path / "disk", photographer):
        engine = EmbeddedEngine.open(memory_path / "disk" / "data")
        create(engine)
    engine.close()

    for digest, (step, image) in photographer.images.items():
        if digest in photographer.last:
            assert (image / "data" / "indexes").is_dir(), f"crash at step {step}"
        with closing(open_inline(image / "data")) as engine:
            names = [each.name for each in engine.list_indexes("acme")]
            assert names in ([], ["docs"]), f"crash at step {step}"
            if not names:
                create(engine)
            assert works_on(engine)
