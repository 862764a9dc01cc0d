"""Outside programs with an end: whatever they do, and whatever they leave behind, a test goes on.

A program's output goes to a file, never to a pipe: who waits for the end of a pipe waits for every
process that has it, also for those that the program has begun and left behind.
"""

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

WITHIN_S = 120.0  # far more than any program here takes, on a busy machine
LOG_BYTES = 4_000  # the end of a log that a message carries


def run(
    command: Sequence[str],
    *,
    within_s: float = WITHIN_S,
    log: Path | None = None,
    user: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a program that must succeed in time; return its standard output.

    Args:
        command: The program and its arguments.
        within_s: After how many seconds it is killed, with all it has begun, and the test fails.
        log: A file whose end the failure carries: of the server that it was about.
        user: Whom it runs as.
        cwd: Where it runs.
        env: Its environment, None for this one.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            user=user, cwd=cwd, env=env, start_new_session=True,
        )  # fmt: skip
        try:
            status: int | None = process.wait(within_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end(process)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    if status != 0:
        how = f"did not end within {within_s:g} s" if status is None else f"ended with {status}"
        raise AssertionError(
            f"{' '.join(map(str, command))} {how}\n{texts[1]}{texts[0][-LOG_BYTES:]}{tail(log)}"
        )
    return texts[0]


def end(process: "subprocess.Popen[bytes]", within_s: float = WITHIN_S) -> None:
    """Kill a program that leads a session, with what it has begun; one that has ended is left."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(within_s)


def tail(log: Path | None) -> str:
    """The end of a log, for the message of a failure."""
    if log is None or not log.exists():
        return ""
    return f"\n--- the end of {log}:\n{log.read_text(errors='replace')[-LOG_BYTES:]}"
