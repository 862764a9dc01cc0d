"""The connection to the database is lost at every request of a change in turn.

Whether the server got the request or the client lacks the answer: what is acknowledged is there
once, in order, and what a retry finds done is not done again.
"""

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.engines import Record, batch
from tests.support.ledgers import WITHIN_S, Writer
from tests.support.postgres import fresh_schema, server
from tests.support.proxy import LossyProxy
from vicinal.engine.shared import log_records, schema
from vicinal.engine.shared.database import PostgresDatabase
from vicinal.errors import Unavailable
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    IndexAddress,
    IndexConfig,
    IndexType,
    MetadataIndex,
    Metric,
    Mutation,
    Upsert,
)

DOCS = IndexAddress("acme", "docs")
ANSWER_OR_REQUEST = pytest.mark.parametrize("is_answer", [True, False], ids=["answer", "request"])
REQUESTS_MAX = 60  # far more than one change takes


@pytest.fixture
def proxy() -> Iterator[LossyProxy]:
    with LossyProxy(server().port) as proxy:
        yield proxy


@pytest.fixture
def writer(proxy: LossyProxy) -> Iterator[Writer]:
    dsn = f"postgresql://vicinal@127.0.0.1:{proxy.port}/postgres"
    database = PostgresDatabase(dsn, fresh_schema())
    schema.prepare(database)
    writer = Writer(database, write_deadline_s=60.0)
    yield writer
    proxy.keep()
    writer.close()
    database.close()


def groups(number: int) -> list[list[Mutation]]:
    """Kinds of what is logged together: one, several, one in parts, one that declares."""
    upsert = Upsert(batch(Record(f"v{number}", [number, 1])))
    long = Upsert(batch(*(Record(f"l{number}-{i}", [i, 1]) for i in range(100))))
    property_ = MetadataIndex(f"p{number}", IndexType.STRING)
    return [[upsert], [upsert, Delete(["x"]), upsert], [long], [CreateMetadataIndex(property_)]]


def test_the_proxy_passes_a_request_on_whose_pieces_come_apart() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        LossyProxy(listener.getsockname()[1]) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=WITHIN_S) as client,
    ):
        proxy.lose(1, is_answer=True)
        client.sendall(b"a request ")
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(WITHIN_S)
            assert connection.recv(100) == b"a request "
            client.sendall(b"in pieces")
            assert connection.recv(100) == b"in pieces"
            connection.sendall(b"an answer")
            assert connection.recv(100) == b""
        assert client.recv(100) == b""
    assert proxy.lost_count == 1


@ANSWER_OR_REQUEST
@pytest.mark.parametrize("kind", range(4), ids=["one", "several", "in parts", "declaring"])
def test_an_append_is_acknowledged_once_and_is_in_the_log_once(
    writer: Writer,
    proxy: LossyProxy,
    kind: int,
    is_answer: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_records, "PART_BYTES", 300)
    index_id = writer.create()
    acknowledged: list[str] = []
    for number in range(1, REQUESTS_MAX):
        proxy.lose(number, is_answer=is_answer)

        futures = [writer.append(index_id, each) for each in groups(number % 9)[kind]]
        accepted = [each.result(WITHIN_S) for each in futures]

        acknowledged += [each.mutation_id for each in accepted]
        assert [each.seqno for each in accepted] == list(
            range(len(acknowledged) - len(accepted) + 1, len(acknowledged) + 1)
        )
        if proxy.keep():
            break
    else:
        pytest.fail("every request of every append was lost")
    rows = writer.fetch("SELECT seqno, mutation_id::text FROM vicinal.mutation ORDER BY seqno")
    assert rows == list(enumerate(acknowledged, 1))
    assert proxy.lost_count > 3
    assert (
        writer.fold(index_id, len(acknowledged))
        == writer.fetch("SELECT count(*) FROM vicinal.vector")[0][0]
    )


@ANSWER_OR_REQUEST
def test_an_index_is_made_and_dropped_once(
    writer: Writer, proxy: LossyProxy, is_answer: bool
) -> None:
    config = IndexConfig(2, Metric.COSINE)
    for number in range(1, REQUESTS_MAX):
        proxy.lose(number, is_answer=is_answer)
        made = writer.catalog.add(DOCS, config, None, 5)
        was_due = proxy.keep()
        assert writer.fetch("SELECT index_id::text FROM vicinal.catalog") == [(made.id,)]
        assert writer.catalog.index_count == 1
        proxy.lose(number, is_answer=is_answer)
        writer.catalog.remove(DOCS)
        was_due = proxy.keep() and was_due
        assert writer.fetch("SELECT count(*) FROM vicinal.catalog") == [(0,)]
        if was_due:
            break
    else:
        pytest.fail("every request was lost")
    assert writer.catalog.index_count == 0
    assert writer.fetch("SELECT index_count FROM vicinal.cluster") == [(0,)]


@ANSWER_OR_REQUEST
def test_a_fold_is_done_once(writer: Writer, proxy: LossyProxy, is_answer: bool) -> None:
    index_id = writer.create()
    for number in range(1, REQUESTS_MAX):
        writer.log(index_id, Upsert(batch(Record("a", [number, 1]), Record(f"v{number}", [1, 1]))))
        writer.log(index_id, Delete([f"v{number - 1}"]))
        proxy.lose(number, is_answer=is_answer)
        with suppress(Unavailable):  # the follower tries again
            writer.database.run_coroutine(writer.rows.checkpoint(index_id))
        was_due = proxy.keep()
        assert writer.fold(index_id, 2 * number) == 2
        assert writer.fetch("SELECT count(*) FROM vicinal.vector") == [(2,)]
        if was_due:
            break
    else:
        pytest.fail("every request was lost")


def test_after_the_deadline_it_is_said_whether_the_outcome_is_known(
    writer: Writer, proxy: LossyProxy
) -> None:
    index_id = writer.create()
    writer.log(index_id, Delete(["a"]))
    short = Writer(writer.database, write_deadline_s=0.0)

    proxy.lose(1, is_answer=False)
    with pytest.raises(Unavailable, match="nothing was changed"):
        short.log(index_id, Delete(["b"]))
    writer.log(index_id, Delete(["a"]))  # on a new connection, which has its statements then
    proxy.lose(4, is_answer=True)  # BEGIN, the head, the mutation, COMMIT
    with pytest.raises(Unavailable, match="is not known: it may appear") as caught:
        short.log(index_id, Delete(["c"]))

    assert caught.value.retry_after is not None
    assert writer.fetch("SELECT count(*) FROM vicinal.mutation") == [(3,)]  # it did appear
    short.close()
