"""The connection is lost at every request of the filling of a copy in turn, and of an upload."""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
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
from tests.support.proxy import LossyProxy, ShortProxy
from tests.support.waiting import wait_until
from vicinal.engine import blob_files, copying
from vicinal.engine.shared import filling, follower, uploads
from vicinal.engine.shared.engine import SharedEngine
from vicinal.errors import MetadataIndexNotFound, Unavailable
from vicinal.filters.nodes import Operator, Predicate
from vicinal.limits import Limits
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    IndexType,
    Insert,
    MetadataIndex,
    Mutation,
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


def open_behind(proxy: LossyProxy | ShortProxy, folder: Path, name: str) -> SharedEngine:
    """Open a node that reaches the database through the proxy."""
    dsn = f"postgresql://vicinal@127.0.0.1:{proxy.port}/postgres"
    return open_shared(folder, Limits(), folder / name, dsn=dsn)


class Changes:
    """Writes something else at each cut, as long as there is something left, and folds it."""

    def __init__(self, writer: SharedEngine, seed: int, count: int) -> None:
        self._writer = writer
        self._random = random.Random(seed)
        self.left = count

    def make(self) -> None:
        if not self.left:
            return
        self.left -= 1
        some = [f"old{n}" for n in self._random.sample(range(1_000), 30)]
        new = [f"new{self.left}-{n}" for n in range(20)]
        changes: list[Mutation] = [
            Delete(some),
            Upsert(batch(*(Record(id_, [1, 1], "", {"size": 1}) for id_ in some))),
            Insert(batch(*(Record(id_, [2, 3], "", {"size": 2}) for id_ in [*new, *some]))),
            DeleteMetadataIndex("size"),
            CreateMetadataIndex(SIZE, self._random.random() < 0.3),
        ]
        # Not waited for where it is seen: a node whose connections are being cut sees nothing.
        with suppress(MetadataIndexNotFound):
            self._writer.append(DOCS, self._random.choice(changes)).result(APPLIED_WITHIN_S)
        self._writer.list(DOCS, 1, None)  # in the rows


def differences(one: SharedEngine, other: SharedEngine) -> Sequence[object]:
    """Return what queries of an index can tell of one node and not of the other."""
    told = [contents_of(one), contents_of(other)]
    return list(told[0] ^ told[1])[:5]  # more of them take the test's report minutes


def contents_of(engine: SharedEngine) -> set[object]:
    ids = [f"old{n}" for n in range(1_000)] + [f"new{m}-{n}" for m in range(20) for n in range(20)]
    indexes = tuple(engine.list_metadata_indexes(DOCS))
    return {
        *((each.id, *each.values.tolist(), each.metadata) for each in engine.get(DOCS, ids)),
        *(("indexed", id_) for id_ in (found(engine, INDEXED) if indexes else ())),
        ("metadata indexes", indexes),
        ("count", engine.status(DOCS).vector_count),
    }


def fill_large(writer: SharedEngine) -> None:
    create(writer)
    insert(writer, *(Record(f"old{n}", [n, 1], "", {"size": n}) for n in range(100)))
    apply(writer, CreateMetadataIndex(SIZE))
    insert(writer, *(Record(f"old{n}", [n, 1], "", {"size": n}) for n in reversed(range(100, 900))))
    insert(writer, *(Record(f"old{n}", [n, 1], "", {"size": n}) for n in range(900, 1_000)))
    writer.list(DOCS, 1, None)


@pytest.mark.parametrize("batch_rows", [40, 5_000])
def test_a_copy_is_filled_over_connections_of_which_none_holds_long_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    """Also where a connection does not hold for one batch, or for one mutation."""
    monkeypatch.setattr(filling, "BATCH_ROWS", batch_rows)
    with (
        ShortProxy(server().port) as proxy,
        closing(open_shared(tmp_path, Limits(), tmp_path / "writer")) as writer,
        closing(open_behind(proxy, tmp_path, "node")) as node,
    ):
        fill_large(writer)
        node.get_index(DOCS)
        proxy.bytes_max = 12_000  # of some 100,000

        assert not differences(node, writer)
        assert node.counts.fills == 1
        assert proxy.cut_count >= 5


@pytest.mark.parametrize(
    "seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 20))]
)
def test_a_copy_that_was_cut_again_and_again_while_others_wrote_has_what_they_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(filling, "BATCH_ROWS", 40)
    monkeypatch.setattr(copying, "FILL_ROWS_MAX", 200)  # some of it is in segments by then
    with closing(open_shared(tmp_path, Limits(), tmp_path / "writer")) as writer:
        fill_large(writer)
        changes = Changes(writer, seed, 12)
        with (
            ShortProxy(server().port, changes.make) as proxy,
            closing(open_behind(proxy, tmp_path, "node")) as node,
        ):
            node.get_index(DOCS)
            proxy.bytes_max = 12_000
            node.status(DOCS)
            proxy.bytes_max, changes.left = None, 0
            last = apply(writer, Delete(["none"]))
            assert node.wait_applied(DOCS, last.seqno, APPLIED_WITHIN_S)
            assert not differences(node, writer)
            assert node.counts.fills == 1


@pytest.mark.parametrize(
    "meanwhile",
    [
        "DELETE FROM gone",  # for their age, as the database's clock has it
        "DELETE FROM mutation WHERE seqno < (SELECT max(seqno) FROM mutation)",
        "UPDATE mutation SET mutation_id = gen_random_uuid()",  # another server's, after a failover
        "UPDATE folded SET seqno = 1",  # what a crash takes back is done again
    ],
)
def test_a_copy_that_cannot_go_on_from_what_it_has_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    monkeypatch.setattr(filling, "BATCH_ROWS", 40)
    with closing(open_shared(tmp_path, Limits(), tmp_path / "writer")) as writer:
        fill_large(writer)

        def change() -> None:
            if short.bytes_max is not None:
                short.bytes_max = None
                gone = [f"old{n}" for n in range(0, 1_000, 3)]
                writer.append(DOCS, Delete(gone)).result(APPLIED_WITHIN_S)
                writer.list(DOCS, 1, None)
                sql(tmp_path, meanwhile)

        with (
            ShortProxy(server().port, change) as short,
            closing(open_behind(short, tmp_path, "node")) as node,
        ):
            node.get_index(DOCS)
            short.bytes_max = 40_000
            with pytest.raises(Unavailable) as refused:
                node.status(DOCS)
            assert refused.value.retry_after is not None
            if "folded" in meanwhile or "UPDATE mutation" in meanwhile:
                return  # what the test made up, no database has
            assert not differences(node, writer)


def test_a_copy_whose_database_is_away_for_long_is_given_up_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "BATCH_ROWS", 40)
    monkeypatch.setattr(filling, "GIVE_UP_AFTER_S", 0.0)
    with (
        ShortProxy(server().port) as proxy,
        closing(open_shared(tmp_path, Limits(), tmp_path / "writer")) as writer,
        closing(open_behind(proxy, tmp_path, "node")) as node,
    ):
        fill_large(writer)
        node.get_index(DOCS)
        proxy.bytes_max = 12_000
        with pytest.raises(Unavailable) as refused:
            node.status(DOCS)
        assert refused.value.retry_after is not None
        assert not list((tmp_path / "node" / "copies").iterdir())


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
    generator = np.random.default_rng(3)
    with closing(open_behind(proxy, tmp_path, "node")) as node:
        create(node)
        node.status(DOCS)
        for seqno, number in enumerate(range(2, REQUESTS_MAX, step), 1):
            values = generator.standard_normal((2_100, 2)).astype(np.float32)
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
