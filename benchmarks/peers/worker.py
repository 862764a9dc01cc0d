"""A contender's process: opens one database and does what the benchmark says.

Commands come as JSON, one a line, on standard input, and each is answered with one line on
standard output; arrays go by files. Only calls of the database are timed: making its kind
of query out of an array beforehand, and row numbers out of its kind of answer afterwards,
are not.

    ready                                            once everything is imported
    open    folder, dimensions, metric, options, fields
    insert  values, first, count, metadata           -> seconds, cpu_seconds
    build                                            -> seconds, cpu_seconds
    query   queries, k, setting, where, fetch, threads, budget_s, count, during_build, answers
                                                     -> the numbers of `measure.Timing`
    close

This runs in the environment of the contender: standard library and numpy only.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TextIO

import numpy as np

from benchmarks.measure import Floats, run

Setting = Mapping[str, Any]
Document = dict[str, Any]

_WARM_UP = 20
_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Opening:
    """Settings that a database is opened with.

    Attributes:
        folder: An empty one, or that of a database closed before.
        dimensions: Length of every vector.
        metric: ``cosine``, ``euclidean`` or ``dot-product``.
        options: Of this contender, for building.
        fields: Metadata with integers that filters will name. There is a ``title``, too,
            that they never name. None: rows have no metadata.
    """

    folder: str
    dimensions: int
    metric: str
    options: Mapping[str, Any]
    fields: tuple[str, ...]


class Database(Protocol):
    """One contender. Row numbers are the ids, in the form that the contender likes best."""

    def insert(self, first: int, values: Floats, documents: Sequence[Document] | None) -> None:
        """Add rows `first`, `first` + 1 and so on."""
        ...

    def build(self) -> None:
        """Do what makes searching fast, until there is nothing more to do."""
        ...

    def tune(self, setting: Setting) -> None:
        """Use a setting of the search from now on."""
        ...

    def asked(self, query: Floats) -> Any:
        """Return a query in the form that `search` takes fastest. Not timed."""
        ...

    def search(self, query: Any, k: int, where: tuple[str, int] | None, *, fetch: bool) -> Any:
        """Return the k nearest: ids and scores, and all metadata when `fetch` says so."""
        ...

    def rows(self, result: Any) -> list[int]:
        """Return the row numbers in what `search` returned. Not timed."""
        ...

    def close(self) -> None:
        """Close files, so that another process can open them."""
        ...


def main(open_database: Callable[[Opening], Database]) -> None:
    """Answer commands until ``close`` or the end of standard input."""
    answers = _own_standard_output()
    database: Database | None = None
    for line in sys.stdin:
        command = json.loads(line)
        name = command.pop("do")
        if name == "ready":
            answer: dict[str, Any] = {}
        elif name == "open":
            command["fields"] = tuple(command["fields"])
            database = open_database(Opening(**command))
            answer = {}
        else:
            assert database is not None
            answer = _COMMANDS[name](database, **command)
        print(json.dumps(answer), file=answers, flush=True)
        if name == "close":
            return


def _own_standard_output() -> TextIO:
    """Keep standard output for answers; what libraries print there goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _insert(
    database: Database, values: str, first: int, count: int, metadata: str | None, batch: int = 0
) -> dict[str, Any]:
    rows = np.load(values, mmap_mode="r")
    attributes = None if metadata is None else np.load(metadata, mmap_mode="r")
    seconds = cpu_seconds = 0.0
    step = batch or _BATCH
    for start in range(first, first + count, step):
        stop = min(start + step, first + count)
        chunk = np.array(rows[start:stop])
        documents = None if attributes is None else _documents(attributes[start:stop])
        times = _timed(partial(database.insert, start, chunk, documents))
        seconds, cpu_seconds = seconds + times["seconds"], cpu_seconds + times["cpu_seconds"]
    return {"seconds": seconds, "cpu_seconds": cpu_seconds}


def _documents(attributes: Any) -> list[Document]:
    lists = {name: attributes[name].tolist() for name in attributes.dtype.names}
    lists["title"] = [title.decode(errors="ignore") for title in lists["title"]]
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _build(database: Database) -> dict[str, Any]:
    return _timed(database.build)


def _timed(work: Callable[[], None]) -> dict[str, float]:
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}


def _query(
    database: Database,
    *,
    queries: str,
    k: int,
    setting: Setting,
    where: Mapping[str, Any] | None,
    fetch: bool,
    threads: int,
    budget_s: float,
    count: int,
    during_build: bool,
    answers: str,
) -> dict[str, Any]:
    database.tune(setting)
    searches = _searches(database, np.load(queries)[:count], k, where, fetch=fetch)
    for search in searches[:_WARM_UP]:
        search()
    if during_build:
        builder = threading.Thread(target=database.build)
        builder.start()
        timing, results = run(
            searches, budget_s=budget_s, is_over=lambda: not builder.is_alive(), threads=threads
        )
        builder.join()
    else:
        timing, results = run(searches, budget_s=budget_s, threads=threads)
    rows = np.full((len(results), k), -1, np.int64)
    for number, result in enumerate(results):
        row = database.rows(result)
        rows[number, : len(row)] = row
    np.save(answers, rows)
    return timing.as_json()


def _searches(
    database: Database, queries: Floats, k: int, where: Mapping[str, Any] | None, *, fetch: bool
) -> list[Callable[[], Any]]:
    forms = [database.asked(query) for query in queries]
    terms: list[tuple[str, int] | None] = [None] * len(forms)
    if where is not None:
        labels = np.load(where["wanted"])[: len(forms)].tolist()
        terms = [(where["name"], label) for label in labels]
    return [
        partial(database.search, form, k, term, fetch=fetch)
        for form, term in zip(forms, terms, strict=True)
    ]


def _close(database: Database) -> dict[str, Any]:
    database.close()
    return {}


_COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "insert": _insert,
    "build": _build,
    "query": _query,
    "close": _close,
}
