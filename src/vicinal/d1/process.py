"""The server's end of one SQL process: a call goes in, results come out or the process dies.

The process is one of `worker`. It is never trusted to end by itself: a timer kills it at the
deadline of a call. A call that a process did not survive had no effect, unless it was being
committed, and then the error says that this is not known.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from vicinal.d1 import bounds
from vicinal.d1.messages import (
    Answer,
    BadFrame,
    Call,
    Committed,
    Results,
    RolledBack,
    StatementResult,
    read_answer,
)
from vicinal.d1.statements import too_slow
from vicinal.errors import BadStatement, Corruption, Error, Unavailable

_PACKAGE = Path(__file__).parents[1]

# The packages' own `__init__` would load the engine: 100 ms and 50 MB for each process.
_START = """
import sys, types
root, libraries, folder = sys.argv[1:]
sys.path.append(libraries)
for name, path in (("vicinal", root), ("vicinal.d1", root + "/d1")):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
from pathlib import Path
from vicinal.d1.worker import main
main(Path(folder))
"""

_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")


class Process:
    """A process and its pipes; for one thread at a time, but for `kill`.

    Raises:
        Unavailable: the process cannot be started.
    """

    def __init__(self, folder: Path) -> None:
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        try:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-c", _START),
                    *(str(_PACKAGE), str(Path(msgspec.__file__).parents[1]), str(folder)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # One arena of memory: each more would reserve addresses that are bounded.
                env={**environment, "MALLOC_ARENA_MAX": "1"},
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable(
                f"a process for SQL cannot be started: {error.strerror}", retry_after=1.0
            ) from error
        self._has_expired = False
        self._is_last = False

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def is_usable(self) -> bool:
        """Whether the process can take another call."""
        return not self._is_last and self._process.poll() is None

    def call(self, call: Call, frame: bytes) -> list[StatementResult]:
        """Run a call, encoded as `frame`; it is committed when this returns.

        Raises:
            BadStatement: SQLite refuses it, a bound is exceeded, or the process died of it.
            Unavailable, Corruption: as `statements.execute`, or the process died at the commit.
        """
        try:
            with self._deadline(call.seconds_max + bounds.GRACE_S):
                results = self._ask(frame)
            if not isinstance(results, Results):
                raise self._failure(results, call)
            with self._deadline(bounds.COMMIT_S_MAX):
                outcome = self._receive()
            if not isinstance(outcome, Committed):
                raise self._failure(outcome, call, is_committing=True)
            self._is_last = outcome.is_last
        except BaseException:
            if not isinstance(sys.exception(), Error):
                self._is_last = True
            raise
        return results.results

    def kill(self) -> None:
        """End the process at once; what it has not committed is undone."""
        self._is_last = True
        self._process.kill()

    def close(self) -> None:
        """Kill the process and close its pipes."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):  # bytes that were not sent
                pipe.close()

    @contextmanager
    def _deadline(self, seconds: float) -> Iterator[None]:
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # so that it does not kill the next call

    def _expire(self) -> None:
        self._has_expired = True
        self.kill()

    def _ask(self, frame: bytes) -> Answer | None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(frame)
            self._process.stdin.flush()
        except OSError:
            return None
        return self._receive()

    def _receive(self) -> Answer | None:
        assert self._process.stdout is not None
        try:
            return read_answer(self._process.stdout)
        except (BadFrame, OSError):
            return None

    def _failure(self, answer: Answer | None, call: Call, *, is_committing: bool = False) -> Error:
        if isinstance(answer, RolledBack):
            self._is_last |= answer.is_last
            if answer.reason == "statement":
                return BadStatement(answer.text)
            if answer.reason == "unavailable":
                return Unavailable(answer.text, retry_after=1.0)
            if answer.reason == "corruption":
                return Corruption(answer.text)
            raise RuntimeError(answer.text)  # a defect, with its trace
        self.kill()
        status = self._process.wait()
        if is_committing:
            return Unavailable(
                "the process ended while it committed the statements; whether they took effect "
                "is not known"
            )
        if self._has_expired or status == -getattr(signal, "SIGALRM", 0):
            return BadStatement(too_slow(call.seconds_max))
        return BadStatement(f"the process that ran the statements {_ending(status)}")


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}; nothing of them took effect"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = str(-status)
    return f"was ended by signal {name}; nothing of them took effect"
