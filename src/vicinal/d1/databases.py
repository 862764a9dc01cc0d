"""The SQL databases of a server, and the few processes that run their statements.

Calls come from many threads; a call has a process for itself, waits while all are busy, and starts
one while there are fewer than allowed. A process serves any database, one call at a time.
"""

import re
import struct
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vicinal.d1.bounds import CALL_BYTES_MAX, Bounds
from vicinal.d1.messages import Call, Statement, StatementResult, frame
from vicinal.d1.process import Process
from vicinal.errors import BadStatement, DatabaseNotFound, LimitExceeded, Unavailable
from vicinal.storage import private

DATABASE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
SUFFIX = ".sqlite"
_MAGIC = b"SQLite format 3\x00"
_USER_VERSION = struct.Struct(">60xI")  # of SQLite's file header
_FIRST_S = 1_577_836_800  # 2020: what is less was not written by us


@dataclass(frozen=True, slots=True)
class DatabaseInfo:
    """An SQL database: its id, the time of its creation (UTC) and its size on disk."""

    id: str
    created_at: datetime
    file_bytes: int


class Databases:
    """The databases of a server. Thread-safe.

    Args:
        folder: Folder of their files; made with the first database.
        bounds: Bounds of calls, processes and databases.
        refusal: Why there are none here: everything but `stop` raises it as `Unavailable`.
    """

    def __init__(
        self, folder: Path, bounds: Bounds | None = None, *, refusal: str | None = None
    ) -> None:
        self._folder = folder
        self._refusal = refusal
        self.bounds = bounds or Bounds()
        self._making = threading.Lock()
        self._changed = threading.Condition()
        self._idle: list[Process] = []
        self._all: set[Process] = set()
        self._starting = 0
        self._is_stopped = False
        # Ends the processes of an owner that never called `stop`.
        self._finalizer = weakref.finalize(self, _close_all, self._all)

    def execute(
        self,
        account: str,
        database: str,
        statements: Sequence[Statement],
        *,
        names_each_row: bool = False,
    ) -> list[StatementResult]:
        """Run statements in order; all of them take effect, or none does.

        Args:
            account: Well-formed.
            database: Its id; one that is new makes an empty database.
            statements: Their SQL may hold several statements, separated by semicolons.
            names_each_row: Whether rows will be shown with the names of their columns, so that
                these count as part of the result.

        Raises:
            DatabaseNotFound: no database can have this id.
            BadStatement: SQLite refuses a statement, a bound is exceeded, or the process that
                ran them has died; nothing took effect.
            LimitExceeded: the account would have too many databases.
            Unavailable: the disk is full or does not answer, another program writes, the
                databases have been stopped, or it is not known what took effect.
            Corruption: the file is damaged.
        """
        self._check_refusal()
        path = self._path(account, database)
        call = Call(account, database, statements, self.bounds.seconds_max, names_each_row)
        framed = _frame(call)
        self._prepare(path)
        process = self._acquire()
        try:
            return process.call(call, framed)
        except BadStatement:
            if self._is_stopped:
                raise _stopped() from None
            raise
        finally:
            self._release(process)

    def ids(self, account: str) -> Sequence[str]:
        """Return the ids of the databases of an account, in order.

        Raises:
            Unavailable: the folder cannot be read.
        """
        self._check_refusal()
        try:
            names = [path.name for path in (self._folder / account).iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Unavailable(f"{self._folder / account}: {error.strerror}") from error
        ids = (name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))
        return sorted(name for name in ids if DATABASE_ID.fullmatch(name))

    def info(self, account: str, database: str) -> DatabaseInfo:
        """Return the creation time and size of a database.

        Raises:
            DatabaseNotFound: there is none.
            Unavailable: its file cannot be read.
        """
        self._check_refusal()
        path = self._path(account, database)
        try:
            status = path.stat()
            with path.open("rb") as file:
                head = file.read(_USER_VERSION.size)
        except FileNotFoundError:
            raise DatabaseNotFound(database) from None
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror}") from error
        made_s = status.st_mtime
        if len(head) == _USER_VERSION.size and head.startswith(_MAGIC):
            (noted,) = _USER_VERSION.unpack(head)
            made_s = noted if noted >= _FIRST_S else made_s
        return DatabaseInfo(database, datetime.fromtimestamp(made_s, UTC), status.st_size)

    def stop(self) -> None:
        """End every process, also in the middle of a call, and refuse further calls."""
        with self._changed:
            self._is_stopped = True
            idle, self._idle = self._idle, []
            for process in self._all:
                process.kill()
            self._changed.notify_all()
        for process in idle:
            self._close(process)

    def processes(self) -> Sequence[int]:
        """Return the ids of all processes, in order."""
        with self._changed:
            return sorted(process.pid for process in self._all)

    def _acquire(self) -> Process:
        with self._changed:
            while True:
                if self._is_stopped:
                    raise _stopped()
                while self._idle:
                    process = self._idle.pop()
                    if process.is_usable:
                        return process
                    self._all.discard(process)
                    process.close()
                if len(self._all) + self._starting < self.bounds.processes_max:
                    break
                self._changed.wait()
            self._starting += 1
        return self._start()

    def _start(self) -> Process:
        started: Process | None = None
        try:
            started = Process(self._folder.resolve())
            return started
        finally:
            with self._changed:
                self._starting -= 1
                if started is not None:
                    self._all.add(started)
                    if self._is_stopped:
                        started.kill()
                self._changed.notify()

    def _release(self, process: Process) -> None:
        with self._changed:
            is_kept = (
                process.is_usable
                and not self._is_stopped
                and len(self._idle) < self.bounds.idle_max
            )
            if is_kept:
                self._idle.append(process)
                self._changed.notify()
        if not is_kept:
            self._close(process)

    def _close(self, process: Process) -> None:
        process.close()
        with self._changed:
            self._all.discard(process)
            self._changed.notify()

    def _check_refusal(self) -> None:
        if self._refusal is not None:
            raise Unavailable(self._refusal)

    def _path(self, account: str, database: str) -> Path:
        if not DATABASE_ID.fullmatch(database):
            raise DatabaseNotFound(database)
        return self._folder / account / f"{database}{SUFFIX}"

    def _prepare(self, path: Path) -> None:
        """Make the file of a database; refuse a database more than an account may have."""
        count_max = self.bounds.databases_max
        try:
            private.make_folders(path.parent)
            if path.exists():
                return
            with self._making:
                count = sum(file.name.endswith(SUFFIX) for file in path.parent.iterdir())
                if count < count_max or path.exists():
                    private.make_file(path)
                    return
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror}") from error
        raise LimitExceeded(f"the account has {count} databases, the limit is {count_max}")


def _frame(call: Call) -> bytes:
    try:
        framed = frame(call)
    except OverflowError:
        raise BadStatement("an integer parameter has more than 64 bits") from None
    except UnicodeEncodeError as error:
        raise BadStatement(
            f"a statement or parameter is not valid Unicode at character {error.start}"
        ) from None
    if len(framed) > CALL_BYTES_MAX:
        raise BadStatement(
            f"the statements and their parameters have {len(framed)} bytes, the limit is "
            f"{CALL_BYTES_MAX}"
        )
    return framed


def _stopped() -> Unavailable:
    return Unavailable("the databases have been stopped, as the server ends", retry_after=1.0)


def _close_all(processes: set[Process]) -> None:
    for process in processes:
        process.close()
