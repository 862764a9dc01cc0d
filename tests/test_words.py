"""The language of the source: one word for one meaning, the field's own, and plain English.

The test reads every Python and C file below ``src/vicinal`` and refuses

* a class name in two modules: two things of one name are told apart by where they are only;
* a retired word as part of a name (`RETIRED` says what to write instead), in identifiers and
  in the names of files and folders, and a name that says nothing (`EMPTY`);
* a phrase in a docstring or a comment that stands for a noun or a number (`PHRASES`);
* a vague verb as the name of functions in many modules (`VERBS`);
* a retired term in a page of the documentation, but for ``docs/history`` (`TERMS`).

To use it: run ``pytest tests/test_words.py``; a line of the failure is ``file:line: word:
advice``. Rename what it names, or rewrite the sentence. A package that has not been gone through
stands in `NOT_YET` and is passed over; take it out when it is clean. A word that is right where
it stands goes into `ALLOWED` with the reason. To retire a word, add a row to `RETIRED`.
"""

import ast
import io
import itertools
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import vicinal

ROOT = Path(vicinal.__file__).parent

NOT_YET: set[str] = set()
"""Packages and modules that have not been gone through, as paths below the package."""

RETIRED: dict[str, str] = {
    "abandon": "cancel or close",
    "company": "concurrent clients",
    "discard": "remove, release or evict",
    "drop": "delete (data that a user sees) or remove (files)",
    "extent": "blob file",
    "fold": "checkpoint",
    "forget": "remove, release or evict",
    "give_back": "release",
    "handover": "offload",
    "lane": "executor",
    "lanes": "executors",
    "lent": "zero-copy",
    "let_go": "release",
    "look": "a verb that says what is done: authenticate, search, read",
    "maintain": "compact",
    "maintenance": "compaction",
    "make_room": "reserve, or evict",
    "mark": "watermark",
    "measured": "rescored",
    "meter": "budget",
    "opened_": "rescored",
    "pace": "cost estimator",
    "payload": "record (of the log); body (of a request)",
    "payloads": "blob files",
    "proposal": "candidates",
    "propose": "find_candidates",
    "reach": "radius",
    "recipe": "quantizer parameters",
    "retire": "close or remove",
    "room": "arena, capacity or budget",
    "shut": "close",
    "signs": "binary codes, binary quantization",
    "slack": "margin",
    "spool": "blob writer",
    "spooling": "blob files",
    "steps": "gone: prepare, run, finish",
    "stray": "orphan",
    "strays": "orphans",
    "sweep": "remove orphans, collect garbage",
    "tail": "memtable",
    "tend": "compact",
    "tidy": "compact",
    "together": "gone: prepare, run, finish",
    "trim": "truncate",
}
"""A part of a name, between underscores or humps -> what to say instead; with an underscore at its
end it is retired as the first part of a longer name only."""

EMPTY = {"asked", "beside", "besides", "each", "found", "place", "said", "told", "what"}
"""Names that hold no noun: say what it is (`segment`, `row`, `offset`, `matches`)."""

PHRASES: dict[str, str] = {
    r"(?i:\bso many\b)": "name the number",
    r"(?i:\bso far\b)(?! as| away)": "name the state: read, written, applied",
    r"(?i:\bwhoever\b)": "name the caller",
    r"(?i:\bwhat there is\b)": "name the thing",
    r"(?i:\bwhatever\b)": "name the thing",
    r"(?i:\bsome of which\b)": "two sentences",
    r"(?i:\b(?:is|are|be) of (?:no )?use\b)": "say for what",
    r"(?i:\bbesides\b)": "in addition to, other than, as well",
    r"(?i:\babsurdly\b)": "name the bound",
    r"\b(?:for|of|to|in|from|with|by|on|at) each(?=[.,;:)]|$)": "each needs its noun",
    r"\b[Ee]ach (?:is|are|was|has|have|had|can|may|must|takes|gets|holds|but)\b": (
        "each needs its noun"
    ),
    r"(?:^|[.:;] )What\b(?!'s)": "a sentence does not begin with What: begin with the noun",
    r"^(?:It|They|Them|That of|Those)\b": "begin with the noun that is meant",
}
"""A phrase that docstrings and comments do not have -> what they say instead. Looked for in the
paragraphs of a docstring and in comments, lines joined."""

TERMS: dict[str, str] = {
    r"tails?": "memtable",
    r"spool(?:s|ing)?": "blob writer",
    r"lanes?": "executor",
    r"(?:sign codes?|signs\.py)": "binary codes",
    r"payloads?(?! index)": "log record, blob file",
    r"strays?": "orphan",
    r"sweeps?|swept": "remove orphans",
    r"handovers?": "offload",
    r"slack": "margin",
    r"opened (?:rows?|candidates?)|rows? opened": "rescored",
    r"propos(?:es?|ed|ing|als?)": "find candidates",
    r"tid(?:y|ies|ied)": "idle compaction",
    r"lent": "zero-copy",
}
"""A term that pages do not have -> the field's. The glossary's last column may have it."""

VERBS: dict[str, int] = {
    "append": 8,  # a mutation: protocol, engines, traced ones, writer, logs; rows: the memtable
    "check": 7,
    "collect": 3,  # of a search pool, its user, and prometheus' interface
    "do": 0,
    "find": 5,  # an id: the protocol of a view, both views and their tables of ids
    "handle": 1,
    "put": 3,  # a task: the executors, the search pool and its user
    "read": 6,  # bytes of a file or a pipe, and a body
    "run": 6,  # a task: the executors, the search pool, prepared work and its users
    "take": 4,  # NumPy's word for rows by number
    "timed": 1,
    "work": 0,
}
"""A verb that says little -> in how many modules functions may be called that."""

DOCS_NOT_YET: set[str] = set()
"""Pages that have not been gone through."""

ALLOWED: dict[tuple[str, str], str] = {
    ("moving", "payload"): "Qdrant's own word for a point's metadata, in the names of its client",
    ("moving", "drop"): "LanceDB's own word, in the name of its method",
    ("native", "lane"): "of a vector register: the processors' own word",
    ("native", "lanes"): "of a vector register: the processors' own word",
    ("d1", "drop"): "SQL's own word, in the names of SQLite's constants",
    ("server", "discard"): "a value of the platform's parameter unparsable-behavior",
    ("wire", "discard"): "the value of the URL parameter `unparsable-behavior`",
    ("wire", "measured"): "a key of `explain`",
    ("wire", "propose"): "a key of `explain`",
}
"""(package, word) -> why the word is right there."""

FOREIGN = {"discard", "malloc_trim", "mark"}
"""Names of attributes that libraries give (``set.discard``, ``pytest.mark``)."""


@dataclass(frozen=True)
class Finding:
    """A place where the rules are broken."""

    file: str
    line: int
    word: str
    advice: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.word}: {self.advice}"


Sources = Mapping[str, str]
"""Path below the package -> text."""


def package(file: str) -> str:
    return file.partition("/")[0].removesuffix(".py")


def parts(name: str) -> Iterator[str]:
    """Yield the words of a name, and pairs of neighbours, in lower case."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    words = [word for word in spaced.lower().split("_") if word]
    yield from words
    yield from (f"{word}_" for word in words[:-1])
    yield from map("_".join, itertools.pairwise(words))


@cache
def identifiers(text: str) -> tuple[tuple[int, str], ...]:
    """Return the line and name of what Python source defines, assigns or uses."""
    return tuple(_identifiers(text))


def _identifiers(text: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name):
                yield node.lineno, name
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                yield node.lineno, name
            case ast.Attribute(attr=name) if name not in FOREIGN:
                yield node.lineno, name
            case ast.keyword(arg=str(name), value=value):
                yield value.lineno, name
            case ast.alias(name=name, asname=alias):
                yield node.lineno, alias or name.rpartition(".")[2]
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                yield node.lineno, name


@cache
def definitions(text: str) -> tuple[tuple[type[ast.AST], str, int], ...]:
    """Return the kind, name and line of the classes and functions of Python source."""
    return tuple(
        (type(node), node.name, node.lineno)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    )


_C_TEXT = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'", re.DOTALL)


def c_identifiers(text: str) -> Iterator[tuple[int, str]]:
    code = _C_TEXT.sub(lambda match: "\n" * match[0].count("\n"), text)
    for line, words in enumerate(code.split("\n"), 1):
        if not words.startswith("#include"):
            yield from ((line, name) for name in re.findall(r"\b[A-Za-z_]\w*\b", words))


@cache
def prose(text: str) -> tuple[tuple[int, str], ...]:
    """Return the line and the text of docstrings (of attributes as well) and comments."""
    return tuple(_prose(text))


def _prose(text: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(docstring))):
                yield from ((node.lineno, paragraph) for paragraph in _paragraphs(docstring))
    yield from _joined(
        (token.start[0], token.string.lstrip("#: "))
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    )


def c_prose(text: str) -> Iterator[tuple[int, str]]:
    comments: list[tuple[int, str]] = []
    for match in _C_TEXT.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match[0].startswith("//"):
            comments.append((line, match[0].lstrip("/ ")))
        elif match[0].startswith("/*"):
            lines = [part.strip(" */") for part in match[0].split("\n")]
            for paragraph in _paragraphs("\n".join(lines)):
                yield line, paragraph
    yield from _joined(comments)


def _paragraphs(text: str) -> Iterator[str]:
    """Yield what stands together: paragraphs, and the entries of a list of arguments."""
    for block in re.split(r"\n\s*\n", text):
        for entry in re.split(r"\n\s*(?=\w+(?:, \w+)*: |Args:|Returns:|Raises:|\* )", block):
            yield re.sub(r"^(?:[a-z_]+(?:, [a-z_]+)*: |\* )", "", " ".join(entry.split()))


def _joined(comments: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    run: list[tuple[int, str]] = []
    for line, text in comments:
        if run and line != run[-1][0] + 1:
            yield run[0][0], " ".join(part for _, part in run)
            run = []
        run.append((line, text))
    if run:
        yield run[0][0], " ".join(part for _, part in run)


def word_findings(sources: Sources) -> Iterator[Finding]:
    """Yield retired and empty words in names, and phrases in prose."""
    for file, text in sources.items():
        is_python = file.endswith(".py")
        names = [(1, re.sub(r"\W", "_", name)) for name in Path(file).with_suffix("").parts]
        names += identifiers(text) if is_python else c_identifiers(text)
        for line, name in names:
            if name in EMPTY:
                yield Finding(file, line, name, "name what it is")
            for word in parts(name):
                if word in RETIRED:
                    yield Finding(file, line, word, f"in {name}; say {RETIRED[word]}")
        for line, words in prose(text) if is_python else c_prose(text):
            for phrase, advice in PHRASES.items():
                if match := re.search(phrase, words):
                    yield Finding(file, line, match[0].strip(" .:;"), advice)


def class_findings(sources: Sources) -> Iterator[Finding]:
    """Yield class names of more than one module, in all modules but the first."""
    homes: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for file, text in sources.items():
        if file.endswith(".py"):
            for kind, name, line in definitions(text):
                if kind is ast.ClassDef and (file, 0) not in homes[name]:
                    homes[name].append((file, line))
    for name, at in homes.items():
        for file, line in at[1:]:
            if file != at[0][0]:
                yield Finding(file, line, name, f"a class of this name is in {at[0][0]}")


def verb_findings(sources: Sources) -> Iterator[Finding]:
    homes: dict[str, set[str]] = defaultdict(set)
    for file, text in sources.items():
        if file.endswith(".py"):
            for kind, name, _ in definitions(text):
                if kind is not ast.ClassDef:
                    homes[name.strip("_")].add(file)
    for verb, most in VERBS.items():
        if len(homes[verb]) > most:
            where = ", ".join(sorted(homes[verb]))
            yield Finding(where, 0, verb, f"in {len(homes[verb])} modules, at most {most}")


def term_findings(file: str, text: str) -> Iterator[Finding]:
    """Yield retired terms in a page, but for code and the last column of the glossary."""
    glossary = ""
    for line, words in enumerate(text.splitlines(), 1):
        if words.startswith("#"):
            glossary = words.lstrip("# ")
        if glossary == "Glossary" and words.startswith("| "):
            words = words.rpartition(" | ")[0]
        words = re.sub(r"`[^`]*`", "", words)  # names of files and columns are theirs
        for term, advice in TERMS.items():
            if match := re.search(rf"\b(?:{term})\b", words, re.IGNORECASE):
                yield Finding(file, line, match[0].lower(), f"say {advice}")


def findings(sources: Sources) -> list[Finding]:
    """Return where the rules are broken in these files, but for what is allowed."""
    every = [*class_findings(sources), *word_findings(sources), *verb_findings(sources)]
    return [finding for finding in every if (package(finding.file), finding.word) not in ALLOWED]


def sources() -> dict[str, str]:
    """Return the files that are held to the rules."""
    files = sorted(path for path in ROOT.rglob("*") if path.suffix in (".py", ".c", ".h"))
    paths = {path.relative_to(ROOT).as_posix(): path for path in files}
    return {
        file: path.read_text()
        for file, path in paths.items()
        if not any(file == f"{part}.py" or file.startswith(f"{part}/") for part in NOT_YET)
    }


def test_the_source_keeps_the_language() -> None:
    broken = findings(sources())

    assert not broken, "\n".join(map(str, broken))


def test_the_pages_keep_the_language() -> None:
    top = ROOT.parents[1]
    pages = [*top.joinpath("docs").glob("*.md"), top / "README.md", top / "CONTRIBUTING.md"]
    broken = [
        finding
        for page in pages
        if page.name not in DOCS_NOT_YET
        for finding in term_findings(page.name, page.read_text(encoding="utf-8"))
    ]

    assert not broken, "\n".join(map(str, broken))


def test_a_term_of_a_page_is_told_but_not_in_the_last_column_of_the_glossary() -> None:
    page = "A tail, `tail`.\n## Glossary\n| memtable | rows | tail |\n| a lane | b | c |\n## A\n"

    told = [(finding.line, finding.word) for finding in term_findings("a.md", page)]

    assert told == [(1, "tail"), (4, "lane")]


def test_what_is_not_gone_through_yet_is_there() -> None:
    assert [path for path in NOT_YET if not any(ROOT.glob(f"{path}*"))] == []


def test_every_exception_is_needed() -> None:
    every = {(package(finding.file), finding.word) for finding in word_findings(sources())}
    every |= {(package(finding.file), finding.word) for finding in class_findings(sources())}

    assert set(ALLOWED) - every == set()


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("tail = 1\n", "tail"),
        ("class FrozenTail: ...\n", "tail"),
        ("def _make_room() -> None: ...\n", "make_room"),
        ("opened_max = 1\n", "opened_"),
        ("def f(tail_rows_max: int) -> None: ...\n", "tail"),
        ("f(spool=1)\n", "spool"),
        ("index.sweep()\n", "sweep"),
        ("from a import lanes\n", "lanes"),
        ("from a.lanes import b as fold\n", "fold"),
        ("match 1:\n    case int() as slack:\n        pass\n", "slack"),
        ("for each in range(3):\n    print(each)\n", "each"),
        ("found = [1]\n", "found"),
        ("def f(what: str) -> None: ...\n", "what"),
        ('"""Rows, as many as came so far."""\n', "so far"),
        ('def f() -> None:\n    """Read on.\n\n    Args:\n        a: What for.\n    """\n', "What"),
        ("a = 1\n'''Whatever is kept.'''\n", "Whatever"),
        ("a = 1  # for whoever asks\n", "whoever"),
        ("# One file for\n# each.\na = 1\n", "for each"),
        ("# Rows come first. What follows is short.\na = 1\n", "What"),
    ],
)
def test_planted_source_that_breaks_a_rule_is_told(source: str, word: str) -> None:
    told = {finding.word.lower() for finding in findings({"planted/a.py": source})}

    assert word.lower() in told


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("static void sweep(int a) { }\n", "sweep"),
        ("int a; /* so many\n * rows */\n", "so many"),
        ("// for whoever\n// asks\nint a;\n", "whoever"),
    ],
)
def test_planted_c_that_breaks_a_rule_is_told(source: str, word: str) -> None:
    assert word in {finding.word for finding in findings({"planted/a.c": source})}


def test_a_file_of_a_retired_name_is_told() -> None:
    assert [finding.word for finding in findings({"planted/tail.py": ""})] == ["tail"]


def test_a_class_name_in_two_modules_is_told() -> None:
    planted = {"a/one.py": "class Row: ...\n", "b/two.py": "def f():\n    class Row: ...\n"}

    assert [str(finding) for finding in findings(planted)] == [
        "b/two.py:2: Row: a class of this name is in a/one.py"
    ]


def test_a_vague_verb_in_many_modules_is_told() -> None:
    planted = {f"a/m{n}.py": "def _find() -> None: ...\n" for n in range(VERBS["find"] + 1)}

    assert [finding.word for finding in findings(planted)] == ["find"]


@pytest.mark.parametrize(
    "source",
    [
        '"""Sets of rows. They are sorted, each set by id, as far as that is known."""\n',
        "detail, roommate, marker, retailer = 1, 2, 3, 4\n",
        "names = set()\nnames.discard('tail')\n",
        "# Rows of 4 bytes each.\na = '# so many'\n",
        "a = text.find(b'x')\nb = [segment for segment in a]\n",
        "opened = open('a')\n",
    ],
)
def test_honest_source_is_not_told(source: str) -> None:
    assert findings({"planted/a.py": source}) == []
