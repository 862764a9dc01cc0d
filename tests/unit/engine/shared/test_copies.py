"""What is done to the folder of one copy at the same time as something else."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import DOCS, Record, create, found, insert, vector
from tests.support.ledgers import WITHIN_S
from tests.support.postgres import fresh_schema, server
from tests.support.waiting import wait_until
from vicinal.engine import copying
from vicinal.engine.copying import CopiedIndex
from vicinal.engine.options import EngineOptions
from vicinal.engine.shared import copies as copies_module
from vicinal.engine.shared.catalog import SharedCatalogEntry
from vicinal.engine.shared.copies import Copies
from vicinal.engine.shared.engine import SharedEngine, SharedOptions
from vicinal.errors import IndexNotFound
from vicinal.model import IndexAddress, Query

EAGER_S = 0.5  # within which something is done that should wait, and is not, mostly
KEEP_HOUSE = Copies.keep_house
OpenNode = Callable[..., SharedEngine]
OTHER = IndexAddress("acme", "other")
ALL = Query(top_k=100, vector=vector(0, 0))


class Hold:
    """Holds the first call of a function until it is let go."""

    def __init__(self, real: Callable[..., Any]) -> None:
        self._real = real
        self._first = threading.Lock()
        self.begun, self.goes_on, self.ended = (threading.Event() for _ in range(3))

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if not self._first.acquire(blocking=False):
            return self._real(*arguments, **keywords)
        self.begun.set()
        assert self.goes_on.wait(WITHIN_S)
        try:
            return self._real(*arguments, **keywords)
        finally:
            self.ended.set()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any, str], Hold]]:
    """Hold the first call of a function of a module or a class."""
    holds: list[Hold] = []

    def hold(owner: Any, name: str) -> Hold:
        held = Hold(getattr(owner, name))
        # A function, as it may become a method.
        monkeypatch.setattr(owner, name, lambda *args, **keywords: held(*args, **keywords))
        holds.append(held)
        return held

    yield hold
    for each in holds:
        each.goes_on.set()


@pytest.fixture
def open_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenNode]:
    """Open a node with two copies, which looks after them only when it is told to."""
    monkeypatch.setattr(Copies, "keep_house", lambda copies: None)
    nodes: list[SharedEngine] = []

    def open_(copies_bytes_max: int | None = None, **index: Any) -> SharedEngine:
        options = SharedOptions(
            server().dsn,
            fresh_schema(),
            open_wait_s=WITHIN_S,
            copies_bytes_max=copies_bytes_max,
            index=EngineOptions(**index),
        )
        node = SharedEngine.open(tmp_path / "node", options)
        nodes.append(node)
        for address in (DOCS, OTHER):
            create(node, address)
            insert(node, Record("a", [1, 1]), address=address)
        return node

    yield open_
    for node in nodes:
        node.close()


@pytest.fixture
def node(open_node: OpenNode) -> SharedEngine:
    """A node that has room for one copy only."""
    return open_node(copies_bytes_max=1)


def copies_of(node: SharedEngine) -> Copies:
    return node._copies  # noqa: SLF001 - nothing else holds its threads at a moment of choice


def keep_house(node: SharedEngine) -> None:
    KEEP_HOUSE(copies_of(node))


def folder_of(tmp_path: Path, node: SharedEngine) -> Path:
    return tmp_path / "node" / "copies" / node.get_index(DOCS).id


@pytest.mark.parametrize("at", [(CopiedIndex, "close"), (copies_module, "_remove")])
def test_a_copy_that_is_asked_for_while_it_is_evicted_is_filled_again(
    node: SharedEngine,
    tmp_path: Path,
    threads: ThreadPoolExecutor,
    hold: Callable[[Any, str], Hold],
    at: tuple[Any, str],
) -> None:
    held = hold(*at)
    evicting = threads.submit(keep_house, node)
    assert held.begun.wait(WITHIN_S)
    count = node.counts.fills

    asked = threads.submit(found, node, ALL)
    wait([asked], EAGER_S)
    held.goes_on.set()

    assert asked.result(WITHIN_S) == ["a"]
    evicting.result(WITHIN_S)
    assert node.counts.fills == count + 1
    assert copying.is_filled(folder_of(tmp_path, node))
    insert(node, Record("b", [2, 2]))
    assert found(node, ALL) == ["a", "b"]


def test_a_copy_that_is_asked_for_while_it_is_closed_for_want_of_use_opens_after_that(
    open_node: OpenNode, threads: ThreadPoolExecutor, hold: Callable[[Any, str], Hold]
) -> None:
    node = open_node(open_indexes_max=1)
    count = node.counts.fills
    held = hold(CopiedIndex, "close")
    closing = threads.submit(keep_house, node)
    assert held.begun.wait(WITHIN_S)

    asked = threads.submit(found, node, ALL)
    wait([asked], EAGER_S)
    held.goes_on.set()

    assert asked.result(WITHIN_S) == ["a"]
    closing.result(WITHIN_S)
    assert node.counts.fills == count


def test_a_copy_that_is_being_filled_is_not_evicted(
    node: SharedEngine, threads: ThreadPoolExecutor, hold: Callable[[Any, str], Hold]
) -> None:
    keep_house(node)  # OTHER alone has room
    held = hold(copying, "fill")
    asked = threads.submit(found, node, ALL)
    assert held.begun.wait(WITHIN_S)
    found(node, ALL, OTHER)  # used later
    count = node.counts.evictions

    keep_house(node)

    assert node.counts.evictions == count
    held.goes_on.set()
    assert asked.result(WITHIN_S) == ["a"]


def test_an_index_that_is_dropped_while_it_is_copied_leaves_no_folder(
    node: SharedEngine,
    tmp_path: Path,
    threads: ThreadPoolExecutor,
    hold: Callable[[Any, str], Hold],
) -> None:
    keep_house(node)
    folder = folder_of(tmp_path, node)
    assert not folder.exists()
    held = hold(copying, "fill")
    asked = threads.submit(found, node, ALL)
    assert held.begun.wait(WITHIN_S)

    node.delete_index(DOCS)

    with pytest.raises(IndexNotFound):
        asked.result(WITHIN_S)
    assert not held.goes_on.is_set()  # it is told at once
    held.goes_on.set()
    assert held.ended.wait(WITHIN_S)
    wait_until(lambda: not folder.exists())


def test_a_copy_for_an_index_that_is_gone_meanwhile_goes_with_it(
    node: SharedEngine,
    tmp_path: Path,
    threads: ThreadPoolExecutor,
    hold: Callable[[Any, str], Hold],
) -> None:
    """Of a caller that knew the index from before."""
    entry = SharedCatalogEntry(DOCS.account, node.get_index(DOCS))
    folder = folder_of(tmp_path, node)
    held = hold(CopiedIndex, "close")
    node.delete_index(DOCS)
    assert held.begun.wait(WITHIN_S)

    asked = threads.submit(copies_of(node).opened, entry, WITHIN_S)
    wait([asked], EAGER_S)
    held.goes_on.set()

    with pytest.raises(IndexNotFound):
        asked.result(WITHIN_S)
    wait_until(lambda: not folder.exists())
