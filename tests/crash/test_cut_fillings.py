"""The connection is lost at every request of the filling of a copy in turn, and of an upload."""

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.engines import (
    APPLIED_WITHIN_S,
    DOCS,
    Record,
    apply,
    batch,
    create,
    found,
    insert,
    open_shared,
    put,
    shared_schema,
    vector,
)
from tests.support.postgres import server
from tests.support.proxy import LossyProxy
from tests.support.waiting import wait_until
from vicinal.engine import blob_files
from vicinal.engine.shared import filling, follower, uploads
from vicinal.engine.shared.engine import SharedEngine
from vicinal.errors import Unavailable
from vicinal.filters.nodes import Operator, Predicate
from vicinal.limits import Limits
from vicinal.model import (
    CreateMetadataIndex,
    IndexType,
    MetadataIndex,
    Query,
    Upsert,
    VectorBatch,
)

REQUESTS_MAX = 400  # far more than one filling, or one upload, takes
EVERY = pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
SIZE = MetadataIndex("size", IndexType.NUMBER)
ALL = Query(top_k=100, vector=vector(0, 0))
INDEXED = replace(ALL, filter=(Predicate("size", Operator.GTE, (0.0,)),))


@pytest.fixture(autouse=True)
def _few_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is lost is seldom a poll."""
    for name in ("ACTIVE_POLL_S", "IDLE_POLL_S"):
        monkeypatch.setattr(follower, name, 0.2)


@pytest.fixture
def proxy() -> Iterator[LossyProxy]:
    with LossyProxy(server().port) as proxy:
        yield proxy
        proxy.keep()


def open_behind(proxy: LossyProxy, folder: Path, name: str) -> SharedEngine:
    """Open a node that reaches the database through the proxy."""
    dsn = f"postgresql://vicinal@127.0.0.1:{proxy.port}/postgres"
    return open_shared(folder, Limits(), folder / name, dsn=dsn)


def sql(folder: Path, statement: str) -> str:
    return server().sql(f"SET search_path = {shared_schema(folder)};{statement}").split("\n")[-1]


@EVERY
@pytest.mark.parametrize("is_answer", [True, False], ids=["answer", "request"])
def test_a_copy_whose_filling_is_cut_is_refused_for_now_and_whole_when_it_is_asked_for_again(
    proxy: LossyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_answer: bool, step: int
) -> None:
    monkeypatch.setattr(filling, "BATCH_ROWS", 12)
    with closing(open_shared(tmp_path, Limits(), tmp_path / "writer")) as writer:
        create(writer)
        insert(writer, *(Record(f"old{n}", [n, 1], "", {"size": n}) for n in range(40)))
        apply(writer, CreateMetadataIndex(SIZE))
        insert(writer, *(Record(f"new{n}", [n, 2], "", {"size": n}) for n in range(20)))
        expected = sorted(found(writer, ALL))
        writer.list(DOCS, 1, None)  # in the rows
    failures = 0
    for number in range(2, REQUESTS_MAX, step):
        with closing(open_behind(proxy, tmp_path, f"node{number}")) as node:
            proxy.lose(number, is_answer=is_answer)
            try:
                node.status(DOCS)
            except Unavailable as error:
                failures += error.retry_after is not None
            is_over = proxy.keep()
            assert sorted(found(node, ALL)) == expected
            assert len(found(node, INDEXED)) == 20
            assert node.counts.fills == 1
            assert len(list((tmp_path / f"node{number}" / "copies").iterdir())) == 1
        if is_over:
            break
    else:
        pytest.fail("every request of every filling was lost")
    assert failures >= 1 or step > 1  # few of the requests, some of which may be of something else


@EVERY
@pytest.mark.parametrize("is_answer", [True, False], ids=["answer", "request"])
def test_an_upload_whose_connection_is_cut_is_acknowledged_once_with_all_its_values(
    proxy: LossyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_answer: bool, step: int
) -> None:
    monkeypatch.setattr(blob_files, "CHUNK_BYTES", 2_000)
    monkeypatch.setattr(uploads, "PART_BYTES", 4_000)
    monkeypatch.setattr(uploads, "LONG_BYTES", 4_000)
    random = np.random.default_rng(3)
    with closing(open_behind(proxy, tmp_path, "node")) as node:
        create(node)
        node.status(DOCS)
        for seqno, number in enumerate(range(2, REQUESTS_MAX, step), 1):
            values = random.standard_normal((2_100, 2)).astype(np.float32)
            ids = [f"v{n}" for n in range(len(values))]
            with closing(node.open_batch(DOCS)) as writer:
                put(writer, values[:1_500])
                proxy.lose(number, is_answer=is_answer)
                put(writer, values[1_500:])
                made = writer.batch(ids, [""] * len(ids), [b""] * len(ids))
                accepted = node.append(DOCS, Upsert(made)).result(APPLIED_WITHIN_S)
            is_over = proxy.keep()
            assert accepted.seqno == seqno
            assert node.wait_applied(DOCS, accepted.seqno, APPLIED_WITHIN_S)
            stored = node.get(DOCS, ids)
            assert np.array_equal(np.array([each.values for each in stored]), values)
            if is_over:
                break
        else:
            pytest.fail("every request of every upload was lost")
        monkeypatch.setattr(uploads, "ABANDONED_S", 0.0)
        wait_until(lambda: sql(tmp_path, "SELECT count(*) FROM part WHERE seqno < 0") == "0")


def test_uploads_of_many_clients_at_once_are_all_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than there are connections for them, cut off at random by others that give up."""
    monkeypatch.setattr(blob_files, "CHUNK_BYTES", 2_000)
    monkeypatch.setattr(uploads, "PART_BYTES", 4_000)
    monkeypatch.setattr(uploads, "LONG_BYTES", 4_000)
    with closing(open_shared(tmp_path, Limits(), tmp_path / "node")) as node:
        create(node)
        seqnos: list[int] = []

        def upload(number: int) -> None:
            with closing(node.open_batch(DOCS)) as writer:
                values = np.full((2_000, 2), number, np.float32)
                put(writer, values)
                if number % 3 == 2:
                    return  # cut
                ids = [f"c{number}-{n}" for n in range(len(values))]
                made = VectorBatch(ids, values, [""] * len(ids), [b""] * len(ids))
                made = writer.batch(made.ids, made.namespaces, made.metadata)
                accepted = node.append(DOCS, Upsert(made), wait_s=60).result(APPLIED_WITHIN_S)
                seqnos.append(accepted.seqno)

        threads = [threading.Thread(target=upload, args=(number,)) for number in range(12)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(APPLIED_WITHIN_S)
        assert sorted(seqnos) == list(range(1, 9))
        last = node.append(DOCS, Upsert(batch(Record("last", [0, 0])))).result(APPLIED_WITHIN_S)
        assert node.wait_applied(DOCS, last.seqno, APPLIED_WITHIN_S)
        assert node.status(DOCS).vector_count == 8 * 2_000 + 1
        wait_until(lambda: sql(tmp_path, "SELECT count(*) FROM part WHERE seqno < 0") == "0")
        wait_until(lambda: sql(tmp_path, "SELECT count(*) FROM upload") == "0")
