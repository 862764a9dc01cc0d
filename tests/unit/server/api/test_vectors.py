"""Long bodies of vectors are read part by part, and stored whole or not at all."""

from pathlib import Path

import pytest

from tests.support.asgi import INDEXES, Conversation, application, call
from tests.support.engines import DOCS
from tests.support.model_engine import ModelEngine
from vicinal.limits import Limits
from vicinal.server.api.services import ServerConfig
from vicinal.server.app import App
from vicinal.server.http.uploads import PART_BYTES
from vicinal.wire import lines

VECTOR = b'{"id":"a","values":[1,0]}'


def long_pieces(form: str = "lines", tail: bytes = b"") -> list[bytes]:
    """Return a body of 4,000 records, and more than three parts, cut anywhere."""
    padded = [b'{"id":"%d","values":[1,0]%b}' % (each, b" " * 1600) for each in range(4_000)]
    body = b"\n".join(padded) if form == "lines" else b"[" + b",".join(padded) + b"]"
    assert len(body) > 3 * PART_BYTES
    body += tail
    return [body[start : start + 99_991] for start in range(0, len(body), 99_991)]


@pytest.mark.parametrize("form", ["lines", "array"])
def test_a_long_body_is_stored_whole(app: App, engine: ModelEngine, form: str) -> None:
    pieces = long_pieces(form)

    answer = call(app, "POST", f"{INDEXES}/docs/upsert", conversation=Conversation(pieces))

    assert answer.status == 200
    assert engine.status(DOCS).vector_count == 4_000


@pytest.mark.parametrize("form", ["lines", "array"])
def test_a_long_body_that_breaks_off_changes_nothing(
    app: App, engine: ModelEngine, form: str
) -> None:
    pieces = long_pieces(form)

    for count in (1, 7, len(pieces) - 1, len(pieces)):
        talk = Conversation(pieces[:count], breaks_off=True)
        assert call(app, "POST", f"{INDEXES}/docs/upsert", conversation=talk).status is None
    assert engine.status(DOCS).applied_seqno == 0


@pytest.mark.parametrize(
    ("tail", "place"), [(b'\n{"id":"b"}', "line 4001"), (b"\n\nx\n" + VECTOR, "line 4002")]
)
def test_a_long_body_is_refused_for_its_last_line(
    app: App, engine: ModelEngine, tail: bytes, place: str
) -> None:
    talk = Conversation(long_pieces(tail=tail))

    status, _, message = call(app, "POST", f"{INDEXES}/docs/upsert", conversation=talk).error

    assert status == 400
    assert place in message
    assert engine.status(DOCS).applied_seqno == 0


@pytest.mark.skipif(
    not lines.is_built(), reason="THE READING OF LINES WAS NOT BUILT: there is no C compiler"
)
def test_a_long_body_is_refused_for_its_first_lines_before_it_has_ended(
    app: App, engine: ModelEngine
) -> None:
    talk = Conversation([VECTOR + b'\n{"id":1}\n', *long_pieces()], breaks_off=True)

    status, _, message = call(app, "POST", f"{INDEXES}/docs/upsert", conversation=talk).error

    assert status == 400
    assert "line 2" in message
    assert engine.status(DOCS).applied_seqno == 0


def test_a_long_body_for_no_index_is_not_waited_for(app: App) -> None:
    talk = Conversation(long_pieces(), breaks_off=True)

    answer = call(app, "POST", f"{INDEXES}/none/upsert", conversation=talk)

    assert answer.error[0] == 404


def test_a_long_body_counts_only_while_its_request_is_under_way(
    tmp_path: Path, engine: ModelEngine
) -> None:
    config = ServerConfig(body_bytes_in_flight_max=1)
    app = application(tmp_path, engine=engine, config=config)

    for breaks_off in (False, True, False):
        talk = Conversation(long_pieces(), breaks_off=breaks_off)
        answer = call(app, "POST", f"{INDEXES}/docs/upsert", conversation=talk)
        assert answer.status == (None if breaks_off else 200)
    assert call(app, "POST", f"{INDEXES}/docs/upsert", VECTOR).status == 200


def test_a_long_body_over_its_limit_is_a_413(tmp_path: Path, engine: ModelEngine) -> None:
    limits = Limits(body_bytes_max=3 * PART_BYTES)
    app = application(tmp_path, engine=engine, config=ServerConfig(limits=limits))
    talk = Conversation(long_pieces())

    answer = call(app, "POST", f"{INDEXES}/docs/upsert", conversation=talk)

    assert answer.error[0] == 413
    assert engine.status(DOCS).applied_seqno == 0
