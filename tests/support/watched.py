"""Running tests of compiled code again, on a library that watches every access to memory."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

_KEPT = Path(__file__).parents[2] / ".make" / "watched"
_FLAGS = (
    "-std=gnu11", "-O1", "-g1", "-fPIC", "-shared", "-fsanitize=address,undefined",
    "-fno-sanitize-recover", "-pthread",
)  # fmt: skip


def run_watched(sources: Sequence[Path], script: str, flags: Sequence[str] = ()) -> str:
    """Compile `sources` with gcc's sanitizers and run a Python script that loads the library,
    whose path is in ``VICINAL_WATCHED``; return what it prints.

    The library is kept for the next run, in `_KEPT`.
    """
    compiler = shutil.which("gcc")
    sanitizer = (
        compiler
        and subprocess.run(
            [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    if not compiler or not sanitizer or not Path(sanitizer).is_absolute():
        pytest.skip("GCC'S ADDRESS SANITIZER IS NOT INSTALLED")
    library = _compiled(compiler, sources, flags)
    watched = {
        **os.environ,
        "LD_PRELOAD": sanitizer,
        # What is freed wrongly is named by who did it, not by all who called whoever allocated it:
        # to write those down takes a tenth of the time.
        "ASAN_OPTIONS": "detect_leaks=0:malloc_context_size=1",
        "PYTHONMALLOC": "malloc",  # so that what lies beside Python's objects is watched as well
        "VICINAL_WATCHED": str(library),
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=watched, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _compiled(compiler: str, sources: Sequence[Path], flags: Sequence[str]) -> Path:
    """Return the library of these very sources, flags and compiler; several may make it at once."""
    command = [compiler, *_FLAGS, *flags]
    version = subprocess.run([compiler, "-v"], capture_output=True, check=True).stderr
    digest = hashlib.sha256(repr([command, version]).encode())
    for source in sorted(sources):
        digest.update(repr((source.name, source.read_bytes())).encode())
    library = _KEPT / f"{digest.hexdigest()[:32]}.so"
    if not library.exists():
        _KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_KEPT) as folder:
            made = Path(folder) / library.name
            compiled = [source for source in sources if source.suffix == ".c"]
            subprocess.run([*command, "-o", made, *compiled, "-lm"], check=True)
            made.rename(library)
    return library
