"""The pool of threads that search without Python: it finds the same, keeps what its threads
read until they are done, and never waits for what cannot come."""

import gc
import os
import select
import shutil
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ann import binary_index
from tests.support.clusters import clustered
from vicinal.ann.base import Selection
from vicinal.ann.compiled import CompiledSearch, Plan
from vicinal.model import Floats, Metric
from vicinal.native.library import SOURCES, library
from vicinal.native.pool import SearchPool, SearchTask
from vicinal.native.structures import NO_MEMORY

pytestmark = pytest.mark.skipif(
    library() is None, reason="THE COMPILED SEARCH WAS NOT BUILT: there is no C compiler"
)

PLAN = Plan(k=10, margin=30, rescored_expected=200, rescored_min=40, rescored_max=6_400)
ALL = 1_000_000


@contextmanager
def pool(threads: int = 2, waiting_max: int = ALL) -> Iterator[SearchPool]:
    built = library()
    assert built is not None
    opened = SearchPool(built, threads, waiting_max)
    try:
        yield opened
    finally:
        opened.close()


def search_of(values: Floats) -> CompiledSearch:
    search = binary_index(values, Metric.COSINE).compiled
    assert search is not None
    return search


def collect(opened: SearchPool, done: list[int], count: int) -> None:
    """Collect until so many are done."""
    while len(done) < count:
        assert select.select([opened.descriptor], [], [], 30)[0], "nothing was told"
        opened.collect()


def rows_of(task: SearchTask) -> list[int]:
    found = task.candidates()
    assert found is not None
    rows: list[int] = found[0].tolist()
    return rows


def test_a_pool_finds_what_is_found_without_it() -> None:
    values = clustered(6_000, 64)
    search = search_of(values)
    done: list[int] = []
    alone = [search.task(each, PLAN, Selection(6_000)) for each in values[:300]]
    for task in alone:
        task.run()

    with pool() as opened:
        together = [search.task(each, PLAN, Selection(6_000)) for each in values[:300]]
        for place, task in enumerate(together):
            assert opened.put(task, lambda place=place: done.append(place))  # type: ignore[misc]
        collect(opened, done, 300)

        assert sorted(done) == list(range(300))
        assert [rows_of(each) for each in together] == [rows_of(each) for each in alone]
        assert all(
            0 < each.structure.cpu_seconds < 1 and 0 < each.seconds < 30 for each in together
        )


def test_tasks_that_nobody_waits_for_any_more_live_until_they_are_done() -> None:
    values = clustered(6_000, 64)
    search = search_of(values)
    done: list[int] = []
    with pool(threads=1) as opened:
        tasks = [search.task(each, PLAN, Selection(6_000)) for each in values[:200]]
        watched = [weakref.ref(each) for each in tasks]
        for task in tasks:
            opened.put(task, lambda: done.append(1))
        del task, tasks, search, values
        gc.collect()

        assert all(each() is not None for each in watched)
        collect(opened, done, 200)
        gc.collect()
        assert all(each() is None for each in watched)


def test_what_was_put_is_done_before_a_pool_closes() -> None:
    values = clustered(6_000, 64)
    search = search_of(values)
    tasks = [search.task(each, PLAN, Selection(6_000)) for each in values[:200]]
    with pool(threads=1) as opened:
        for task in tasks:
            opened.put(task, lambda: None)

    assert all(each.seconds > 0 for each in tasks)


def test_a_closed_pool_takes_nothing_and_closes_again() -> None:
    values = clustered(3_000, 64)
    with pool() as opened:
        opened.close()

        assert opened.is_closed
        assert not opened.put(
            search_of(values).task(values[0], PLAN, Selection(3_000)), lambda: None
        )
        opened.collect()


def test_a_pool_that_has_enough_to_do_takes_no_more() -> None:
    values = clustered(3_000, 64)
    search = search_of(values)
    with pool(threads=0, waiting_max=2) as opened:
        taken = [
            opened.put(search.task(values[0], PLAN, Selection(3_000)), lambda: None)
            for _ in range(3)
        ]

    assert taken == [True, True, False]


def test_a_search_without_memory_is_an_error_where_it_was_asked_for() -> None:
    values = clustered(3_000, 64)
    task = search_of(values).task(values[0], PLAN, Selection(3_000))
    task.run()
    task.structure.status = NO_MEMORY

    with pytest.raises(MemoryError):
        task.candidates()


def test_a_pool_that_is_forgotten_ends_its_threads_and_frees_its_descriptors() -> None:
    built = library()
    assert built is not None
    opened = SearchPool(built, 2)
    threads, descriptor = opened.threads, opened.descriptor
    assert all(each.is_alive() for each in threads)

    del opened
    gc.collect()

    assert not any(each.is_alive() for each in threads)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


FORKED = """
import os
from tests.unit.native import test_pool as these
values = these.clustered(3_000, 64)
search = these.search_of(values)
with these.pool() as opened:
    child = os.fork()
    if child == 0:
        task = search.task(values[0], these.PLAN, these.Selection(3_000))
        assert not opened.put(task, lambda: None)
        opened.close()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    done = []
    task = search.task(values[0], these.PLAN, these.Selection(3_000))
    assert opened.put(task, lambda: done.append(1))
    these.collect(opened, done, 1)
"""

LEFT_OPEN = """
from tests.unit.native import test_pool as these
values = these.clustered(6_000, 64)
search = these.search_of(values)
opened = these.SearchPool(these.library(), 2, these.ALL)
for each in values[:500]:
    assert opened.put(search.task(each, these.PLAN, these.Selection(6_000)), lambda: None)
del search, values
"""


@pytest.mark.parametrize("script", [FORKED, LEFT_OPEN], ids=["forks", "ends with tasks under way"])
def test_a_process_goes_on_or_ends_in_order_when_it(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


RACES = """
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include "POOL"

enum { TASKS = 20000, THREADS = 3, PUTTERS = 2 };
static PoolTask tasks[PUTTERS][TASKS];
static CodeSearch searches[PUTTERS][TASKS];
static Pool *pool;

int64_t vicinal_search(const CodedRows *rows, CodeSearch *search) {
    (void)rows;
    return ++search->rescored_count;
}

static void *run(void *unused) { vicinal_pool_run(pool); return unused; }

static void *put(void *own) {
    const int64_t place = (int64_t)own;
    for (int64_t at = 0; at < TASKS; at++) {
        tasks[place][at] = (PoolTask){.search = &searches[place][at], .number = place * TASKS + at};
        while (!vicinal_pool_put(pool, &tasks[place][at], 50)) {}
    }
    return NULL;
}

int main(void) {
    int ends[2];
    int64_t numbers[64], taken = 0, wrong = 0;
    pthread_t threads[THREADS], putters[PUTTERS];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) return 2;
    pool = vicinal_pool_open(ends[1]);
    for (int at = 0; at < THREADS; at++) pthread_create(threads + at, NULL, run, NULL);
    for (int64_t at = 0; at < PUTTERS; at++) pthread_create(putters + at, NULL, put, (void *)at);
    while (taken < PUTTERS * TASKS) {
        char signal;
        struct pollfd told = {ends[0], POLLIN, 0};
        if (poll(&told, 1, 30000) != 1) return 3; /* a wake-up was lost */
        if (read(ends[0], &signal, 1) != 1) return 4;
        for (int64_t count = 64; count == 64; taken += count) {
            count = vicinal_pool_take(pool, numbers, 64);
            for (int64_t at = 0; at < count; at++) {
                PoolTask *task = &tasks[numbers[at] / TASKS][numbers[at] % TASKS];
                wrong += task->status != 1 || task->search->rescored_count != 1;
            }
        }
    }
    for (int at = 0; at < PUTTERS; at++) pthread_join(putters[at], NULL);
    vicinal_pool_stop(pool);
    for (int at = 0; at < THREADS; at++) pthread_join(threads[at], NULL);
    if (vicinal_pool_put(pool, tasks[0], 50)) return 5;
    vicinal_pool_close(pool);
    return wrong ? 6 : 0;
}
"""


def test_threads_share_a_pool_without_races_or_lost_wake_ups(tmp_path: Path) -> None:
    """The C of the pool alone, on gcc's thread sanitizer."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("GCC IS NOT INSTALLED")
    (source,) = (each for each in SOURCES if each.name == "pool.c")
    program = tmp_path / "races.c"
    program.write_text(RACES.replace("POOL", str(source)))
    command = [compiler, "-std=gnu11", "-O1", "-g", "-fsanitize=thread", "-pthread", str(program)]
    built = subprocess.run(
        [*command, "-o", str(tmp_path / "races")], capture_output=True, text=True, check=False
    )
    if built.returncode:
        pytest.skip(f"GCC'S THREAD SANITIZER IS NOT INSTALLED: {built.stderr}")

    done = subprocess.run([tmp_path / "races"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
