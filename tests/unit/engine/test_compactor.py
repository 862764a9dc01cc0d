"""When an index is merged: what was asked for while another merge runs counts for the next."""

import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.engines import DOCS, Record, create, upsert
from vicinal.engine import merge
from vicinal.engine.compactor import MergeRequest
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.engine.executors import SerialExecutor
from vicinal.engine.merge import SegmentSize

ROWS = 4  # of a memtable


def test_an_index_that_is_idle_by_the_end_of_a_merge_is_merged_as_an_idle_one_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_as_idle: list[bool] = []
    is_idle_asked = threading.Event()
    choose, submit = merge.candidates, SerialExecutor.submit

    def candidates(segments: Sequence[SegmentSize], *, is_idle: bool) -> tuple[int, ...]:
        chosen = choose(segments, is_idle=is_idle)
        if chosen and not asked_as_idle:
            compacting.start()
            assert is_idle_asked.wait(60)
        if chosen or asked_as_idle:
            asked_as_idle.append(is_idle)
        return chosen

    def submitted(lane: SerialExecutor[object], messages: Sequence[object]) -> None:
        submit(lane, messages)
        if any(isinstance(each, MergeRequest) and each.is_idle for each in messages):
            is_idle_asked.set()

    monkeypatch.setattr(merge, "candidates", candidates)
    monkeypatch.setattr(SerialExecutor, "submit", submitted)
    options = EngineOptions(memtable_rows_max=ROWS, memtables_max=1_000, idle_s=3_600)
    with closing(EmbeddedEngine.open(tmp_path, options)) as engine:
        compacting = threading.Thread(target=engine.compact, args=(DOCS,))
        create(engine)
        first = 0
        while not is_idle_asked.is_set():
            upsert(engine, *(Record(f"v{row}", [row, 0]) for row in range(first, first + ROWS)))
            first += ROWS
        compacting.join(60)

    assert asked_as_idle[:2] == [False, True]
