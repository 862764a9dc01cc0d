"""Functions of headers, which the library does not export, in a library of their own."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hatch_build import FLAGS
from vicinal.native import structures

SOURCES = Path(structures.__file__).parent
COMPILER = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)


@pytest.fixture(scope="module")
def called(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The C of a test module's ``CALLED``, which includes headers, compiled as the library is."""
    if COMPILER is None:
        pytest.skip("THERE IS NO C COMPILER")
    folder = tmp_path_factory.mktemp("called")
    source, built = folder / "called.c", folder / "called.so"
    source.write_text(request.module.CALLED)
    subprocess.run([COMPILER, *FLAGS, f"-I{SOURCES}", source, "-o", built], check=True)
    library = ctypes.CDLL(str(built))
    library.run.restype = ctypes.c_int64
    return library
