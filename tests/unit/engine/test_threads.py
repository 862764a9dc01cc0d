"""A query runs on the caller's thread and takes no other core, whatever that thread was set to;
background work gives way to it."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vicinal.engine.resources import BACKGROUND_NICENESS, Resources

QUERIES = """
import sys
import threading
import time
from pathlib import Path
import numpy as np
from vicinal.ann import exact, hamming, projection
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.model import IndexAddress, IndexConfig, Metric, Query, Upsert, VectorBatch

if sys.argv[2] == "python":
    exact.library = hamming.library = projection.library = lambda: None
address = IndexAddress("acme", "docs")
engine = EmbeddedEngine.open(Path(sys.argv[1]))
engine.create_index(address, IndexConfig(768, Metric.COSINE), None)
values = np.random.default_rng(7).standard_normal((3_000, 768), np.float32)
rows = VectorBatch([str(row) for row in range(3_000)], values, [""] * 3_000, [b""] * 3_000)
engine.wait_applied(address, engine.append(address, Upsert(rows)).result().seqno, 60.0)
shares = []

def ask():
    engine.query(address, Query(top_k=1, vector=values[0]))
    own, all_threads = time.thread_time(), time.process_time()
    for query in values[:100]:
        engine.query(address, Query(top_k=1, vector=query))
    shares.append((time.thread_time() - own) / (time.process_time() - all_threads))

thread = threading.Thread(target=ask)
thread.start()
thread.join()
engine.close()
print(shares[0])
"""


@pytest.mark.parametrize("search", ["compiled", "python"])
def test_a_query_on_a_new_thread_searches_on_that_thread_alone(tmp_path: Path, search: str) -> None:
    """In a process in which BLAS may take every core, as in a user's."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in threads}

    done = subprocess.run(
        [sys.executable, "-c", QUERIES, str(tmp_path / "data"), search],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.9


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
