"""Turns of SQL calls, bounded for each database, each account and over all.

One call at a time runs for a database, as SQLite lets nobody else write it, and half of the
processes for an account. The rest wait in order, but a call that may run goes before one that may
not. So neither a database nor an account with long statements holds up another's. A call that would
wait too long, or with too many others, is refused.

Used from the event loop alone; waiting takes no thread.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from vicinal.errors import Overloaded


@dataclass(frozen=True, slots=True)
class TurnBounds:
    """Numbers of calls that may run and wait.

    Attributes:
        running_max: Running calls of all accounts.
        account_running_max: Running calls of one account.
        waiting_max: Waiting calls of all accounts; ours.
        account_waiting_max: Waiting calls of one account; ours.
        wait_s_max: Seconds that a call may wait; ours: three calls of the longest duration.
    """

    running_max: int
    account_running_max: int
    waiting_max: int = 256
    account_waiting_max: int = 128
    wait_s_max: float = 30.0


@dataclass(eq=False, slots=True)
class _Waiting:
    account: str
    database: str
    begins: asyncio.Future[None]


class Turns:
    """Gives turns to calls."""

    def __init__(self, bounds: TurnBounds) -> None:
        self._bounds = bounds
        self._databases: set[tuple[str, str]] = set()
        self._accounts: Counter[str] = Counter()
        self._waiting: deque[_Waiting] = deque()

    @asynccontextmanager
    async def turn(self, account: str, database: str) -> AsyncIterator[None]:
        """Wait for a turn and keep it for the block.

        Raises:
            Overloaded: too many wait already, or it did not come in time.
        """
        if self._may_run(account, database):
            self._begin(account, database)
        else:
            await self._wait(account, database)
        try:
            yield
        finally:
            self._end(account, database)

    def _may_run(self, account: str, database: str) -> bool:
        return (
            len(self._databases) < self._bounds.running_max
            and self._accounts[account] < self._bounds.account_running_max
            and (account, database) not in self._databases
        )

    def _begin(self, account: str, database: str) -> None:
        self._databases.add((account, database))
        self._accounts[account] += 1

    def _end(self, account: str, database: str) -> None:
        self._databases.remove((account, database))
        self._accounts -= Counter((account,))
        for call in list(self._waiting):
            if self._may_run(call.account, call.database):
                self._waiting.remove(call)
                self._begin(call.account, call.database)
                call.begins.set_result(None)

    async def _wait(self, account: str, database: str) -> None:
        self._refuse_too_many(account)
        waiting = _Waiting(account, database, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(self._bounds.wait_s_max):
                # Shielded, so that whether the turn has begun is known when waiting is given up.
                await asyncio.shield(waiting.begins)
        except BaseException as error:
            if waiting.begins.done():
                self._end(account, database)
            else:
                self._waiting.remove(waiting)
            if isinstance(error, TimeoutError):
                raise Overloaded(
                    f"database {database!r} had no turn within {self._bounds.wait_s_max:g} "
                    "seconds, as other statements run",
                    retry_after=1.0,
                    queue="database",
                ) from None
            raise

    def _refuse_too_many(self, account: str) -> None:
        bounds = self._bounds
        own_count = sum(call.account == account for call in self._waiting)
        if len(self._waiting) >= bounds.waiting_max:
            calls = f"{bounds.waiting_max} calls"
        elif own_count >= bounds.account_waiting_max:
            calls = f"{own_count} calls of account {account!r}"
        else:
            return
        raise Overloaded(
            f"{calls} wait for their databases, the most there may be",
            retry_after=1.0,
            queue="database",
        )
