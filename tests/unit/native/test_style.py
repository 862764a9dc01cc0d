"""All C is formatted as ``.clang-format`` says."""

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
C_FILES = sorted(
    [
        *ROOT.glob("src/vicinal/**/*.[ch]"),
        *ROOT.glob("tests/fuzz/*.c"),
        *ROOT.glob("benchmarks/*.c"),
    ]
)


def formatted(text: str) -> str:
    program = shutil.which("clang-format", path=sysconfig.get_path("scripts"))
    if program is None:
        pytest.skip("CLANG-FORMAT IS NOT INSTALLED")
    return subprocess.run(
        [program, f"--style=file:{ROOT / '.clang-format'}"],
        input=text, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def test_every_c_file_is_formatted() -> None:
    """``make format`` does it."""
    assert len(C_FILES) > 8
    wrong = [path.name for path in C_FILES if formatted(path.read_text()) != path.read_text()]

    assert wrong == []


def test_the_check_of_formatting_can_fail() -> None:
    assert formatted("int  a ;") == "int a;"


def test_all_c_is_in_one_folder() -> None:
    assert {path.parent.name for path in C_FILES} == {"native", "fuzz", "benchmarks"}
