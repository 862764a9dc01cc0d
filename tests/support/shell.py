"""Running the commands of a document as somebody would who types them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

ROOT = Path(__file__).parents[2]

ENDS_WITHIN_S = 300
ANSWERS_WITHIN_S = 300
ENDED_WITHIN_S = 60
_POLL_S = 0.1


def environment(**changes: str) -> dict[str, str]:
    """Return what a person's shell would have, with this Vicinal on the PATH and no settings."""
    own = str(Path(sys.executable).parent)
    outer = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("VICINAL_", "CLOUDFLARE_", "NODE_"))
    }
    path = f"{own}{os.pathsep}{outer['PATH']}"
    return {**outer, "PATH": path, "CI": "1", "NO_COLOR": "1", **changes}


def run(commands: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Run commands, each of which must succeed, and return what they printed."""
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
    )
    assert ran.returncode == 0, f"{commands}\n{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
    return ran.stdout


@contextmanager
def running(
    commands: str, folder: Path, environment: Mapping[str, str], url: str
) -> Iterator[None]:
    """Run commands until the block ends; it begins when `url` is answered, whatever with."""
    log = folder / f"log-{time.monotonic_ns()}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_answered(url, process)
        yield
    except BaseException as error:
        error.add_note(f"{commands}\n{log.read_text(errors='replace')[-3000:]}")
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(ENDED_WITHIN_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_answered(url: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + ANSWERS_WITHIN_S
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the commands ended with status {process.returncode}")
        try:
            with urlopen(url, timeout=5):
                return
        except HTTPError as answer:
            answer.close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(_POLL_S)


def checkout(target: Path, *folders: str) -> None:
    """Copy folders of the project to the same places under another one, as a clone has them."""
    for name in folders:
        ignored = shutil.ignore_patterns("node_modules", ".wrangler", "__pycache__", "*-data")
        shutil.copytree(ROOT / name, target / name, ignore=ignored)
