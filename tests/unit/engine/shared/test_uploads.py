"""Long batches that are in the database before their end has come."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.support.engines import (
    APPLIED_WITHIN_S,
    DOCS,
    Record,
    batch,
    create,
    insert,
    open_shared,
    put,
    received,
    shared_schema,
    written,
)
from tests.support.postgres import server
from tests.support.waiting import wait_until
from vicinal.engine import blob_files
from vicinal.engine.shared import follower, log_records, uploads
from vicinal.engine.shared.engine import SharedEngine
from vicinal.errors import IndexNotFound, LimitExceeded
from vicinal.limits import Limits
from vicinal.model import Floats, IndexAddress, Insert, Upsert, VectorBatch

OpenNode = Callable[..., SharedEngine]
DIMENSIONS = 32
NOTHING = "0\t0"


@pytest.fixture(autouse=True)
def _short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_files, "CHUNK_BYTES", 4 << 10)
    monkeypatch.setattr(uploads, "PART_BYTES", 10_000)
    monkeypatch.setattr(uploads, "LONG_BYTES", 8_000)
    monkeypatch.setattr(log_records, "PART_BYTES", 3_000)


@pytest.fixture
def open_node(tmp_path: Path) -> Iterator[OpenNode]:
    """Open one more node of the test's database."""
    opened: list[SharedEngine] = []

    def open_(limits: Limits | None = None) -> SharedEngine:
        opened.append(open_shared(tmp_path, limits or Limits(), tmp_path / f"node{len(opened)}"))
        return opened[-1]

    yield open_
    for engine in opened:
        engine.close()


def sql(folder: Path, statements: str) -> str:
    return server().sql(f"SET search_path = {shared_schema(folder)};{statements}").split("\n")[-1]


def under_way(folder: Path) -> str:
    """How many parts are no mutation's, and how many uploads."""
    parts, count = "SELECT count(*) FROM part WHERE seqno < 0", "SELECT count(*) FROM upload"
    return sql(folder, f"SELECT ({parts}), ({count})")


def has_part(folder: Path) -> bool:
    return under_way(folder).split("\t")[0] != "0"


def values(count: int, dimensions: int = DIMENSIONS) -> Floats:
    return np.random.default_rng(5).standard_normal((count, dimensions)).astype(np.float32)


def vectors(count: int) -> VectorBatch:
    ids = [f"v{number}" for number in range(count)]
    return VectorBatch(ids, values(count), [""] * count, [b""] * count)


def check(node: SharedEngine, expected: VectorBatch) -> None:
    found = node.get(DOCS, list(expected.ids))
    assert [each.id for each in found] == list(expected.ids)
    assert np.array_equal(np.array([each.values for each in found]), expected.values)


def test_values_are_in_the_database_before_a_body_ends_and_nothing_is_logged_until_then(
    open_node: OpenNode, tmp_path: Path
) -> None:
    node, other = open_node(), open_node()
    create(node, dimensions=DIMENSIONS)
    expected = vectors(2_000)
    with closing(node.open_batch(DOCS)) as writer:
        put(writer, expected.values[:1_500])
        wait_until(lambda: has_part(tmp_path))
        assert sql(tmp_path, "SELECT logged_seqno FROM head") == "0"
        assert other.status(DOCS).vector_count == 0
        put(writer, expected.values[1_500:])
        made = writer.batch(expected.ids, expected.namespaces, expected.metadata)
        logged = node.append(DOCS, Upsert(made))

    accepted = logged.result(APPLIED_WITHIN_S)

    assert accepted.seqno == 1
    assert under_way(tmp_path) == NOTHING
    assert node.wait_applied(DOCS, accepted.seqno, APPLIED_WITHIN_S)
    for each in (node, other, open_node()):
        check(each, expected)
    # Also what was read of the log, for the rows.
    wait_until(lambda: not any((tmp_path / "node0" / "blobs").iterdir()))


def test_what_is_logged_is_what_any_version_reads_part_by_part(
    open_node: OpenNode, tmp_path: Path
) -> None:
    node = open_node()
    create(node, dimensions=DIMENSIONS)
    accepted = received(node, Upsert, vectors(1_000)).result(APPLIED_WITHIN_S)

    rows = sql(tmp_path, "SELECT string_agg(number::text, ' ' ORDER BY number) FROM part")
    numbers = [int(number) for number in rows.split()]
    assert numbers == list(range(len(numbers)))
    size = sql(tmp_path, "SELECT size, (SELECT sum(length(bytes)) FROM part) FROM mutation")
    assert len(set(size.split("\t"))) == 1
    assert node.wait_applied(DOCS, accepted.seqno, APPLIED_WITHIN_S)


def test_an_upload_that_is_cut_leaves_nothing_behind(open_node: OpenNode, tmp_path: Path) -> None:
    node = open_node()
    create(node, dimensions=DIMENSIONS)
    with closing(node.open_batch(DOCS)) as writer:
        put(writer, values(2_000))
        wait_until(lambda: has_part(tmp_path))

    wait_until(lambda: under_way(tmp_path) == NOTHING)
    assert sql(tmp_path, "SELECT count(*) FROM part") == "0"
    wait_until(lambda: not any((tmp_path / "node0" / "blobs").iterdir()))


def test_an_upload_that_is_refused_leaves_nothing_behind(
    open_node: OpenNode, tmp_path: Path
) -> None:
    node = open_node(Limits(vectors_per_index_max=1_000))
    create(node, dimensions=DIMENSIONS)

    with pytest.raises(LimitExceeded):
        received(node, Insert, vectors(1_001)).result(APPLIED_WITHIN_S)

    wait_until(lambda: sql(tmp_path, "SELECT count(*) FROM part") == "0")
    assert under_way(tmp_path) == NOTHING
    assert received(node, Insert, vectors(1_000)).result(APPLIED_WITHIN_S).seqno == 1


def test_an_upload_to_an_index_that_is_dropped_meanwhile_leaves_nothing_behind(
    open_node: OpenNode, tmp_path: Path
) -> None:
    node, other = open_node(), open_node()
    create(node, dimensions=DIMENSIONS)
    expected = vectors(2_000)
    with closing(node.open_batch(DOCS)) as writer:
        put(writer, expected.values[:1_000])
        wait_until(lambda: has_part(tmp_path))
        other.delete_index(DOCS)
        put(writer, expected.values[1_000:])
        made = writer.batch(expected.ids, expected.namespaces, expected.metadata)
        with pytest.raises(IndexNotFound):
            node.append(DOCS, Upsert(made)).result(APPLIED_WITHIN_S)

    wait_until(lambda: sql(tmp_path, "SELECT count(*) FROM part") == "0")
    wait_until(lambda: under_way(tmp_path) == NOTHING)


LOSSES = {
    "parts": "DELETE FROM part WHERE number = 1",  # as a failover to an asynchronous standby does
    "all": "DELETE FROM part; DELETE FROM upload",
    "taken for abandoned": "DELETE FROM upload",
}


@pytest.mark.parametrize("lost", LOSSES)
def test_what_is_lost_of_an_upload_is_shipped_again(
    open_node: OpenNode, tmp_path: Path, lost: str
) -> None:
    node = open_node()
    create(node, dimensions=DIMENSIONS)
    expected = vectors(2_000)
    with closing(node.open_batch(DOCS)) as writer:
        put(writer, expected.values[:1_500])
        wait_until(lambda: int(under_way(tmp_path).split("\t")[0]) > 1)
        sql(tmp_path, LOSSES[lost])
        put(writer, expected.values[1_500:])
        made = writer.batch(expected.ids, expected.namespaces, expected.metadata)
        accepted = node.append(DOCS, Upsert(made)).result(APPLIED_WITHIN_S)

    assert node.wait_applied(DOCS, accepted.seqno, APPLIED_WITHIN_S)
    check(node, expected)
    wait_until(lambda: under_way(tmp_path) == NOTHING)


def test_what_a_node_that_was_killed_has_shipped_is_removed_by_another(
    open_node: OpenNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "FIND_ORPHANS_EVERY_S", 0.05)
    node = open_node()
    create(node, dimensions=DIMENSIONS)
    index_id = f"'{node.get_index(DOCS).id}'"
    wait_until(lambda: sql(tmp_path, "SELECT count(*) FROM node") == "1")
    sql(
        tmp_path,
        f"INSERT INTO part SELECT {index_id}, -7, n, 'x' FROM generate_series(0, 99) AS n;"
        f"INSERT INTO upload VALUES ({index_id}, -7, gen_random_uuid(), now() - interval '1 day'),"
        f" ({index_id}, -8, (SELECT node_id FROM node), now() - interval '1 day'),"
        f" ({index_id}, -9, gen_random_uuid(), now())",
    )

    wait_until(lambda: sql(tmp_path, "SELECT count(*) FROM part") == "0")

    # Those stay whose node lives, or that have just begun.
    wait_until(lambda: sql(tmp_path, "SELECT string_agg(seqno::text, '') FROM upload") == "-8-9")


def test_a_short_batch_needs_no_upload(open_node: OpenNode, tmp_path: Path) -> None:
    node = open_node()
    create(node, dimensions=DIMENSIONS)

    received(node, Insert, vectors(10)).result(APPLIED_WITHIN_S)

    assert sql(tmp_path, "SELECT count(*) FROM part") == "0"


def test_a_batch_of_another_index_or_that_is_appended_twice_is_logged_from_memory(
    open_node: OpenNode,
) -> None:
    node = open_node()
    create(node, dimensions=DIMENSIONS)
    others = IndexAddress("acme", "others")
    create(node, others, dimensions=DIMENSIONS)
    expected = vectors(2_000)
    with closing(node.open_batch(DOCS)) as writer:
        made = written(writer, expected)
        logged = [node.append(address, Upsert(made)) for address in (others, DOCS, DOCS)]

    assert [each.result(APPLIED_WITHIN_S).seqno for each in logged] == [1, 1, 2]
    for address, seqno in ((others, 1), (DOCS, 2)):
        assert node.wait_applied(address, seqno, APPLIED_WITHIN_S)  # type: ignore[arg-type]
        (last,) = node.get(address, ["v1999"])
        assert np.array_equal(last.values, expected.values[-1])


def test_a_node_that_closes_ends_its_uploads(open_node: OpenNode, tmp_path: Path) -> None:
    node = open_node()
    create(node, dimensions=DIMENSIONS)
    insert(node, Record("a", [0] * DIMENSIONS))
    writer = node.open_batch(DOCS)
    put(writer, values(2_000))
    wait_until(lambda: has_part(tmp_path))

    node.close()
    writer.close()

    assert open_node().get(DOCS, ["a"])


def test_metadata_longer_than_a_part_comes_back(open_node: OpenNode) -> None:
    node = open_node()
    create(node, dimensions=DIMENSIONS)
    records = [Record(f"v{n}", [n] * DIMENSIONS, "n", {"text": "x" * 99}) for n in range(500)]

    accepted = received(node, Insert, batch(*records)).result(APPLIED_WITHIN_S)

    assert node.wait_applied(DOCS, accepted.seqno, APPLIED_WITHIN_S)
    (found,) = node.get(DOCS, ["v499"])
    assert found.values.tolist() == [499] * DIMENSIONS
    assert found.namespace == "n"
    assert b"x" * 99 in found.metadata
