"""Functions of headers, which the library does not export, in a library of their own."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hatch_build import FLAGS
from vicinal.native import structures

SOURCES = Path(structures.__file__).parent
COMPILER = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ctypes.CDLL]:
    """Compiles C that includes headers, as the library is compiled."""
    if COMPILER is None:
        pytest.skip("THERE IS NO C COMPILER")
    folder = tmp_path_factory.mktemp("compiled")

    def compile_(text: str) -> ctypes.CDLL:
        source, built = folder / "called.c", folder / "called.so"
        source.write_text(text)
        subprocess.run([COMPILER, *FLAGS, f"-I{SOURCES}", source, "-o", built], check=True)
        return ctypes.CDLL(str(built))

    return compile_
