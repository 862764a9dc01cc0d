"""The structures of Python and of C are the same ones; otherwise nothing is built."""

import os
import re
import shutil
from pathlib import Path

import pytest

import hatch_build
from hatch_build import compile_
from vicinal.native import library, structures

HEADER = Path(structures.__file__).with_suffix(".h")
SHORTEST = HEADER.with_name("columns.c")

needs_compiler = pytest.mark.skipif(
    not (os.environ.get("CC") or any(map(shutil.which, ("cc", "gcc", "clang")))),
    reason="THERE IS NO C COMPILER",
)


@pytest.fixture
def unoptimised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile in a fraction of the time, to the same layout."""
    assert "-O3" in hatch_build.FLAGS
    flags = [{"-O3": "-O0"}.get(flag, flag) for flag in hatch_build.FLAGS]
    monkeypatch.setattr(hatch_build, "FLAGS", flags)


@needs_compiler
@pytest.mark.usefixtures("unoptimised")
def test_python_and_c_agree_on_every_structure_and_constant(tmp_path: Path) -> None:
    assert compile_(HEADER.parent, tmp_path / "built.so") is None


def test_the_structures_have_every_field_of_the_header() -> None:
    """One that is missing here might hide in padding."""
    header = HEADER.read_text()
    for structure in structures.STRUCTURES:
        name = structure.__name__
        (body,) = re.findall(r"typedef struct(?: \w+)? {([^}]*)} " + name + ";", header)
        declared = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL).split(";")
        fields = [
            re.search(r"(\w+)(?:\[\w+\])?$", part.strip())
            for declaration in declared
            for part in declaration.split(",")
            if part.strip()
        ]

        assert [each and each[1] for each in fields] == [field for field, *_ in structure._fields_]


SWAPS = [
    ("    const uint8_t *codes; ", "    const uint8_t *sample; "),
    ("    int64_t k;\n    int64_t margin;", "    int32_t k;\n    int64_t margin;"),
    ("    int64_t *candidates;", "    int64_t more;\n    int64_t *candidates;"),
    ("id, id_end,", "id_end, id,"),
    ("NO_MEMORY = -2", "NO_MEMORY = -3"),
    ("double seconds, cpu_seconds;", "double cpu_seconds, seconds;"),
    ("float relative_error, absolute_error;", "float absolute_error, relative_error;"),
]


@needs_compiler
@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize(("declared", "changed"), SWAPS)
def test_a_library_that_lays_out_a_structure_otherwise_is_not_built(
    declared: str, changed: str, tmp_path: Path
) -> None:
    # One of the sources in C is enough: what refuses is compiled beside them.
    others = {source for source in library.SOURCES if source.suffix == ".c"} - {SHORTEST}
    sources = [Path(shutil.copy(source, tmp_path)) for source in {*library.SOURCES} - others]
    (header,) = (source for source in sources if source.name == HEADER.name)
    text = header.read_text()
    assert text.count(declared) == 1
    if "*sample" in changed:  # two fields that trade places
        text = text.replace("*sample;", "*codes;").replace(declared, changed, 1)
    else:
        text = text.replace(declared, changed)
    header.write_text(text)

    refusal = compile_(tmp_path, tmp_path / "built.so")

    assert refusal is not None
    assert " in structures.py" in refusal
    assert not (tmp_path / "built.so").exists()
