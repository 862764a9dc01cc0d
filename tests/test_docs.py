"""The pages in docs/ do not drift from the program: what they name is there."""

import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from vicinal.cli import docs, main
from vicinal.settings import TABLE

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
DECISIONS = ROOT / "docs" / "decisions.md"

_COMMAND = re.compile(r"(?:^|`|\$ |&& )vicinal ((?:[a-z][a-z-]*|-[-a-z]+)[^`\n]*)", re.MULTILINE)


def test_the_command_line_page_is_the_one_that_is_generated() -> None:
    written = (ROOT / "docs" / "cli.md").read_text()

    assert written == docs.markdown(), "run: python -m vicinal.cli.docs > docs/cli.md"


def commands_in(page: Path) -> Iterator[str]:
    for line in _COMMAND.findall(page.read_text()):
        yield line.partition(" #")[0].strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_names_exists_with_its_options(page: Path) -> None:
    unknown = [line for line in commands_in(page) if not exists(line.split())]

    assert unknown == []


def exists(words: list[str]) -> bool:
    """Tell whether the words lead to a command that has the options among them."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words.pop(0))
        if found is None:
            return False
        command = found
    known = {"--help", "--version"}
    for parameter in command.params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    if "--" in words:  # what follows is for another program
        words = words[: words.index("--")]
    named = {word.partition("=")[0] for word in words if word.startswith("--")}
    return named <= known


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("index create docs --dimensions 3", True),
        ("serve --no-require-token", True),
        ("wrangler -- dev --any-option-of-its", True),
        ("index make docs", False),
        ("index create docs --size 3", False),
    ],
)
def test_the_check_of_commands_can_fail(line: str, expected: bool) -> None:
    assert exists(line.split()) is expected


def test_every_setting_that_operations_names_exists() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    words = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text))
    variables = set(re.findall(r"VICINAL_[A-Z_]+", text))

    assert words - {"bytes_in", "bytes_out"} <= {row.name for row in TABLE}
    assert variables <= {row.variable for row in TABLE}
    assert {"memtable_rows_max", "queue_bytes_max", "requests_max"} <= words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_setting_without_its_unit(page: Path) -> None:
    names = {row.name for row in TABLE}
    words = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", page.read_text())) - names

    assert [word for word in words if any(name.startswith(f"{word}_") for name in names)] == []


def entries(page: str) -> list[list[str]]:
    """Return the lines of each decision, its heading first, without empty ones."""
    found: list[list[str]] = []
    is_in_entry = False
    for line in page.splitlines():
        if line.startswith("#"):
            is_in_entry = line.startswith("### ")
            if is_in_entry:
                found.append([])
        if is_in_entry and line.strip():
            found[-1].append(line)
    return found


def test_a_decision_is_eight_lines_and_says_what_would_change_it() -> None:
    decisions = entries(DECISIONS.read_text())

    assert len(decisions) > 50
    assert [each[0] for each in decisions if not is_short_and_open(each)] == []


def is_short_and_open(lines: list[str]) -> bool:
    endings = [line for line in lines if re.match(r"Would change our mind: \S", line)]
    return len(lines) <= 8 and max(map(len, lines)) <= 100 and len(endings) == 1


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["### A", "Why.", "Would change our mind: this."], True),
        (["### A", "Why."], False),
        (["### A", "Why.", "Would change our mind:"], False),
        (["### A", *["Why."] * 7, "Would change our mind: this."], False),
        (["### A", "Why. " * 30, "Would change our mind: this."], False),
    ],
)
def test_the_check_of_decisions_can_fail(lines: list[str], expected: bool) -> None:
    [entry] = entries("\n\n".join(["# Decisions", "## Search", *lines, "## Ingest", "More."]))

    assert is_short_and_open(entry) is expected


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[^a-z0-9-]", each)[0] for each in project["dependencies"]}
    rows = re.findall(
        r"^\| ([a-z0-9, -]+) \| [^|]+ \| [^|]+ \|$", DECISIONS.read_text(), re.MULTILINE
    )

    assert {name for row in rows for name in row.split(", ")} == needed


_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    assert [link for link in links(page) if not leads_somewhere(page, link)] == []


def links(page: Path) -> Iterator[str]:
    for link in _LINK.findall(_CODE.sub("", page.read_text())):
        if "://" not in link:
            yield link


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, heading = link.partition("#")
    target = page.parent / path if path else page
    if not target.resolve().is_relative_to(ROOT) or not target.exists():
        return False
    return not heading or heading in headings(target)


def headings(page: Path) -> set[str]:
    """Return what a code host makes of a page's headings for links."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in found}


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("docs/architecture.md", True),
        ("docs/ways-in.md#python-without-a-server", True),
        ("docs/history", True),
        ("docs/no-such-page.md", False),
        ("docs/ways-in.md#no-such-heading", False),
        ("../outside.md", False),
    ],
)
def test_the_check_of_links_can_fail(link: str, expected: bool) -> None:
    assert leads_somewhere(ROOT / "README.md", link) is expected


ARCHITECTURE = ROOT / "docs" / "architecture.md"
PACKAGE = ROOT / "src" / "vicinal"
_NAME = re.compile(r"\b[a-z][a-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)+")
_FILE_ENDINGS = (".py", ".c", ".h", ".md", ".db")


def parts_named(text: str) -> Iterator[str]:
    """Yield dotted names that begin with a module or package of ours, such as `engine.log`."""
    for name in _NAME.findall(text):
        first = name.partition(".")[0]
        is_ours = (PACKAGE / first).is_dir() or (PACKAGE / f"{first}.py").exists()
        if is_ours and not name.endswith(_FILE_ENDINGS):
            yield name


def part_exists(name: str) -> bool:
    module, *rest = name.split(".")
    found: object = importlib.import_module(f"vicinal.{module}")
    path = f"vicinal.{module}"
    for each in rest:
        path = f"{path}.{each}"
        try:
            found = getattr(found, each) if hasattr(found, each) else importlib.import_module(path)
        except ModuleNotFoundError:
            return False
    return True


def test_every_part_that_architecture_names_or_draws_exists() -> None:
    names = set(parts_named(ARCHITECTURE.read_text()))

    assert {"engine.reader.Reader.prepare", "segment.build", "ann.binary"} <= names
    assert [name for name in names if not part_exists(name)] == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("engine.reader.Reader.prepare", True),
        ("engine.memtable", False),
        ("wire.codes.x", False),
    ],
)
def test_the_check_of_parts_can_fail(name: str, expected: bool) -> None:
    assert part_exists(name) is expected


def test_every_file_and_part_that_architecture_names_is_a_link() -> None:
    text = re.sub(r"^```.*?^```", "", ARCHITECTURE.read_text(), flags=re.MULTILINE | re.DOTALL)
    linked = set(re.findall(r"\[`([^`]+)`\]\(", text))

    quoted = set(re.findall(r"`([^`\s]+)`", text))
    files = {each for each in quoted if each.endswith((".py", ".c", ".h"))}
    named = files | {each for each in quoted if each in set(parts_named(each))}

    assert named - linked == set()


def test_each_row_of_the_glossary_has_a_word_its_meaning_and_the_fields_words() -> None:
    [section] = re.findall(r"^## Glossary$(.*)", ARCHITECTURE.read_text(), re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE)[1:]
    elsewhere = " ".join(theirs for _, _, theirs in rows)

    assert len(rows) > 30
    for engine in ("Lucene", "Milvus", "RocksDB", "PostgreSQL", "Qdrant"):
        assert engine in elsewhere


CONTRIBUTING = ROOT / "CONTRIBUTING.md"
_TEST_FILE = re.compile(r"`(tests/[\w./-]+|benchmarks/[\w./]+\.py)`")


def test_contributing_names_files_folders_and_targets_that_exist() -> None:
    text = CONTRIBUTING.read_text()
    makefile = (ROOT / "Makefile").read_text()
    files = set(_TEST_FILE.findall(text))
    units = {f"tests/unit/{each}" for each in re.findall(r"`make unit P=([\w./]+)`", text)}
    targets = {each for line in re.findall(r"\bmake ([a-z -]+)", text) for each in line.split()}

    assert len(files) > 15
    assert len(units) > 8
    assert [each for each in files | units if not (ROOT / each).exists()] == []
    assert {"unit", "lint", "types", "fuzz", "long"} <= targets
    known = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert {
        each for line in re.findall(r"`make ([a-z][a-z -]*)[`P]", text) for each in line.split()
    } <= known


def test_contributing_has_the_recipes() -> None:
    recipes = re.findall(r"^### Add (.+)$", CONTRIBUTING.read_text(), re.MULTILINE)

    assert recipes == [
        "a route", "a filter operator", "a setting", "a distance metric", "an ANN index",
    ]  # fmt: skip
