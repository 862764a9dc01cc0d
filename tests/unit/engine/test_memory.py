"""Memory that is freed goes back to the system, where the allocator can do that."""

import subprocess
import sys
from pathlib import Path

import pytest

from vicinal.engine import memory

STATUS = Path("/proc/self/smaps_rollup")


GIVES_BACK = """
import threading
import numpy as np
from vicinal.engine import memory

def private_bytes():
    with open("/proc/self/smaps_rollup") as file:
        (line,) = (each for each in file if each.startswith("Anonymous:"))
    return int(line.split()[1]) * 1024

def fill():
    for _ in range(3):
        kept = [np.ones(3_000_000, np.float32) for _ in range(10)]  # 12 MB each
        kept += [np.ones(100_000, np.float32) for _ in range(200)]  # 0.4 MB each

memory.keep_large_apart()
before = private_bytes()
thread = threading.Thread(target=fill)
thread.start()
thread.join()
memory.give_back()
print(private_bytes() - before)
"""


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's /proc")
def test_arrays_freed_by_another_thread_are_given_back() -> None:
    # In a process of its own: threads of other tests may hold memory for a while.
    ran = subprocess.run(
        [sys.executable, "-c", GIVES_BACK], check=True, capture_output=True, text=True
    )

    assert int(ran.stdout) < 10_000_000


def test_an_allocator_that_is_not_glibc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)

    memory.keep_large_apart()
    memory.give_back()
