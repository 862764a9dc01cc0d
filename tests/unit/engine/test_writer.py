"""Bytes of mutations count as queued until they are applied or refused, whatever happens."""

import errno
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import APPLIED_WITHIN_S, DOCS, Record, batch, create, insert
from tests.support.waiting import wait_until
from vicinal.engine import resolution
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.engine.log import Log
from vicinal.engine.state import State
from vicinal.engine.writer import Writer
from vicinal.errors import Error, LimitExceeded, Overloaded, ResourceExhausted, Unavailable
from vicinal.limits import Limits
from vicinal.model import Accepted, DeleteScope, PatchMetadata, Scope, UnresolvedMutation, Upsert

LIMITS = Limits(vectors_per_index_max=3, metadata_bytes_max=20)
UPSERT = Upsert(batch(Record("c", [1, 1])))
LONG = b'{"k":"%b"}' % (b"x" * 20)


@pytest.fixture
def engine(memory_path: Path) -> Iterator[EmbeddedEngine]:
    with closing(EmbeddedEngine.open(memory_path, EngineOptions(limits=LIMITS))) as engine:
        create(engine)
        insert(engine, Record("a", [1, 2]), Record("b", [1, 3]))
        yield engine


def queued_bytes(engine: EmbeddedEngine) -> int:
    work = engine.usage().work
    assert work is not None
    return work.queued_bytes


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


class GivenUp:
    """A batch in a file, whose sender is gone."""

    def keep(self) -> bool:
        return False

    def close(self) -> None:
        pass


FULL = ResourceExhausted("the disk is full")
LOST = OSError(errno.EIO, "no such disk")
FAULTS: dict[str, tuple[Any, str, Any, Upsert | UnresolvedMutation]] = {
    "the disk is full": (Log, "append", raising(FULL), UPSERT),
    "the disk is lost": (Log, "append", raising(LOST), UPSERT),
    "the state is broken": (State, "apply", raising(ValueError("broken")), UPSERT),
    "the sender is gone": (Writer, "_finished_blob", lambda *_: GivenUp(), UPSERT),
    "a resolved one, the disk is full": (Log, "append", raising(FULL), DeleteScope(Scope())),
    "it is not resolved": (resolution, "resolve", raising(LOST), DeleteScope(Scope())),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_counts_as_queued_after_a_write_that_failed(
    engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    owner, name, failing, mutation = FAULTS[fault]
    original = getattr(owner, name)
    seen: list[int] = []

    def spied(*arguments: Any, **named: Any) -> Any:
        seen.append(queued_bytes(engine))
        return failing(*arguments, **named)

    monkeypatch.setattr(owner, name, spied)
    with suppress(Error, OSError):
        engine.append(DOCS, mutation).result(APPLIED_WITHIN_S)
    wait_until(lambda: bool(seen))  # it failed there, perhaps after it was acknowledged
    monkeypatch.setattr(owner, name, original)

    wait_until(lambda: queued_bytes(engine) == 0)
    if fault in ("the disk is full", "the disk is lost", "the state is broken"):
        assert max(seen) > 0


@pytest.mark.parametrize(
    ("mutation", "error"),
    [
        (Upsert(batch(Record("c", [1, 1]), Record("d", [1, 1]))), LimitExceeded),
        (Upsert(batch(Record("c", [1, 1, 1]))), Error),
        (PatchMetadata(Scope(), LONG), Error),
    ],
)
def test_nothing_counts_as_queued_after_a_write_that_is_refused(
    engine: EmbeddedEngine, mutation: Upsert | PatchMetadata, error: type[Error]
) -> None:
    with pytest.raises(error):
        engine.append(DOCS, mutation).result(APPLIED_WITHIN_S)

    assert queued_bytes(engine) == 0


def test_nothing_counts_as_queued_where_there_is_no_room(memory_path: Path) -> None:
    options = EngineOptions(queue_bytes_max=1, visibility_delay_s=3_600.0)
    engine = EmbeddedEngine.open(memory_path, options)
    create(engine)
    waiting: Future[Accepted] = engine.append(DOCS, UPSERT)  # alone it passes
    waiting.result(APPLIED_WITHIN_S)
    used = queued_bytes(engine)

    with pytest.raises(Overloaded):
        engine.append(DOCS, UPSERT)

    assert queued_bytes(engine) == used > 0
    engine.close()
    assert queued_bytes(engine) == 0
    with pytest.raises(Unavailable):
        engine.append(DOCS, UPSERT)
    assert queued_bytes(engine) == 0
