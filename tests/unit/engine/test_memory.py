"""Memory that is freed goes back to the system, where the allocator can do that."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.engines import DOCS, Record, create, upsert
from tests.support.inline import open_inline
from vicinal.engine import memory
from vicinal.engine.embedded import EngineOptions
from vicinal.native.library import library

STATUS = Path("/proc/self/smaps_rollup")


PRIVATE_BYTES = """
from vicinal.engine import memory

def private_bytes():
    with open("/proc/self/smaps_rollup") as file:
        (line,) = (each for each in file if each.startswith("Anonymous:"))
    return int(line.split()[1]) * 1024

memory.economise()
"""

GIVES_BACK = """
import threading
import numpy as np

def fill():
    for _ in range(3):
        kept = [np.ones(3_000_000, np.float32) for _ in range(10)]  # 12 MB each
        kept += [np.ones(100_000, np.float32) for _ in range(200)]  # 0.4 MB each

before = private_bytes()
thread = threading.Thread(target=fill)
thread.start()
thread.join()
memory.release()
print(private_bytes() - before)
"""


SEARCHES = """
import ctypes, resource

class Chunks:
    def __init__(self):
        self.libc = ctypes.CDLL(None)
        self.libc.calloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
        self.libc.calloc.restype, self.libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

    def pass_through(self):
        # Of a search of ten million rows: a bit for each, and what it comes to.
        sizes = 1_250_000, 200_000, 100_000, 400_000
        held = [self.libc.calloc(size, 1) for size in sizes]
        for pointer, size in zip(held, sizes):
            ctypes.memset(pointer, 1, size)
            self.libc.free(pointer)

def faults():
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt

chunks = Chunks()
chunks.pass_through()
before = faults()
for _ in range(100):
    chunks.pass_through()
print(faults() - before)
"""

LOGS = """
import sys
from contextlib import closing
from pathlib import Path
from vicinal.engine.log import Draft, Log
from vicinal.engine.records import LogRecord

folder = Path(sys.argv[1])
Log.create(folder)
log = Log(folder)
log.append([Draft("m", LogRecord(bytes(1_000)))], 0)
before = private_bytes()
log.append([Draft("m", LogRecord(bytes(40_000_000)))], 0)
log.truncate()
memory.release()
print(private_bytes() - before)
"""

RECEIVES = """
import sys
from contextlib import closing
from pathlib import Path
import numpy as np
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.limits import Limits
from vicinal.model import IndexAddress, IndexConfig, Metric, Upsert
from vicinal.wire.vectors import BodyReader

limits = Limits(batch_vectors_max=20_000)
engine = EmbeddedEngine.open(Path(sys.argv[1]), EngineOptions(limits, memtable_rows_max=1_000_000))
address = IndexAddress("acme", "docs")
engine.create_index(address, IndexConfig(1_000, Metric.COSINE), None)
record = '{"id":"%d","values":[' + ",".join(["0.5"] * 1_000) + "]}"
writer = engine.open_batch(address)
reader = BodyReader(None, 1_000, limits, writer)
before = private_bytes()
for start in range(0, 20_000, 100):
    reader.feed("".join(record % row + chr(10) for row in range(start, start + 100)).encode())
received = private_bytes()
accepted = engine.append(address, Upsert(reader.finish())).result()
writer.close()
assert engine.wait_applied(address, accepted.seqno, 30)
print(max(received, private_bytes()) - before)
"""

SEALS = """
import sys
import numpy as np
import vicinal

rows = np.sin(np.square(np.arange(400_000.0))).reshape(25_000, 16)
with vicinal.open(sys.argv[1]) as database:
    index = database.create_index("rows", dimensions=16, metric="cosine")
    loaded = set(sys.modules)
    for start in range(0, len(rows), 1_000):
        chunk = rows[start : start + 1_000]
        index.upsert([{"id": str(start + i), "values": row} for i, row in enumerate(chunk)])
print(*sorted(set(sys.modules) - loaded))
"""

needs_proc = pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's /proc")


def grown_by(script: str, *arguments: str) -> int:
    """Return what a script prints, run in a process of its own: threads of other tests may hold
    memory for a while."""
    command = [sys.executable, "-c", PRIVATE_BYTES + script, *arguments]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@needs_proc
def test_arrays_freed_by_another_thread_are_given_back() -> None:
    assert grown_by(GIVES_BACK) < 10_000_000


@needs_proc
def test_one_search_after_another_gets_the_same_memory() -> None:
    # Of 100 searches, each with 476 pages: without this they are cleared and mapped for every one.
    assert grown_by(SEARCHES) < 1_000


@needs_proc
def test_a_log_keeps_nothing_in_memory_of_what_is_written_to_it(tmp_path: Path) -> None:
    assert grown_by(LOGS, str(tmp_path)) < 10_000_000


@needs_proc
@pytest.mark.skipif(
    library() is None, reason="THE COMPILED READER WAS NOT BUILT: there is no C compiler"
)
def test_values_of_a_long_body_take_no_memory_while_they_come_nor_in_the_memtable(
    tmp_path: Path,
) -> None:
    # 80 MB of them; what remains are ids, norms and one chunk.
    assert grown_by(RECEIVES, str(tmp_path)) < 20_000_000


def test_a_memtable_is_sealed_without_loading_anything_that_would_stay(tmp_path: Path) -> None:
    # What is loaded late lies among what is freed soon, and keeps whole arenas from going back.
    command = [sys.executable, "-c", SEALS, str(tmp_path)]

    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    assert [each for each in loaded if each.startswith(("numpy", "vicinal"))] == []


def test_an_allocator_that_is_not_glibc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)

    memory.economise()
    memory.release()


def test_the_heap_is_looked_through_after_megabytes_and_not_after_every_seal(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases: list[None] = []
    monkeypatch.setattr(memory, "release", lambda: releases.append(None))
    monkeypatch.setattr(memory, "_passed_bytes", 0)
    row_bytes = 4 * 512
    many = memory.RELEASED_BYTES_MIN // row_bytes
    with closing(open_inline(memory_path, EngineOptions(merges=False))) as engine:
        create(engine, dimensions=512)

        for number in range(3):
            upsert(engine, Record(f"few-{number}", [1] * 512))
            engine.compact(DOCS)
        assert len(releases) == 0

        upsert(engine, *(Record(f"many-{number}", [1] * 512) for number in range(many)))
        engine.compact(DOCS)
        assert len(releases) == 1

        upsert(engine, Record("one", [1] * 512))
        engine.compact(DOCS)
        assert len(releases) == 1
