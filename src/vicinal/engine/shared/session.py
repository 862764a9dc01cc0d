"""One connection in use: statements, transactions and notices, each of which ends.

Connecting is left to `database`. A connection on which something did not end in time is cut off,
never cancelled: a cancelled COMMIT would be reported as done before its standby has it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, TypeVar

import asyncpg

from vicinal.engine.shared.failures import DRIVER_ERRORS, RETRY_AFTER_S, Lost, translated

STATEMENT_TIMEOUT_S = 10.0  # of one statement, also in the server; ours
BEGIN_TIMEOUT_S = 3.0  # takes no lock and no disk: a server that takes longer hangs; ours
LOCK_TIMEOUT_S = 5.0  # how long a statement waits for a lock of another node; ours
IDLE_TIMEOUT_S = 10.0  # a node that hangs in a transaction holds its locks so long; ours

T = TypeVar("T")


class Statements:
    """The SQL of one schema, whose tables are written ``vicinal.table`` in the code.

    Attributes:
        schema: Its name.
        count: Statements that have ended.
        seconds: Of all of them.
    """

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self.count = 0
        self.seconds = 0.0
        self._prefix = f"{quoted(schema)}."
        self._known: dict[str, str] = {}

    def sql(self, text: str) -> str:
        """Return a statement with the schema's name in place of ``vicinal.``."""
        statement = self._known.get(text)
        if statement is None:
            statement = text.replace("vicinal.", self._prefix)
            if len(self._known) < 1_000:
                self._known[text] = statement
        return statement


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Bounds of one transaction in seconds: of a statement, a lock wait, and a pause between two
    statements."""

    statement_s: float = STATEMENT_TIMEOUT_S
    lock_s: float = LOCK_TIMEOUT_S
    idle_s: float = IDLE_TIMEOUT_S


class Session:
    """One connection in use. For the event loop of its database alone.

    Args:
        connection: The driver's.
        statements: Of the schema.
        timeout_s: Bound of a statement here, in seconds.

    Every method may raise:

    Raises:
        Lost: the connection is lost, or the server gave the transaction up.
        ResourceExhausted: the server's disk is full.
        Unavailable: the server refuses.
        Corruption: the server has found damage.
    """

    def __init__(self, connection: Any, statements: Statements, timeout_s: float) -> None:
        self._connection = connection
        self._statements = statements
        self._timeout_s = timeout_s
        self.is_committing = False
        """Whether COMMIT has been sent: from then on the outcome may be unknown."""

    def sql(self, text: str) -> str:
        """Return a statement with the schema's name in place of ``vicinal.``."""
        return self._statements.sql(text)

    async def fetch(self, sql: str, *arguments: object) -> Sequence[Any]:
        """Return all rows of a statement."""
        rows: Sequence[Any] = await self._within(
            self._connection.fetch(self._statements.sql(sql), *arguments)
        )
        return rows

    async def fetchrow(self, sql: str, *arguments: object) -> Any:
        """Return the first row of a statement, None when there is none."""
        return await self._within(self._connection.fetchrow(self._statements.sql(sql), *arguments))

    async def execute(self, sql: str, *arguments: object) -> str:
        """Run a statement; without arguments, several. Return the command tag of the last."""
        tag: str = await self._within(
            self._connection.execute(self._statements.sql(sql), *arguments)
        )
        return tag

    async def copy(
        self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> None:
        """Add rows to a table of the schema by COPY, in binary."""
        await self._within(
            self._connection.copy_records_to_table(
                table, schema_name=self._statements.schema, columns=columns, records=rows
            )
        )

    async def cursor(self, sql: str, *arguments: object) -> Callable[[int], Awaitable[Any]]:
        """Return a function that fetches the next rows of a query, of a transaction only."""
        cursor = await self._within(self._connection.cursor(self._statements.sql(sql), *arguments))
        return lambda count: self._within(cursor.fetch(count))

    async def listen(self, channel: str, on_notice: Callable[[str], None]) -> None:
        """Call a function in the loop's thread with each notice on a channel from now on."""
        listener = partial(_pass_on, on_notice)
        await self._within(self._connection.add_listener(channel, listener))

    async def wait_until_lost(self) -> NoReturn:
        """Keep the connection until it is lost, or for as long as the caller waits."""
        is_lost = asyncio.Event()
        self._connection.add_termination_listener(lambda _connection: is_lost.set())
        try:
            if not self._connection.is_closed():
                await is_lost.wait()
        finally:
            self._connection.terminate()  # nobody else may have one that listens
        raise Lost("the connection is lost", retry_after=RETRY_AFTER_S)

    async def begin(self, timeouts: Timeouts, *, is_durable: bool, mode: str) -> None:
        """Begin a transaction; all its bounds travel with BEGIN, as poolers allow no other way."""
        async with self._limited(BEGIN_TIMEOUT_S):
            await self.execute(
                f"BEGIN {mode};"
                f"SET LOCAL statement_timeout = {round(timeouts.statement_s * 1e3)};"
                f"SET LOCAL lock_timeout = {round(timeouts.lock_s * 1e3)};"
                f"SET LOCAL idle_in_transaction_session_timeout = {round(timeouts.idle_s * 1e3)};"
                f"SET LOCAL synchronous_commit = {'on' if is_durable else 'off'}"
            )

    async def commit(self) -> None:
        """End the transaction; durable, on the standbys that the server waits for as well."""
        warnings: list[str] = []

        def listen(_connection: object, message: Any) -> None:
            # The one warning that COMMIT can have: somebody cancelled its wait for a standby.
            if message.severity_en in ("WARNING", None):
                warnings.append(message.message)

        self.is_committing = True
        self._connection.add_log_listener(listen)
        try:
            tag = await self.execute("COMMIT")
        finally:
            with suppress(asyncpg.InterfaceError):
                self._connection.remove_log_listener(listen)
        if tag != "COMMIT":
            self.is_committing = False
            raise Lost(f"the database answered COMMIT with {tag}", retry_after=RETRY_AFTER_S)
        if warnings:
            raise Lost(f"the database committed and warns: {warnings[0]}", retry_after=1.0)

    @asynccontextmanager
    async def _limited(self, timeout_s: float) -> AsyncIterator[None]:
        before, self._timeout_s = self._timeout_s, timeout_s
        try:
            yield
        finally:
            self._timeout_s = before

    async def _within(self, call: Awaitable[T]) -> T:
        """Wait for one call; cut the connection off when it does not end in time."""
        started = time.monotonic()
        is_late = False

        def cut() -> None:
            nonlocal is_late
            is_late = True
            self._connection.terminate()

        timer = asyncio.get_running_loop().call_later(self._timeout_s, cut)
        try:
            return await call
        except DRIVER_ERRORS as error:
            if is_late:
                raise Lost(
                    f"the database did not answer within {self._timeout_s:g} s",
                    retry_after=RETRY_AFTER_S,
                ) from error
            raise translated(error) from error
        finally:
            timer.cancel()
            self._statements.count += 1
            self._statements.seconds += time.monotonic() - started


def quoted(name: str) -> str:
    """Return a name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def _pass_on(
    on_notice: Callable[[str], None], _connection: object, _pid: int, _channel: str, notice: str
) -> None:
    on_notice(notice)
