"""A mutation is resolved at its place in the log, and holds up nobody who only queues behind it."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import APPLIED_WITHIN_S, DOCS, Record, batch, create, insert
from vicinal.engine import resolution
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.engine.resolution import ResolvedMutation
from vicinal.errors import LimitExceeded, MetadataTooLarge, Overloaded, Unavailable
from vicinal.limits import Limits
from vicinal.model import DeleteScope, PatchMetadata, Scope, Upsert

ALL = DeleteScope(Scope())


class Held:
    """Makes every resolution wait until it is let on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.began, self.may_go_on = threading.Event(), threading.Event()
        self._resolve = resolution.resolve
        patch.setattr(resolution, "resolve", self.resolve)

    def resolve(self, *arguments: Any, **named: Any) -> ResolvedMutation:
        self.began.set()
        assert self.may_go_on.wait(APPLIED_WITHIN_S)
        return self._resolve(*arguments, **named)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held(monkeypatch)
    yield held
    held.may_go_on.set()


@pytest.fixture
def engine(memory_path: Path) -> Iterator[EmbeddedEngine]:
    engine = EmbeddedEngine.open(memory_path, EngineOptions(limits=Limits()))
    create(engine)
    insert(engine, Record("a", [1, 2]), Record("b", [1, 3]))
    yield engine
    engine.close()


def in_background(engine: EmbeddedEngine, held: Held) -> tuple[threading.Thread, list[object]]:
    results: list[object] = []

    def delete() -> None:
        try:
            results.append(engine.append(DOCS, ALL).result(APPLIED_WITHIN_S))
        except Unavailable as error:
            results.append(error)

    thread = threading.Thread(target=delete)
    thread.start()
    assert held.began.wait(APPLIED_WITHIN_S)
    return thread, results


def test_writes_are_taken_while_a_mutation_is_resolved_and_come_after_it(
    engine: EmbeddedEngine, held: Held
) -> None:
    thread, results = in_background(engine, held)

    later = engine.append(DOCS, Upsert(batch(Record("c", [1, 1]))))  # which does not block

    assert not later.done()
    held.may_go_on.set()
    thread.join(APPLIED_WITHIN_S)
    accepted = later.result(APPLIED_WITHIN_S)
    assert engine.wait_applied(DOCS, accepted.seqno, APPLIED_WITHIN_S)
    assert [getattr(each, "seqno", None) for each in results] == [accepted.seqno - 1]
    assert engine.list(DOCS, 10, None).ids == ["c"]


def test_a_limit_that_needs_the_state_waits_for_what_is_being_resolved(
    memory_path: Path, held: Held
) -> None:
    engine = EmbeddedEngine.open(memory_path, EngineOptions(limits=Limits(vectors_per_index_max=2)))
    create(engine)
    insert(engine, Record("a", [1, 2]), Record("b", [1, 3]))
    thread, _ = in_background(engine, held)
    answers: list[object] = []
    batch_ = batch(Record("c", [0, 0]), Record("d", [0, 1]))
    fits = threading.Thread(target=lambda: answers.append(engine.append(DOCS, Upsert(batch_))))

    fits.start()
    held.may_go_on.set()
    fits.join(APPLIED_WITHIN_S)
    thread.join(APPLIED_WITHIN_S)

    assert len(answers) == 1  # two vectors, after the deletion of two
    engine.close()
    with pytest.raises(Unavailable):
        engine.append(DOCS, ALL)


def test_closing_waits_for_what_is_being_resolved_and_it_is_refused_or_kept(
    engine: EmbeddedEngine, held: Held, memory_path: Path
) -> None:
    thread, results = in_background(engine, held)
    closing = threading.Thread(target=engine.close)
    closing.start()
    held.may_go_on.set()
    closing.join(APPLIED_WITHIN_S)
    thread.join(APPLIED_WITHIN_S)

    assert not closing.is_alive()
    opened = EmbeddedEngine.open(memory_path)
    is_kept = not isinstance(results[0], Unavailable)
    assert opened.status(DOCS).vector_count == (0 if is_kept else 2)
    opened.close()


def test_a_refused_resolution_leaves_the_way_free(
    engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> ResolvedMutation:
        raise Overloaded("no room", retry_after=1.0)

    with monkeypatch.context() as patched:
        patched.setattr(resolution, "resolve", refuse)
        with pytest.raises(Overloaded):
            engine.append(DOCS, ALL)

    assert engine.append(DOCS, ALL).result(APPLIED_WITHIN_S).vector_count == 2


def test_a_patch_of_more_values_than_a_record_takes_is_refused(
    engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vicinal.engine.writer.RECORD_BYTES_MAX", 15)
    with pytest.raises(LimitExceeded, match="2 vectors of 2 dimensions match, 15 bytes"):
        engine.append(DOCS, PatchMetadata(Scope(), b"{}"))
    monkeypatch.setattr("vicinal.engine.writer.RECORD_BYTES_MAX", 10_000)

    assert engine.append(DOCS, PatchMetadata(Scope(), b"{}")).result().vector_count == 2


def test_a_long_patch_goes_through_a_file_of_its_own(memory_path: Path) -> None:
    engine = EmbeddedEngine.open(memory_path)
    create(engine, dimensions=1_024)
    records = [Record(f"v{n}", [n] * 1_024, "", {"n": n}) for n in range(600)]
    insert(engine, *records)
    engine.compact(DOCS)

    accepted = engine.append(DOCS, PatchMetadata(Scope(), b'{"p":1}')).result(APPLIED_WITHIN_S)
    assert engine.wait_applied(DOCS, accepted.seqno, APPLIED_WITHIN_S)
    assert len(list(memory_path.glob("indexes/*/blobs/*"))) == 1
    engine.close()

    engine = EmbeddedEngine.open(memory_path)
    stored = engine.get(DOCS, ["v0", "v599"])
    assert [each.values[0] for each in stored] == [0.0, 599.0]
    assert [each.metadata for each in stored] == [b'{"n":0,"p":1}', b'{"n":599,"p":1}']
    assert not list(memory_path.glob("indexes/*/blobs/*.part"))
    engine.close()


def patched(engine: EmbeddedEngine, target: Scope | list[str], patch: bytes) -> int | None:
    accepted = engine.append(DOCS, PatchMetadata(target, patch)).result(APPLIED_WITHIN_S)
    assert engine.wait_applied(DOCS, accepted.seqno, APPLIED_WITHIN_S)
    return accepted.vector_count


def stored(engine: EmbeddedEngine) -> dict[str, bytes]:
    return {each.id: each.metadata for each in engine.get(DOCS, ["a", "b"])}


def test_patched_metadata_may_be_as_long_as_the_limit_and_no_longer(memory_path: Path) -> None:
    with closing(
        EmbeddedEngine.open(memory_path, EngineOptions(limits=Limits(metadata_bytes_max=20)))
    ) as engine:
        create(engine)
        insert(engine, Record("a", [1, 2], "", {"k": 1}), Record("b", [1, 3]))
        as_long = b'{"k":1,"p":"12345"}'
        assert len(as_long) == 19

        with pytest.raises(MetadataTooLarge, match=r'id="a".* 20 bytes, got 21 bytes'):
            patched(engine, ["a"], b'{"p":"1234567"}')
        assert stored(engine)["a"] == b'{"k":1}'
        assert patched(engine, ["a"], b'{"p":"123456"}') == 1

        assert stored(engine)["a"] == b'{"k":1,"p":"123456"}'
        assert len(stored(engine)["a"]) == 20


def test_a_patch_makes_no_metadata_where_there_was_none(engine: EmbeddedEngine) -> None:
    assert patched(engine, Scope(), b'{"gone":null}') == 2
    assert stored(engine) == {"a": b"", "b": b""}

    patched(engine, ["a"], b'{"k":1}')
    patched(engine, Scope(), b'{"k":null}')

    assert stored(engine) == {"a": b"{}", "b": b""}


@pytest.mark.parametrize("is_sealed", [True, False])
def test_a_vector_whose_id_is_named_twice_is_patched_once(
    engine: EmbeddedEngine, is_sealed: bool
) -> None:
    if is_sealed:
        engine.compact(DOCS)

    assert patched(engine, ["a", "none", "b", "a", "none"], b'{"k":1}') == 2

    assert engine.status(DOCS).vector_count == 2
    assert list(engine.list(DOCS, 10, None).ids) == ["a", "b"]
    assert stored(engine) == {"a": b'{"k":1}', "b": b'{"k":1}'}
