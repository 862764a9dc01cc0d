"""Whatever SQL does to its process costs the call that sent it, and nothing else."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest

from tests.support.waiting import ticking, wait_until
from vicinal.d1 import Bounds, Databases, messages, process
from vicinal.d1.messages import Statement, StatementResult
from vicinal.errors import BadStatement, LimitExceeded, Unavailable

ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MIB = 1024 * 1024
CALLERS = 4
DATABASES = 30
ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n"
ONE_LONG_STEP = (
    "with recursive r(n) as (select 1 union all select n + 1 from r limit 300) "
    "select sum(instr(hex(zeroblob(990000)), hex(zeroblob(495000)) || n)) from r"
)
ROWS = "with recursive r(n) as (select 1 union all select n + 1 from r limit {count}) "


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(24) as pool:
        yield pool


@pytest.fixture
def brief(tmp_path: Path) -> Iterator[Databases]:
    """Databases whose calls have a second."""
    databases = Databases(tmp_path / "d1", Bounds(seconds_max=1.0))
    yield databases
    databases.stop()


def run(databases: Databases, sql: str, database: str = "texts") -> list[StatementResult]:
    return databases.execute("acme", database, [Statement(sql)])


def memory(process: int, line: str) -> int:
    """Return a figure of /proc/PID/status in bytes."""
    for each in Path(f"/proc/{process}/status").read_text().splitlines():
        if each.startswith(f"{line}:"):
            return int(each.split()[1]) * 1024
    raise AssertionError(line)


def is_there(process: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


def test_the_first_calls_of_a_database_at_the_same_moment_all_run(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    are_there = threading.Barrier(CALLERS)
    databases = Databases(tmp_path / "d1")

    def call(database: str) -> None:
        are_there.wait()
        run(databases, "create table if not exists t (a); insert into t values (1)", database)

    for number in range(DATABASES):
        for each in [pool.submit(call, f"new{number}") for _ in range(CALLERS)]:
            each.result()
        assert run(databases, "select count(*) from t", f"new{number}")[0].rows == [(CALLERS,)]
    databases.stop()


def test_a_statement_that_is_one_long_step_is_killed_at_its_deadline(
    brief: Databases, pool: ThreadPoolExecutor
) -> None:
    run(brief, "select 1", "other")
    long = pool.submit(run, brief, ONE_LONG_STEP)
    wait_until(lambda: len(brief.processes()) == 1 and not long.done())
    killed = brief.processes()

    answered_count = 0
    while not long.done():  # another database answers all the time
        assert run(brief, "select 1", "other")[0].rows == [(1,)]
        answered_count += 1
    assert answered_count > 1  # the first may have been waited for until the end

    with pytest.raises(BadStatement, match="took more than 1 seconds"):
        long.result()
    assert not any(is_there(each) for each in killed if each not in brief.processes())
    assert run(brief, "select 1")[0].rows == [(1,)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
def test_a_process_that_dies_costs_its_call_and_what_it_had_written(
    databases: Databases, pool: ThreadPoolExecutor, tmp_path: Path, number: signal.Signals
) -> None:
    run(databases, "create table t (a); insert into t values ('kept')")
    wal = tmp_path / "d1" / "acme" / "texts.sqlite-wal"
    insert = f"insert into t {ROWS.format(count=100_000_000)} select hex(zeroblob(5000)) from r"
    call = pool.submit(run, databases, insert)
    wait_until(lambda: wal.exists() and wal.stat().st_size > MIB)
    (process,) = databases.processes()
    os.kill(process, number)

    with pytest.raises(BadStatement, match=f"{number.name}; nothing of them took effect"):
        call.result()
    assert run(databases, "select a from t; pragma quick_check")[0].rows == [("kept",)]
    assert databases.processes() != [process]


def test_an_idle_process_that_was_killed_costs_nothing(databases: Databases) -> None:
    run(databases, "create table t (a)")
    (process,) = databases.processes()
    os.kill(process, signal.SIGKILL)
    # Until it can be waited for; its first thread may be gone before.
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)

    assert run(databases, "select count(*) from t")[0].rows == [(0,)]


def is_running(process: int) -> bool:
    """Tell whether a process lives; one that nobody has waited for yet does not."""
    if sys.platform != "linux":
        return is_there(process)
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_databases_run_at_once_within_the_bound_on_processes(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    databases = Databases(tmp_path / "d1", Bounds(processes_max=3, idle_max=1))
    calls = [
        pool.submit(
            run,
            databases,
            "create table if not exists t (a); insert into t values (1)",
            f"b{i % 5}",
        )
        for i in range(20)
    ]
    seen = 0
    while not all(each.done() for each in calls):
        seen = max(seen, len(databases.processes()))
    for each in calls:
        each.result()

    assert 1 <= seen <= 3
    assert len(databases.processes()) == 1
    counts = [run(databases, "select count(*) from t", f"b{i}")[0].rows for i in range(5)]
    assert counts == [[(4,)]] * 5
    databases.stop()


def test_stopping_ends_calls_under_way_and_refuses_others(
    databases: Databases, pool: ThreadPoolExecutor
) -> None:
    run(databases, "create table t (a)")
    calls = [pool.submit(run, databases, sql) for sql in (ONE_LONG_STEP, ENDLESS)]
    wait_until(lambda: len(databases.processes()) == 2)
    processes = databases.processes()
    with ticking() as ticks:
        databases.stop()
        for each in calls:
            with pytest.raises(Unavailable, match="stopped"):
                each.result()
    assert ticks.seconds < 5
    with pytest.raises(Unavailable, match="stopped"):
        run(databases, "select 1")
    assert databases.processes() == []
    assert not any(is_there(each) for each in processes)


def test_databases_that_nobody_has_stopped_leave_no_process(tmp_path: Path) -> None:
    databases = Databases(tmp_path / "d1")
    run(databases, "select 1")
    (process,) = databases.processes()
    del databases

    assert not is_there(process)


BOMBS = [
    f"{ROWS.format(count=1_000)} select zeroblob(1900000), zeroblob(1900000) from r",
    "select " + ",".join(["zeroblob(2000000)"] * 100),
    "select " + ",".join(["zeroblob(2000000)"] * 60),
    "select " + ",".join(["zeroblob(2000000)"] * 200),
    "select " + ",".join(["hex(randomblob(900000))"] * 90),
    f"{ROWS.format(count=100_000)} select group_concat(hex(zeroblob(900000))) from r",
    f"{ROWS.format(count=100_000)} select json_group_array(hex(zeroblob(900000))) from r",
    f"{ROWS.format(count=100_000)} select randomblob(1000000) from r order by 1",
    f"{ROWS.format(count=100_000)} select count(distinct randomblob(100000)) from r",
    (
        "with recursive r(n) as (select zeroblob(1000000) union select randomblob(1000000) from r) "
        "select count(*) from r"
    ),
    "select replace(hex(zeroblob(900000)), '0', hex(zeroblob(900000)))",
    (
        "select printf('%.*c', 2000000000, 'x') || printf('%.*c', 2000000000, 'x') || "
        "printf('%2000001s', 'x')"
    ),
    "create temp table t as " + ROWS.format(count=10_000_000) + " select randomblob(100000) from r",
    "create view v0 as select 1 a;"
    + "".join(
        f"create view v{i + 1} as select a from v{i} union all select a from v{i};"
        for i in range(20)
    )
    + "select count(*) from v20",
    f'{ROWS.format(count=70_000)} select n as "{"x" * 1000}" from r',
]


@ONLY_LINUX
@pytest.mark.parametrize("sql", BOMBS)
def test_memory_stays_bounded_on_both_sides(brief: Databases, sql: str) -> None:
    run(brief, "select 1")
    (process,) = brief.processes()
    own = memory(os.getpid(), "VmRSS")
    reset_peak()

    with pytest.raises(
        BadStatement, match=r"more than \d+|TOOBIG|too many|took more|string or blob too big"
    ):
        brief.execute("acme", "texts", [Statement(sql)], names_each_row=True)

    assert memory(os.getpid(), "VmHWM") - own < 64 * MIB
    if is_running(process):
        assert memory(process, "VmHWM") < 320 * MIB
    assert run(brief, "select 1")[0].rows == [(1,)]
    for each in brief.processes():
        assert memory(each, "VmRSS") < 80 * MIB  # one that kept much is not used again


def reset_peak() -> None:
    """Make the highest memory of this process that of now."""
    Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("select " + "(" * 5_000 + "1" + ")" * 5_000, "stack overflow|depth"),
        ("select " + "1+" * 5_000 + "1", "maximum depth 100"),
        ("select " + "-" * 100 + "(1)", "incomplete|syntax"),
        ("select " + " union all select ".join(["1"] * 501), "too many terms"),
        ("select 'a' like '" + "%a" * 26 + "'", "pattern too complex"),
        ("select 'a' glob '" + "*a" * 26 + "'", "pattern too complex"),
        ("select max(" + ",".join(["1"] * 101) + ")", "too many arguments"),
        ("create table w (" + ",".join(f"c{i}" for i in range(101)) + ")", "too many columns"),
        ("select " + ",".join(["1"] * 101), "too many columns"),
        (
            (
                "create table t (a); create trigger r after insert on t begin "
                "insert into t values (new.a + 1); end; pragma recursive_triggers = on; "
                "insert into t values (1)"
            ),
            "levels of trigger recursion",
        ),
        ("create virtual table f using fts5(x, content='f'); select * from f", "recursive"),
    ],
)
def test_depth_and_width_are_bounded(databases: Databases, sql: str, text: str) -> None:
    with pytest.raises(BadStatement, match=text):
        run(databases, sql)


def test_what_is_at_the_bounds_is_run(databases: Databases) -> None:
    run(databases, "create table w (" + ",".join(f"c{i}" for i in range(100)) + ")")

    assert len(run(databases, "select * from w")[0].columns) == 100
    assert run(databases, "select 'a' like '" + "%a" * 25 + "'")[0].rows == [(0,)]
    assert run(databases, "select length(zeroblob(2000000))")[0].rows == [(2_000_000,)]
    (large,) = run(databases, "select " + ",".join(["zeroblob(2000000)"] * 16))
    assert [len(each) for each in large.rows[0] if isinstance(each, bytes)] == [2_000_000] * 16


def test_a_text_counts_as_long_as_it_is_in_the_answer(databases: Databases) -> None:
    # A megabyte of a control character is six in JSON.
    control = "select replace(hex(zeroblob(500000)), '0', char(1)) from r"

    assert len(run(databases, ROWS.format(count=5) + control)[0].rows) == 5
    with pytest.raises(BadStatement, match="more than 33554432 bytes"):
        run(databases, ROWS.format(count=6) + control)


def test_parameters_of_a_call_are_bounded(databases: Databases) -> None:
    one = Statement("select length(?)", ["x" * 2_000_000])

    assert len(databases.execute("acme", "texts", [one] * 16)) == 16
    with pytest.raises(BadStatement, match="the limit is 33554432"):
        databases.execute("acme", "texts", [one] * 17)


def test_an_account_has_so_many_databases(tmp_path: Path) -> None:
    databases = Databases(tmp_path / "d1", Bounds(databases_max=2))
    for name in ("a", "b", "a"):
        run(databases, "select 1", name)

    with pytest.raises(LimitExceeded, match="2 databases, the limit is 2"):
        run(databases, "select 1", "c")
    databases.execute("other", "c", [Statement("select 1")])
    databases.stop()


def test_databases_that_are_made_at_the_same_moment_are_counted_one_by_one(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    are_there = threading.Barrier(CALLERS)
    databases = Databases(tmp_path / "d1", Bounds(databases_max=2))

    def make(account: str, name: int) -> object:
        are_there.wait()
        return databases.execute(account, f"new{name}", [Statement("select 1")])

    for account in (f"account{number}" for number in range(20)):
        calls = [pool.submit(make, account, name) for name in range(CALLERS)]
        refused = [call for call in calls if isinstance(call.exception(), LimitExceeded)]
        assert len(refused) == CALLERS - 2
        assert len(databases.ids(account)) == 2
    databases.stop()


@ONLY_LINUX
def test_a_process_gets_nothing_of_the_servers(
    databases: Databases, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VICINAL_TOKEN", "secret")
    secret = (tmp_path / "secret").open("w")
    os.set_inheritable(secret.fileno(), True)
    run(databases, "select 1")
    (process,) = databases.processes()
    about = Path(f"/proc/{process}")

    assert b"secret" not in about.joinpath("environ").read_bytes()
    opened = [str(each.readlink()) for each in about.joinpath("fd").iterdir()]
    assert len(opened) == 3
    assert str(tmp_path / "secret") not in opened
    assert os.getsid(process) == process
    limits = about.joinpath("limits").read_text()
    assert "Max core file size        0 " in limits
    assert "Max open files            64 " in limits
    # It has not loaded what the engine needs.
    assert not any(
        word in about.joinpath("maps").read_text() for word in ("numpy", "faiss", "onnx")
    )
    secret.close()


def test_a_call_that_dies_while_it_commits_says_that_nobody_knows(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(databases, "create table t (a)")
    (running,) = databases.processes()
    count = iter(range(10))

    def read_results_alone(pipe: IO[bytes]) -> messages.Answer | None:
        if next(count) == 0:
            return messages.read_answer(pipe)
        os.kill(running, signal.SIGKILL)
        return None

    monkeypatch.setattr(process, "read_answer", read_results_alone)
    with pytest.raises(Unavailable, match="whether they took effect is not known"):
        run(databases, "insert into t values (1)")
    monkeypatch.undo()

    assert not is_there(running)
    assert run(databases, "select count(*) <= 1 from t")[0].rows == [(1,)]
