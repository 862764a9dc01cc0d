"""Real short texts that every machine with Python has: the sentences that open docstrings.

They come from the standard library and the packages installed, file by file in a fixed order
that mixes them, so the same environment gives the same texts, and a few are of many packages.
Those of the standard library's ``json`` come first: there is always something to be found.
"""

import ast
import hashlib
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Docstring:
    """The first sentence of a docstring, and where it stands."""

    text: str
    package: str
    kind: str
    line: int
    is_standard: bool


def docstrings(count: int) -> list[Docstring]:
    """Return this many distinct ones.

    Raises:
        LookupError: there are not so many here.
    """
    by_text: dict[str, Docstring] = {}
    for docstring in _all():
        by_text.setdefault(docstring.text, docstring)
        if len(by_text) == count:
            return list(by_text.values())
    raise LookupError(f"{count} docstrings are wanted, {len(by_text)} are here")


def _all() -> Iterator[Docstring]:
    standard = Path(sysconfig.get_path("stdlib"))
    installed = Path(sysconfig.get_path("purelib"))
    files = [
        (path, path.relative_to(root), root is standard)
        for root in (standard, installed)
        for path in root.rglob("*.py")
    ]
    for path, relative, is_standard in sorted(files, key=lambda file: _order(file[1])):
        if is_standard and relative.parts[0] in ("site-packages", "test", "idlelib"):
            continue
        yield from _of_file(path, relative.parts[0].removesuffix(".py"), is_standard)


def _order(relative: Path) -> tuple[bool, bytes]:
    return relative.parts[0] != "json", hashlib.sha256(relative.as_posix().encode()).digest()


def _of_file(path: Path, package: str, is_standard: bool) -> Iterator[Docstring]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # some packages ship templates and broken examples
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
            if 15 <= len(text) <= 120:
                line = getattr(node, "lineno", 1)
                kind = type(node).__name__.removesuffix("Def").lower()
                yield Docstring(text, package, kind, line, is_standard)
