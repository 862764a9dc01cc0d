"""The shared engine beside a dict, under any order of calls and reopenings.

One node that stays, one that is new and empty at every opening, and two that are asked in turns.
Listings of ids go on through all of it: their cursors are good on any node.

An opening, with the reading of everything that follows it, takes as long as fifty calls:
connections are made, and copies are filled. So there are some calls between two of them; else half
of all steps would be openings.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis.stateful import invariant, precondition, rule

from tests.property.test_engine_machine import OPTIONS, EngineMachine, run
from tests.support.engines import APPLIED_WITHIN_S
from tests.support.postgres import fresh_schema, need_postgres, server
from tests.support.waiting import wait_until
from vicinal.engine.options import EngineOptions
from vicinal.engine.shared import follower
from vicinal.engine.shared.engine import SharedEngine, SharedOptions
from vicinal.errors import IndexNotFound
from vicinal.model import IndexAddress, Scan, VectorPage


@pytest.fixture(autouse=True)
def _quick_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    need_postgres()
    monkeypatch.setattr(follower, "CHECKPOINT_AFTER_S", 0.02)
    monkeypatch.setattr(follower, "HOUSEKEEPING_EVERY_S", 0.05)


STEPS_BETWEEN_OPENINGS = 5


class OneNode(EngineMachine):
    """A node that finds its copies again."""

    def __init__(self) -> None:
        super().__init__()
        self.schema = fresh_schema()
        self.steps = 0  # since it was opened

    @invariant()
    def count_steps(self) -> None:
        self.steps += 1

    @precondition(lambda self: self.steps >= STEPS_BETWEEN_OPENINGS)
    @rule(options=OPTIONS)
    def close_and_open(self, options: EngineOptions) -> None:
        super().close_and_open(options)
        self.steps = 0

    def open(self, options: EngineOptions) -> Any:
        return self.open_node(self.folder, options)

    def open_node(self, folder: Path, options: EngineOptions) -> SharedEngine:
        shared = SharedOptions(
            server().dsn,
            self.schema,
            open_wait_s=APPLIED_WITHIN_S,
            index=replace(options, idle_s=0.002),
        )
        return SharedEngine.open(folder, shared)

    def reopen(self, options: EngineOptions) -> None:
        listing = self.listing
        super().reopen(options)
        self.listing = listing

    # A copy is nothing that a crash could lose.
    be_killed_and_open = None  # type: ignore[assignment]  # a rule of the other machine only
    crash_during_a_call_and_open = None  # type: ignore[assignment]


class NewNodes(OneNode):
    """A node that is new, with an empty folder, at every opening."""

    def open(self, options: EngineOptions) -> Any:
        self.folder = self.new_folder()
        return super().open(options)


class Alternating:
    """Two nodes, asked in turns. What waits on one for a mutation waits for both."""

    def __init__(self, nodes: list[SharedEngine]) -> None:
        self.nodes = nodes
        self._turns = cycle(nodes)
        self._cursors: dict[str, SharedEngine] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(next(self._turns), name)
        return found

    def list_vectors(
        self, address: IndexAddress, scan: Scan, count: int, cursor: str | None
    ) -> VectorPage:
        """Ask the node that has the listing; its cursors are not good on another."""
        node = next(self._turns) if cursor is None else self._cursors[cursor]
        page = node.list_vectors(address, scan, count, cursor)
        if page.next_cursor is not None:
            self._cursors[page.next_cursor] = node
        return page

    def delete_index(self, address: IndexAddress) -> None:
        next(self._turns).delete_index(address)
        # Others hear of it at their next poll.
        for node in self.nodes:
            wait_until(lambda node=node: not has(node, address))  # type: ignore[misc]

    def close(self) -> None:
        for node in self.nodes:
            node.close()


def has(node: SharedEngine, address: IndexAddress) -> bool:
    try:
        node.get_index(address)
    except IndexNotFound:
        return False
    return True


class TwoNodes(OneNode):
    """Two nodes, one of which is new at every opening."""

    def open(self, options: EngineOptions) -> Any:
        nodes = [
            self.open_node(self.folder, options),
            self.open_node(self.new_folder(), options),
        ]
        return Alternating(nodes)


@pytest.mark.parametrize("machine", [OneNode, NewNodes, TwoNodes])
def test_the_shared_engine_answers_as_the_dict_does(machine: type[OneNode]) -> None:
    run(machine, examples=6, steps=25)


@pytest.mark.slow
@pytest.mark.parametrize("machine", [OneNode, NewNodes, TwoNodes])
def test_the_shared_engine_answers_as_the_dict_does_for_long(machine: type[OneNode]) -> None:
    run(machine, examples=30, steps=40)
