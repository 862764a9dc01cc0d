"""Running tests of compiled code again, on a library that watches every access to memory."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

_FLAGS = (
    "-std=gnu11", "-O1", "-g", "-fPIC", "-shared", "-fsanitize=address,undefined",
    "-fno-sanitize-recover", "-pthread",
)  # fmt: skip


def run_watched(
    sources: Sequence[Path], script: str, folder: Path, flags: Sequence[str] = ()
) -> str:
    """Compile `sources` with gcc's sanitizers and run a Python script that loads the library,
    whose path is in ``VICINAL_WATCHED``; return what it prints."""
    compiler = shutil.which("gcc")
    sanitizer = (
        compiler
        and subprocess.run(
            [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    if not compiler or not sanitizer or not Path(sanitizer).is_absolute():
        pytest.skip("GCC'S ADDRESS SANITIZER IS NOT INSTALLED")
    library = folder / "watched.so"
    compiled = [each for each in sources if each.suffix == ".c"]
    subprocess.run([compiler, *_FLAGS, *flags, "-o", library, *compiled, "-lm"], check=True)
    watched = {
        **os.environ,
        "LD_PRELOAD": sanitizer,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",  # so that what lies beside Python's objects is watched as well
        "VICINAL_WATCHED": str(library),
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=watched, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
