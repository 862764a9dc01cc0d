"""The way of a query through the code: few calls lead from one folder of it into another."""

import asyncio
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

import pytest

import vicinal
from tests.support.asgi import Conversation, received
from tests.unit.server.test_offload import (
    QUERIES,
    QUERY,
    app_on,
    ask,
    body_of,
    count_puts,
    engine,
    needs_library,
    pool,
)
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.native.pool import SearchPool
from vicinal.server import concurrency, offload

__all__ = ["engine", "pool"]

SOURCE = Path(vicinal.__file__).parent
CROSSINGS_MAX = 19
"""Calls of a compiled query, beside those of other clients, from one folder into another; calls
from one into the same other that follow each other are one."""


def folder_of(frame: FrameType | None) -> str | None:
    """Return the folder of the code that runs or, in a library that it has called, that called."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(SOURCE):
            return path.relative_to(SOURCE).parts[0] if path.parent != SOURCE else "(root)"
        frame = frame.f_back
    return None


@contextmanager
def traced(crossings: list[tuple[str, str]], generators: list[CodeType]) -> Iterator[None]:
    def note(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not Path(frame.f_code.co_filename).is_relative_to(SOURCE):
            return
        code = frame.f_code
        if code.co_flags & inspect.CO_GENERATOR and code.co_name != "<genexpr>":
            generators.append(code)
        caller, called = folder_of(frame.f_back), folder_of(frame)
        if caller and called and caller != called and crossings[-1:] != [(caller, called)]:
            crossings.append((caller, called))

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


@needs_library
def test_a_query_goes_one_way_down_and_one_way_back(
    engine: EmbeddedEngine,
    pool: SearchPool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # However slow the machine: another client has just asked, and a query is cheap.
    monkeypatch.setattr(offload, "ALONE_S", 60.0)
    monkeypatch.setattr(concurrency, "INLINE_S_MAX", 60.0)
    app, put = app_on(engine, tmp_path, pool), count_puts(pool)
    talk = Conversation((body_of(QUERIES[1]),))
    scope = {
        "type": "http", "method": "POST", "path": QUERY, "raw_path": QUERY.encode(),
        "query_string": b"", "headers": [], "client": ("host", 30),
    }  # fmt: skip
    crossings: list[tuple[str, str]] = []
    generators: list[CodeType] = []

    async def main() -> None:
        for port in range(30):
            await ask(app, port, body_of(QUERIES[0]))
        put.clear()
        with traced(crossings, generators):
            await app(scope, talk.receive, talk.send)

    asyncio.run(asyncio.wait_for(main(), 60))

    assert len(received(talk).result["matches"]) == 10
    assert put, "another way than that of the compiled search beside the event loop"
    assert ("ann", "native") in crossings
    assert len(crossings) <= CROSSINGS_MAX, crossings
    assert not generators
