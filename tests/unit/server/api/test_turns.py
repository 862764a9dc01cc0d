"""Turns are fair: who runs long holds up himself, and who waits is counted."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack

import pytest

from vicinal.errors import Overloaded
from vicinal.server.api.turns import TurnBounds, Turns


def turns(
    running: int = 4, of_account: int = 2, waiting: int = 8, of_account_waiting: int = 4
) -> Turns:
    return Turns(TurnBounds(running, of_account, waiting, of_account_waiting, wait_s_max=30.0))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Calls:
    """Calls that run until they are told to end."""

    def __init__(self, given: Turns) -> None:
        self.turns = given
        self.running: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, name: str) -> None:
        """Ask for a turn; the name is the account, a slash, the database and any letter."""
        self._ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._run(name))
        await settle()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self.tasks[name]
        await settle()

    async def _run(self, name: str) -> None:
        account, _, database = name.partition("/")
        async with self.turns.turn(account, database.partition("-")[0]):
            self.running.append(name)
            await self._ends[name].wait()
            self.running.remove(name)


def run(work: Coroutine[object, object, None]) -> None:
    asyncio.run(work)


def test_a_call_that_fails_gives_its_turn_back() -> None:
    async def work() -> None:
        given = turns(running=1)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                async with given.turn("a", "x"):
                    raise ZeroDivisionError
        calls = Calls(given)
        await calls.begin("a/x")
        assert calls.running == ["a/x"]
        await calls.end("a/x")

    run(work())


def test_a_database_runs_one_call_at_a_time_in_order() -> None:
    async def work() -> None:
        calls = Calls(turns())
        for name in ("a/x-1", "a/x-2", "a/x-3", "a/y-1"):
            await calls.begin(name)
        assert calls.running == ["a/x-1", "a/y-1"]
        await calls.end("a/x-1")
        assert calls.running == ["a/y-1", "a/x-2"]
        await calls.end("a/x-2")
        assert calls.running == ["a/y-1", "a/x-3"]
        await calls.end("a/x-3")
        await calls.end("a/y-1")
        assert calls.running == []

    run(work())


def test_an_account_has_its_share_and_another_does_not_wait_for_it() -> None:
    async def work() -> None:
        calls = Calls(turns(running=4, of_account=2))
        for name in ("a/1", "a/2", "a/3", "b/1", "b/2", "c/1"):
            await calls.begin(name)
        assert calls.running == ["a/1", "a/2", "b/1", "b/2"]
        await calls.end("b/1")  # a has its share: the next in order that may is c
        assert calls.running == ["a/1", "a/2", "b/2", "c/1"]
        await calls.end("a/1")
        assert calls.running == ["a/2", "b/2", "c/1", "a/3"]
        for name in list(calls.running):
            await calls.end(name)

    run(work())


def test_so_many_may_wait_of_an_account_and_of_all() -> None:
    async def work() -> None:
        calls = Calls(turns(running=2, of_account=1, waiting=3, of_account_waiting=2))
        for name in ("a/1", "a/2", "a/3"):
            await calls.begin(name)
        with pytest.raises(Overloaded, match="2 calls of account 'a' wait"):
            async with calls.turns.turn("a", "4"):
                pass
        for name in ("b/1", "b/2"):
            await calls.begin(name)
        with pytest.raises(Overloaded, match="3 calls wait"):
            async with calls.turns.turn("c", "1"):
                pass
        for name in ("a/1", "a/2", "a/3", "b/1", "b/2"):
            await calls.end(name)
        async with calls.turns.turn("c", "1"):
            pass

    run(work())


def test_who_gives_up_waiting_leaves_no_trace() -> None:
    async def work() -> None:
        calls = Calls(turns(running=1, of_account=1))
        for name in ("a/1", "b/1", "c/1"):
            await calls.begin(name)
        calls.tasks["b/1"].cancel()
        await settle()
        await calls.end("a/1")
        assert calls.running == ["c/1"]
        await calls.end("c/1")
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(calls.turns.turn("b", "1"))

    run(work())


def test_who_gives_up_as_the_turn_comes_gives_it_back() -> None:
    async def work() -> None:
        calls = Calls(turns(running=1, of_account=1))
        for name in ("a/1", "b/1", "c/1"):
            await calls.begin(name)
        ends = asyncio.create_task(calls.end("a/1"))
        for _ in range(10):
            await asyncio.sleep(0)
            if "a/1" not in calls.running:
                break
        assert calls.running == []  # the turn of b has begun, and it does not know yet
        calls.tasks["b/1"].cancel()
        await ends
        await settle()
        assert calls.running == ["c/1"]
        await calls.end("c/1")

    run(work())


def test_a_turn_that_does_not_come_in_time_is_refused() -> None:
    async def work() -> None:
        given = Turns(TurnBounds(1, 1, wait_s_max=0.02))
        async with given.turn("a", "1"):
            with pytest.raises(Overloaded, match=r"no turn within 0\.02 seconds") as caught:
                async with given.turn("b", "2"):
                    pass
        assert caught.value.retry_after == 1.0
        async with given.turn("b", "2"):
            pass

    run(work())
