"""A process that does the tasks of one snapshot, and the server's end of it.

    frame := length u32 | MessagePack: a task one way, its end the other

The process ends with its standard input, so also when the server is killed; what it was writing has
a temporary name. Its priority is low, and it has nothing of the server's environment.
"""

import errno
import os
import struct
import subprocess
import sys
from contextlib import suppress
from typing import IO, Literal

import msgspec

from vicinal.errors import Corruption, ResourceExhausted, Unavailable
from vicinal.snapshots.work import Done, InlineWork, Task, WorkFailed
from vicinal.storage.sqlite import is_exhausted

NICENESS = 10  # as that of an engine's background work

_LENGTH = struct.Struct("<I")
START = (  # of low priority before it imports anything, which takes longer than many a snapshot
    f"import os, sys; hasattr(os, 'nice') and os.nice({NICENESS}); sys.path[:] = sys.argv[1:]; "
    "from vicinal.snapshots.process import main; main()"
)
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")


class _Refused(msgspec.Struct, frozen=True, tag=True):
    """A task that could not be done."""

    reason: Literal["corruption", "exhausted", "system", "unavailable"]
    text: str
    code: int = 0  # of the system's error


_encode = msgspec.msgpack.Encoder().encode
_tasks = msgspec.msgpack.Decoder(Task)
_ends: msgspec.msgpack.Decoder[Done | _Refused] = msgspec.msgpack.Decoder(Done | _Refused)


class ProcessWork:
    """Work that is done by a process, which starts with the first task.

    A process that dies makes `perform` raise `WorkFailed`.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    @property
    def pid(self) -> int | None:
        """Id of the process; None before the first task."""
        return None if self._process is None else self._process.pid

    def perform(self, task: Task) -> Done:
        """See `work.Work`."""
        process = self._process = self._process or _start()
        if self._is_stopped:
            process.kill()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, _encode(task))
            raw = _receive(process.stdout)
        except UnicodeEncodeError as error:
            raise Corruption(f"a row of the log is damaged: {error}") from error
        except OSError:
            raw = None
        if raw is None:
            status = process.wait()
            raise WorkFailed(f"the process that makes the snapshot ended with status {status}")
        end = _ends.decode(raw)
        if isinstance(end, Done):
            return end
        match end.reason:
            case "corruption":
                raise Corruption(end.text)
            case "exhausted":
                raise ResourceExhausted(end.text, retry_after=1.0)
            case "system":
                raise OSError(end.code, os.strerror(end.code), end.text)
            case "unavailable":
                raise Unavailable(end.text)

    def stop(self) -> None:
        """End the process from another thread, also in the middle of a task, which fails."""
        self._is_stopped = True
        if (process := self._process) is not None:
            process.kill()

    def close(self) -> None:
        """See `work.Work`."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()


def _start() -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            [sys.executable, "-s", "-c", START, *filter(None, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
            start_new_session=True,
        )
    except OSError as error:
        raise WorkFailed(f"a process for snapshots cannot be started: {error}") from error


def main() -> None:
    """Do the tasks that come on standard input, until it ends."""
    work = InlineWork(gives_way=True)
    while (raw := _receive(sys.stdin.buffer)) is not None:
        _send(sys.stdout.buffer, _encode(_perform(work, _tasks.decode(raw))))


def _perform(work: InlineWork, task: Task) -> Done | _Refused:
    try:
        return work.perform(task)
    except Corruption as error:
        return _Refused("corruption", str(error))
    except OSError as error:
        return _Refused("system", str(error.filename), error.errno or errno.EIO)
    except Unavailable as error:
        return _Refused("exhausted" if is_exhausted(error) else "unavailable", str(error))


def _send(pipe: IO[bytes], body: bytes) -> None:
    pipe.write(_LENGTH.pack(len(body)))
    pipe.write(body)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes | None:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = pipe.read(length)
    return body if len(body) == length else None
