"""The process that runs SQL from the network: calls on standard input, answers on standard output.

Started by `process`, with the databases' folder as its one argument, nothing of the server's
environment and no descriptor but its pipes. It takes calls one at a time. It ends

* when the server closes its pipe or is gone, which a thread notices even while SQLite is busy,
* by an alarm of the system when a call takes longer than it may, even if the server hangs,
* when it asks for more memory than it may have: a limit of SQLite's refuses the statement
  first, and the system's stands behind it,

or is killed by the server at any time, and the transaction that was not committed is undone.

This module loads neither the engine nor anything else of the package that it does not run.
"""

import os
import queue
import signal
import sqlite3
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from vicinal.d1 import bounds, statements
from vicinal.d1.messages import BadFrame, Call, Committed, RolledBack, SentResults, frame, read_call
from vicinal.errors import BadStatement, Corruption, Unavailable

_OPEN_FILES_MAX = 64
_NICENESS = 5  # searches and writes of vectors come first


def main(folder: Path) -> None:
    """Answer calls until the server has no more."""
    calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, calls), daemon=True).start()
    _limit_process()
    while True:
        _answer(folder, calls.get(), sys.stdout.buffer)


def _receive(pipe: BinaryIO, calls: "queue.SimpleQueue[Call]") -> None:
    """Queue the calls that are received; at the end of the pipe end the process at once."""
    with suppress(BadFrame, OSError):
        while (call := read_call(pipe)) is not None:
            calls.put(call)
    os._exit(0)


def _answer(folder: Path, call: Call, pipe: BinaryIO) -> None:
    def before_commit(results: SentResults) -> None:
        _set_alarm(bounds.COMMIT_S_MAX)
        _send(pipe, results)

    _set_alarm(call.seconds_max + bounds.GRACE_S)
    answer: Committed | RolledBack
    try:
        statements.execute(folder, call, before_commit)
        answer = Committed(_is_large())
    except BadStatement as error:
        answer = RolledBack("statement", str(error), _is_large())
    except Unavailable as error:
        answer = RolledBack("unavailable", str(error), _is_large())
    except Corruption as error:
        answer = RolledBack("corruption", str(error), _is_large())
    except Exception:  # a defect of ours: the server logs it, and starts another process
        answer = RolledBack("defect", traceback.format_exc(), is_last=True)
    _send(pipe, answer)
    _set_alarm(0)


def _send(pipe: BinaryIO, message: SentResults | Committed | RolledBack) -> None:
    pipe.write(frame(message))
    pipe.flush()


def _set_alarm(seconds: float) -> None:
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _limit_process() -> None:
    """Lower the limits of this process to what SQL needs."""
    with sqlite3.connect(":memory:") as connection:
        connection.execute(f"PRAGMA hard_heap_limit={bounds.HEAP_BYTES_MAX}")
    connection.close()
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    os.nice(_NICENESS)
    wanted = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES_MAX),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, bounds.FILE_BYTES_MAX),
    ]
    if sys.platform == "linux":
        # Elsewhere addresses are no measure of memory, or the limit is not kept.
        wanted.append((resource.RLIMIT_AS, _pages()[0] + bounds.ADDRESS_BYTES_MAX))
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")  # the first that may go
    for limit, value in wanted:
        most = resource.getrlimit(limit)[1]
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        with suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, value))


def _is_large() -> bool:
    """Tell whether a call has left the process with too much memory to be kept."""
    return sys.platform == "linux" and _pages()[1] > bounds.RESIDENT_BYTES_MAX


def _pages() -> tuple[int, int]:
    """Return the bytes of this process's addresses, and of its memory."""
    addresses, resident = Path("/proc/self/statm").read_text().split()[:2]
    page = os.sysconf("SC_PAGE_SIZE")
    return int(addresses) * page, int(resident) * page
