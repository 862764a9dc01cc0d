"""The server's SQL processes end with it, however it ends, and what was acknowledged stays."""

import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from tests.support.server import Running, start, stop
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")

ONE_LONG_STEP = (
    "with recursive r(n) as (select 1 union all select n + 1 from r limit 300) "
    "select sum(instr(hex(zeroblob(990000)), hex(zeroblob(495000)) || n)) from r"
)
ENDLESS_INSERT = (
    "insert into t with recursive r(n) as (select 1 union all select n + 1 from r) "
    "select hex(zeroblob(5000)) from r"
)

MOST_OF_THE_BOUND_S = 8.0  # of ten


def sql(running: Running, statement: str, database: str = "texts") -> httpx.Response:
    return httpx.post(
        f"{running.base_url}/accounts/acme/d1/database/{database}/raw",
        json={"sql": statement},
        headers={"authorization": f"Bearer {running.token}"},
        timeout=60,
    )


def children(running: Running) -> list[int]:
    """Return the ids of the processes that a server has started."""
    assert running.process is not None
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == running.process.pid and state != "Z":
                    found.append(int(folder.name))
    return found


def fields_of(process: int) -> list[str] | None:
    """Return what /proc says of a process that runs, from its state on; None of another."""
    with suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields
    return None


def is_running(process: int) -> bool:
    return fields_of(process) is not None


def cpu_s(process: int) -> float | None:
    """Return the processor's time that a process has used, None if it does not run."""
    fields = fields_of(process)
    if fields is None:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def test_a_server_that_is_killed_leaves_no_process_and_what_was_acknowledged(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    running = start(tmp_path)
    assert running.process is not None
    wal = tmp_path / "data" / "d1" / "acme" / "texts.sqlite-wal"
    try:
        assert sql(running, "create table t (a); insert into t values ('kept')").status_code == 200
        calls = [
            pool.submit(sql, running, ONE_LONG_STEP, "long"),
            pool.submit(sql, running, ENDLESS_INSERT),
        ]
        wait_until(lambda: wal.exists() and wal.stat().st_size > 1 << 20)
        wait_until(lambda: len(children(running)) == 2)
        workers = children(running)
    finally:
        running.process.kill()
        running.process.wait()

    # Both are busy. What they do meanwhile says how long they go on, however busy the machine is:
    # they would end at their own deadline, too.
    used_s = {each: cpu_s(each) or 0.0 for each in workers}

    def have_ended() -> bool:
        now_s = {each: cpu_s(each) for each in workers}
        assert all(now is None or now - used_s[each] < 1 for each, now in now_s.items())
        return not any(map(is_running, workers))

    wait_until(have_ended)
    for each in calls:
        with pytest.raises(httpx.TransportError):
            each.result()
    again = start(tmp_path)
    try:
        assert sql(again, "select a from t; pragma quick_check").json()["result"][0]["results"][
            "rows"
        ] == [["kept"]]
    finally:
        stop(again)


def test_a_server_that_is_stopped_does_not_wait_for_a_long_statement(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    running = start(tmp_path, arguments=("--shutdown-timeout-s", "1"))
    assert running.process is not None
    call = pool.submit(sql, running, ONE_LONG_STEP)
    wait_until(lambda: len(children(running)) == 1)
    (worker,) = children(running)
    stop(running)

    assert running.process.returncode == 0
    assert not is_running(worker)
    with suppress(httpx.TransportError):  # answered or dropped
        answer = call.result()
        assert answer.status_code in (400, 500, 503)
        assert "took more than" not in answer.text  # as it says at a statement's own deadline


def test_a_process_that_is_killed_costs_one_call_of_one_server(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one, other = start(tmp_path / "one"), start(tmp_path / "other")
    try:
        statements = ("create table t (a)", "insert into t values (1)")
        for running in (one, other):
            for each in statements:
                assert sql(running, each).status_code == 200
        call = pool.submit(sql, one, ENDLESS_INSERT)
        beside = pool.submit(sql, other, ENDLESS_INSERT)
        wals = [
            tmp_path / name / "data" / "d1" / "acme" / "texts.sqlite-wal"
            for name in ("one", "other")
        ]
        wait_until(lambda: all(each.exists() and each.stat().st_size > 1 << 20 for each in wals))
        begun_s = time.monotonic()
        (worker,), (beside_it,) = children(one), children(other)
        # The other goes on to its bound, by the clock: it need not fill the disk until then.
        os.kill(beside_it, signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)

        answer = call.result()
        (error,) = answer.json()["errors"]
        assert (answer.status_code, error["code"]) == (400, 7500)
        assert "SIGKILL; nothing of them took effect" in error["message"]
        assert sql(one, "select a from t").json()["result"][0]["results"]["rows"] == [[1]]
        wait_until(lambda: time.monotonic() > begun_s + MOST_OF_THE_BOUND_S)
        os.kill(beside_it, signal.SIGCONT)
        # The other server's call ran on to its own bound.
        assert "took more than 10 seconds" in beside.result().json()["errors"][0]["message"]
        assert sql(other, "select a from t").json()["result"][0]["results"]["rows"] == [[1]]
    finally:
        stop(one)
        stop(other)


def test_twenty_calls_at_once_on_several_databases_are_all_answered(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    running = start(tmp_path)
    try:
        insert = "create table if not exists t (a); insert into t values (1)"
        calls = [pool.submit(sql, running, insert, f"b{number % 6}") for number in range(20)]
        assert {each.result().status_code for each in calls} == {200}
    finally:
        stop(running)

    rows = 0
    for path in (tmp_path / "data" / "d1" / "acme").glob("*.sqlite"):
        with closing(sqlite3.connect(path)) as connection:
            rows += connection.execute("select count(*) from t").fetchone()[0]
    assert rows == 20
