"""A query runs on the caller's thread and takes no other core, whatever that thread was set to;
background work gives way to it."""

import os
import sys
import threading
from pathlib import Path

import faiss
import numpy as np
import pytest

from vicinal.engine.embedded import EmbeddedEngine
from vicinal.engine.resources import BACKGROUND_NICENESS, Resources
from vicinal.model import IndexAddress, IndexConfig, Metric, Query, Upsert, VectorBatch

ADDRESS = IndexAddress("acme", "docs")


def test_a_query_on_a_new_thread_searches_on_that_thread_alone(tmp_path: Path) -> None:
    engine = EmbeddedEngine.open(tmp_path)
    engine.create_index(ADDRESS, IndexConfig(2, Metric.COSINE), None)
    rows = VectorBatch(["a"], np.ones((1, 2), np.float32), [""], [b""])
    engine.wait_applied(ADDRESS, engine.append(ADDRESS, Upsert(rows)).result().seqno, 10.0)
    seen: list[int] = []

    def ask() -> None:
        faiss.omp_set_num_threads(4)
        engine.query(ADDRESS, Query(top_k=1, vector=np.ones(2, np.float32)))
        seen.append(faiss.omp_get_max_threads())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    engine.close()

    assert seen == [1]


@pytest.mark.skipif(sys.platform != "linux", reason="niceness is a process's, not a thread's")
def test_background_work_gives_way_and_writers_do_not() -> None:
    resources = Resources.start(queue_bytes_max=1)

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    own = niceness()
    pools = (resources.writers, resources.sealer, resources.merger)
    found = [pool.submit(niceness).result() for pool in pools]
    resources.stop()

    assert found == [own, max(own, BACKGROUND_NICENESS), max(own, BACKGROUND_NICENESS)]
    assert niceness() == own
