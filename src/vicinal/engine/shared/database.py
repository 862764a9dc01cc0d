"""Connections to one PostgreSQL database, on an event loop in a thread of its own.

Every call ends: connecting, each statement and each COMMIT have a time-out here, and statements and
lock waits have one in the server, so that neither a hung server nor a hung node holds anything for
long. A connection on which something did not end in time is cut off, never cancelled: a cancelled
COMMIT would be reported as done before its standby has it.

SQL names tables as ``vicinal.table``; `session.Statements` puts the schema of the setting there.

This module knows connections and errors, not what the tables mean.
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import asynccontextmanager, suppress
from enum import Enum
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from vicinal.engine.shared.failures import (
    DRIVER_ERRORS,
    RETRY_AFTER_S,
    Lost,
    given_up,
    translated,
)
from vicinal.engine.shared.session import STATEMENT_TIMEOUT_S, Session, Statements, Timeouts
from vicinal.errors import Error, Unavailable

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 3.0  # of one host; ours
READ_TIMEOUT_S = 3.0  # of a look-up, which takes milliseconds; ours
END_WITHIN_S = 10.0  # of all calls when a database is closed, whose connections are cut off; ours
RETRY_PAUSE_S = 0.05  # between two attempts at the same transaction; ours
SERVER_VERSION_MIN = 150_000

_DEFAULT_PORT = 5432

T = TypeVar("T")


class Use(Enum):
    """Purpose of a connection. Each use has connections of its own, so none waits for another."""

    APPEND = "append"
    UPLOAD = "upload"
    CHECKPOINT = "checkpoint"
    FILL = "fill"
    FOLLOW = "follow"
    READ = "read"
    POLL = "poll"
    NOTIFY = "notify"
    LISTEN = "listen"


CONNECTIONS_MAX = {
    Use.APPEND: 8,
    Use.UPLOAD: 2,
    Use.CHECKPOINT: 2,
    Use.FILL: 2,
    Use.FOLLOW: 4,
    Use.READ: 4,
    Use.POLL: 1,
    Use.NOTIFY: 1,
    Use.LISTEN: 1,
}
"""Most connections of one node at a time, for each use; ours."""


class PostgresDatabase:
    """One PostgreSQL database and the schema in it. Thread-safe: its coroutines run in one thread.

    Args:
        dsn: ``postgresql://user:password@host:port,host:port/database``; the first host that takes
            writes is used.
        schema: Where the tables are.
        statement_timeout_s: Bound of a statement that changes something.

    Attributes:
        statements: The SQL of the schema, and how much of it has run.
        lost_count: Connections that were lost: after each another server may answer, which lacks
            the last that was written.

    Raises:
        Unavailable: the DSN cannot be one.
    """

    def __init__(
        self,
        dsn: str,
        schema: str = "vicinal",
        *,
        statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    ) -> None:
        self.statements = Statements(schema)
        self._dsn = dsn
        self._hosts = hosts(dsn)
        self._timeouts = Timeouts(statement_s=statement_timeout_s)
        self.lost_count = 0
        self._idle: list[Any] = []
        self._used: set[Any] = set()
        self._calls: set[Future[Any]] = set()
        self._closing = threading.Lock()
        self._is_closed = False
        # Not uvloop's, whose close() was seen to wait for ever, where no signal is heard.
        self._loop: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop()
        self._free = {use: asyncio.Semaphore(count) for use, count in CONNECTIONS_MAX.items()}
        self._thread = threading.Thread(target=self._serve, name="vicinal-database", daemon=True)
        self._thread.start()

    # From any thread.

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine in the loop's thread.

        Raises:
            Unavailable: the database is closed.
        """
        with self._closing:
            if not self._is_closed:
                call = asyncio.run_coroutine_threadsafe(work, self._loop)
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
                return call
        work.close()
        raise Unavailable("the engine is closed")

    def run_coroutine(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop's thread and return what it returns."""
        try:
            return self.submit(work).result()
        except CancelledError:
            raise Unavailable("the engine is closed") from None

    def post(self, work: Callable[[], object]) -> None:
        """Call a function in the loop's thread, soon; not at all once the database is closed."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """Cut off all connections, end all coroutines and the thread. Again does nothing.

        Who waits for a coroutine is told, also when that does not end within `END_WITHIN_S`.
        """
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
        # After all that was submitted before, so that it is ended, too.
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for call in list(self._calls):
            call.cancel()

    @property
    def schema(self) -> str:
        """The name of the schema."""
        return self.statements.schema

    # In the loop's thread.

    @asynccontextmanager
    async def session(self, use: Use, timeout_s: float | None = None) -> AsyncIterator[Session]:
        """Lend a connection on which each statement is a transaction, bounded in seconds.

        Raises:
            Lost: none can be had.
        """
        async with self._free[use]:
            connection = await self._connection()
            if timeout_s is None:
                is_short = use in (Use.READ, Use.POLL, Use.LISTEN)
                timeout_s = READ_TIMEOUT_S if is_short else self._timeouts.statement_s
            session = Session(connection, self.statements, timeout_s)
            try:
                yield session
            except Lost:
                self._cut(connection)
                raise
            except Exception:
                if connection.is_closed() or connection.is_in_transaction():
                    connection.terminate()
                raise
            except BaseException:
                # Cancelled, perhaps in a statement: whether the server answers is not waited for.
                connection.terminate()
                raise
            finally:
                self._used.discard(connection)
                if self._is_closed:
                    connection.terminate()  # `_end` may have come too early to know of it
                elif not connection.is_closed():
                    self._idle.append(connection)

    async def read(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Do something that changes nothing; once more where a connection turns out to be lost."""
        try:
            async with self.session(Use.READ) as session:
                return await work(session)
        except Lost:
            async with self.session(Use.READ) as session:
                return await work(session)

    @asynccontextmanager
    async def transaction(
        self,
        use: Use,
        *,
        is_durable: bool = True,
        mode: str = "",
        timeouts: Timeouts | None = None,
    ) -> AsyncIterator[Session]:
        """Lend a connection for one transaction, which is committed unless the body raises.

        Args:
            use: The purpose of the connection.
            is_durable: Whether COMMIT waits for the disk and the standbys.
            mode: The words after BEGIN.
            timeouts: Other bounds than usual.
        """
        timeouts = timeouts or self._timeouts
        async with self.session(use, timeouts.statement_s) as session:
            await session.begin(timeouts, is_durable=is_durable, mode=mode)
            try:
                yield session
                await session.commit()
            except Lost:
                raise  # `session` cuts the connection off, also where this is cancelled
            except Exception:
                with suppress(Error):
                    await session.execute("ROLLBACK")
                raise

    async def persist(
        self, work: Callable[[Session, bool], Awaitable[T]], use: Use, until: float
    ) -> T:
        """Do a transaction, again and again on other connections while they are lost.

        Args:
            work: The transaction. It is told whether it may have been committed before, and must
                then find out.
            use: The purpose of the connection.
            until: When to stop, in monotonic seconds.

        Raises:
            Unavailable: time is up; the message says when the outcome is not known.
        """
        may_be_done = False
        while True:
            session: Session | None = None
            try:
                async with self.transaction(use) as session:
                    return await work(session, may_be_done)
            except Lost as error:
                may_be_done = may_be_done or (session is not None and session.is_committing)
                if time.monotonic() + RETRY_PAUSE_S >= until:
                    raise given_up(error, may_be_done=may_be_done) from error
            await asyncio.sleep(RETRY_PAUSE_S)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _connection(self) -> Any:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                self._used.add(connection)
                return connection
            self.lost_count += 1
        if self._is_closed:
            raise Unavailable("the engine is closed")
        connection = await self._connect()
        self._used.add(connection)
        return connection

    async def _connect(self) -> Any:
        """Connect to the first host that takes writes, the one that did so last before others."""
        last: Error | None = None
        for host, port in list(self._hosts):
            override = {} if host is None else {"host": host, "port": port}
            try:
                connection = await asyncpg.connect(
                    self._dsn,
                    timeout=CONNECT_TIMEOUT_S,
                    target_session_attrs="read-write",
                    server_settings={"application_name": "vicinal"},
                    **override,
                )
            except asyncpg.TargetServerAttributeNotMatched as error:
                last = Lost(f"{host}:{port} takes no writes: {error}", retry_after=RETRY_AFTER_S)
                continue
            except DRIVER_ERRORS as error:
                last = translated(error, where=f"{host or 'its host'}:{port}")
                last.__cause__ = error
                continue
            # The others stay in order.
            self._hosts.sort(key=lambda address: address != (host, port))
            return connection
        assert last is not None
        raise last

    def _cut(self, connection: Any) -> None:
        """Cut off a lost connection, and idle ones of the same server with it."""
        self.lost_count += 1
        connection.terminate()
        for idle in self._idle:
            idle.terminate()
        self._idle.clear()

    async def _end(self) -> None:
        for connection in [*self._idle, *self._used]:
            connection.terminate()
        self._idle.clear()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=END_WITHIN_S)
            for task in unfinished:
                logger.error("a call to the database does not end: %r", task)


def hosts(dsn: str) -> list[tuple[str | None, int]]:
    """Return the hosts of a DSN with their ports; a host of None is libpq's default.

    Raises:
        Unavailable: it is no DSN of PostgreSQL. The message does not repeat it: it has a password.
    """
    try:
        parts = urlsplit(dsn)
        if parts.scheme not in ("postgresql", "postgres"):
            raise ValueError("it does not begin with postgresql://")
        query = parse_qs(parts.query)
        named = query.get("host", [""])[-1] or parts.netloc.rpartition("@")[2]
        ports = query.get("port", [""])[-1].split(",")
        addresses: list[tuple[str | None, int]] = []
        for number, address in enumerate(named.split(",")):
            host, port = _host_and_port(unquote(address))
            given = ports[min(number, len(ports) - 1)]
            addresses.append((host or None, _port(port or given or _DEFAULT_PORT)))
    except ValueError as error:
        raise Unavailable(f"the setting 'database' is no PostgreSQL URL: {error}") from error
    return addresses


def _port(text: str | int) -> int:
    try:
        return int(text)
    except ValueError:  # it may be a part of a password with a slash in it
        raise ValueError(
            "a port is no number; in a user or password the characters / ? # @ : [ ] are written "
            "with percent signs, like %2F"
        ) from None


def _host_and_port(text: str) -> tuple[str, str]:
    if text.startswith("/"):
        return text, ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":")
    host, _, port = text.partition(":")
    return host, port
