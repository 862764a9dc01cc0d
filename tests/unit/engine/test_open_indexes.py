"""Many indexes share few file handles: those unused longest close, and open again unnoticed."""

import itertools
import os
import threading
from pathlib import Path

import pytest

from tests.support.engines import APPLIED_WITHIN_S, Record, batch, create
from tests.support.waiting import wait_until
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.model import IndexAddress, Query, Upsert

OPEN_MAX = 4


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 Path.iterdir would open another


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to count open files")
def test_many_indexes_need_no_more_files_than_the_bound(tmp_path: Path) -> None:
    # On a busy machine all would be idle for long enough to be compacted, and busy with that.
    options = EngineOptions(open_indexes_max=OPEN_MAX, idle_s=3_600)
    engine = EmbeddedEngine.open(tmp_path, options)
    before = descriptors()

    for number in range(40):
        address = IndexAddress("acme", f"index-{number}")
        create(engine, address)
        accepted = engine.append(address, Upsert(batch(Record("a", [number, 1])))).result()
        assert engine.wait_applied(address, accepted.seqno, APPLIED_WITHIN_S)

    # A log and its write-ahead log each, of 40 were there no bound. More may be open because they
    # were still busy when room was made: the next index that is opened makes room again.
    numbers = itertools.cycle(range(40))

    def is_within_the_bound() -> bool:
        engine.get(IndexAddress("acme", f"index-{next(numbers)}"), ["a"])
        return descriptors() - before <= 2 * (OPEN_MAX + 10)

    wait_until(is_within_the_bound)
    for number in range(40):
        (vector,) = engine.get(IndexAddress("acme", f"index-{number}"), ["a"])
        assert vector.values.tolist() == [number, 1]
    engine.close()


def test_work_on_an_index_that_is_being_retired_is_done_all_the_same(tmp_path: Path) -> None:
    engine = EmbeddedEngine.open(tmp_path, EngineOptions(open_indexes_max=1))
    addresses = [IndexAddress("acme", f"index-{number}") for number in range(3)]
    for address in addresses:
        create(engine, address)
    errors: list[BaseException] = []

    def work(address: IndexAddress) -> None:
        try:
            for number in range(60):
                record = Record(f"v{number}", [number, 1])
                accepted = engine.append(address, Upsert(batch(record))).result(APPLIED_WITHIN_S)
                assert engine.wait_applied(address, accepted.seqno, APPLIED_WITHIN_S)
                vector = batch(record).values[0]
                found = engine.query(address, Query(top_k=1, vector=vector)).matches
                assert [match.id for match in found] == [record.id]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(each,)) for each in addresses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert [engine.status(each).vector_count for each in addresses] == [60, 60, 60]
    engine.close()
