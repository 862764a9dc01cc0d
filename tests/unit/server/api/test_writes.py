"""How long a write waits: to be visible, as RFC 7240 lets a client say, and for memtables."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.support.asgi import INDEXES, Conversation, Received, application, call
from tests.support.commands import Recorder
from tests.support.engines import create
from vicinal.errors import MEMTABLES, Overloaded
from vicinal.model import VectorBatch
from vicinal.server.api import vectors, writes
from vicinal.server.api.writes import preferred_wait_s
from vicinal.server.http.uploads import PART_BYTES
from vicinal.wire import columns


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (b"wait=5", 5),
        (b"wait=0", 0),
        (b"Wait = 5", 5),
        (b'wait="5"', 5),
        (b"respond-async, wait=5", 5),
        (b"wait=5, respond-async", 5),
        (b"wait=5; priority=high", 5),
        (b"wait=600", 60),
        (b"return=minimal", None),
        (b"wait", None),
        (b"wait=", None),
        (b"wait=-1", None),
        (b"wait=1.5", None),
        (b"wait=soon", None),
        (b"dontwait=5", None),
        (b"", None),
    ],
)
def test_a_preference_is_followed_up_to_a_bound_and_ignored_when_unreadable(
    prefer: bytes, seconds: int | None
) -> None:
    assert preferred_wait_s({b"prefer": prefer}, wait_s_max=60) == seconds


def test_no_preference_is_no_wait() -> None:
    assert preferred_wait_s({}, wait_s_max=60) is None


ROWS, DIMENSIONS = 4_000, 256  # a body of several parts


def write(folder: Path, engine: Recorder, form: str) -> Received:
    """Send a long body to an engine."""
    create(engine, dimensions=DIMENSIONS)
    if form == "columns":
        names = [str(row) for row in range(ROWS)]
        batch = VectorBatch(
            names, np.ones((ROWS, DIMENSIONS), np.float32), [""] * ROWS, [b""] * ROWS
        )
        body = columns.head(batch) + batch.values.tobytes()
        path, content_type = f"{INDEXES}/docs/columns/upsert", columns.CONTENT_TYPE
    else:
        values = b"1," * (DIMENSIONS - 1) + b"1"
        body = b"".join(b'{"id":"%d","values":[%b]}\n' % (row, values) for row in range(ROWS))
        path, content_type = f"{INDEXES}/docs/upsert", "application/x-ndjson"
    assert len(body) > PART_BYTES
    pieces = [body[start : start + 99_991] for start in range(0, len(body), 99_991)]
    return call(
        application(folder, engine=engine), "POST", path,
        headers={"content-type": content_type}, conversation=Conversation(pieces),
    )  # fmt: skip


@pytest.fixture
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "_SEAL_PAUSE_S", 0.0)
    monkeypatch.setattr(vectors, "SEAL_WAIT_S", math.inf)


@pytest.mark.usefixtures("_no_pause")
def test_a_long_columns_body_waits_while_memtables_are_sealed(tmp_path: Path) -> None:
    engine = Recorder()
    sealing = Overloaded("sealing", retry_after=1.0, queue=MEMTABLES)
    engine.failures = dict.fromkeys(range(3), sealing)

    assert write(tmp_path, engine, "columns").status == 200
    assert len(engine.appended) == 1


@pytest.mark.usefixtures("_no_pause")
@pytest.mark.parametrize(("form", "queue"), [("columns", "writes"), ("lines", MEMTABLES)])
def test_for_nothing_else_a_write_waits(tmp_path: Path, form: str, queue: str) -> None:
    engine = Recorder()
    engine.fail_at(0, Overloaded("full", retry_after=1.0, queue=queue))

    assert write(tmp_path, engine, form).error == (429, 40041, "Too Many Requests: full")


def test_a_columns_body_that_has_waited_long_enough_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "SEAL_WAIT_S", 0.0)
    engine = Recorder()
    engine.fail_at(0, Overloaded("sealing", retry_after=1.0, queue=MEMTABLES))

    answer = write(tmp_path, engine, "columns")

    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
