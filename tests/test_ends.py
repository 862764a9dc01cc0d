"""Every run of the tests ends: no program outside, and no test that hangs, holds it up for good."""

import re
import sys
from pathlib import Path

import pytest

from tests.support import programs
from tests.support.memory import MEMORY
from tests.support.postgres import server
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[1]


def test_a_program_that_does_not_end_is_killed_and_the_failure_has_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("the last words of the server\n")
    left = tmp_path / "left"
    script = f"(sleep 600 & echo $! > {left}; echo begun; wait)"

    within_s, message = 0.5, ""
    while "begun" not in message:  # a busy machine takes a while to begin a program
        within_s *= 2
        with pytest.raises(AssertionError, match=f"did not end within {within_s:g} s") as caught:
            programs.run(["sh", "-c", script], within_s=within_s, log=log)
        message = str(caught.value)

    assert "the last words of the server" in message
    wait_until(lambda: has_ended(int(left.read_text())))


def has_ended(process: int) -> bool:
    """Tell whether a process has ended, waited for or not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return True
    return state.rpartition(")")[2].split()[0] == "Z"


def test_a_program_that_fails_says_why() -> None:
    with pytest.raises(AssertionError, match=r"ended with 3(?s:.*)no such thing"):
        programs.run(["sh", "-c", "echo no such thing >&2; exit 3"])


def test_what_a_program_leaves_behind_is_not_waited_for() -> None:
    """It has the program's output open, and would hold the end of a pipe back."""
    assert programs.run(["sh", "-c", "sleep 600 & echo done; echo $!"]).splitlines()[0] == "done"


def test_a_killed_database_leaves_nothing_in_memory_beside_its_folder() -> None:
    maps = Path(f"/proc/{server().pid}/maps").read_text()

    assert str(server().data) in maps
    assert f"{MEMORY}/PostgreSQL" not in maps


HANGS = """
import time

def test_that_passes():
    pass

def test_that_hangs():
    time.sleep(600)
"""


def test_a_test_that_hangs_ends_the_run_which_names_it_once(tmp_path: Path) -> None:
    """A file whose process has ended is begun by the next one at the test that ended it."""
    flags = re.findall(r"^PARALLEL := -n \S+ (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    (tmp_path / "test_one.py").write_text(HANGS.partition("def test_that_hangs")[0])
    (tmp_path / "test_two.py").write_text(HANGS)
    command = [
        *(sys.executable, "-m", "pytest", "-p", "xdist.plugin", "-n", "2", *flags[0].split()),
        *("-o", "faulthandler_timeout=5", "-o", "faulthandler_exit_on_timeout=true"),
        *("--rootdir", str(tmp_path), str(tmp_path)),
    ]

    with pytest.raises(AssertionError, match="ended with 1") as caught:
        programs.run(command, cwd=tmp_path, env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})

    message = str(caught.value)
    assert "crashed while running 'test_two.py::test_that_hangs'" in message
    assert message.count("Timeout (0:00:05)!") == 1


BOUND = """
from tests.support import ending

def pytest_unconfigure(config):
    ending.WITHIN_S = 0.5
    ending.bound(config)
"""
LEAVES_A_THREAD = """
import threading, time

def test_that_leaves_a_thread():
    threading.Thread(target=time.sleep, args=(600,)).start()
"""
TAKES_LONGER = """
import time

def test_that_takes_longer():
    time.sleep(2)
"""


def run_bounded(folder: Path, source: str, *flags: str) -> str:
    """Run a test beside one that passes at once, half a second given to the end of the run."""
    (folder / "conftest.py").write_text(BOUND)
    (folder / "test_one.py").write_text("def test_that_passes():\n    pass\n")
    (folder / "test_two.py").write_text(source)
    command = [sys.executable, "-m", "pytest", *flags, "--rootdir", str(folder), str(folder)]
    env = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    return programs.run(["sh", "-c", '"$@" 2>&1; echo "ended with $?"', "sh", *command], env=env)


def test_a_thread_that_a_test_has_left_does_not_hold_up_the_end_of_a_run(tmp_path: Path) -> None:
    output = run_bounded(tmp_path, LEAVES_A_THREAD)

    assert "2 passed" in output
    assert "Timeout (0:00:00.500000)!" in output


def test_a_process_that_has_no_test_left_waits_for_the_others(tmp_path: Path) -> None:
    flags = ("-p", "xdist.plugin", "-n", "2", "--dist", "loadfile", "--max-worker-restart", "0")
    output = run_bounded(tmp_path, TAKES_LONGER, *flags)

    assert "2 passed" in output
    assert "Timeout" not in output
    assert output.endswith("ended with 0\n")
