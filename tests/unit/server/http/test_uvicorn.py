"""Of uvicorn's inside the server uses what is listed here, in one module, as it was checked.

`vicinal.server.http.connection` extends uvicorn's connection by attributes and methods that uvicorn
does not promise to keep. When a test fails

* because of another version of uvicorn: read what has changed in the classes, run the tests of
  this folder with that version, then write it down here, and allow it in ``pyproject.toml``;
* because the module uses something else: add it to the list, if nothing public does the same.
"""

import ast
import hashlib
import inspect
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

import vicinal
from vicinal.server.http import connection

ROOT = Path(vicinal.__file__).parent
CLASSES = (HttpToolsProtocol, RequestResponseCycle, FlowControl)

USED = {
    HttpToolsProtocol: {
        "__init__",
        "connection_made",
        "connection_lost",
        "data_received",
        "pause_writing",
        "resume_writing",
        "on_message_begin",
        "on_url",
        "on_header",
        "on_headers_complete",
        "on_body",
        "on_message_complete",
        "on_response_complete",
        "_should_upgrade",
        "_unset_keepalive_if_required",
        "app_state",
        "connections",
        "cycle",
        "flow",
        "headers",
        "logger",
        "loop",
        "parser",
        "pipeline",
        "scope",
        "timeout_keep_alive",
        "transport",
        "url",
    },
    RequestResponseCycle: {
        "body",
        "disconnected",
        "flow",
        "keep_alive",
        "message_event",
        "more_body",
        "receive",
        "response_complete",
        "response_started",
        "waiting_for_100_continue",
    },
    FlowControl: {"pause_reading", "read_paused", "resume_reading"},
}

CHECKED = ("0.53", "0.54")
"""Minor versions, one behind the other, in which the three classes have the same source."""

DIGEST = "1f0ad26f71ba02a760f1965589e05ae7e93ec5eb5a25b6c0d796f71630a3a051"
"""SHA-256 of this source."""


def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text())


def protocol() -> ast.ClassDef:
    for node in ast.walk(tree("server/http/connection.py")):
        if isinstance(node, ast.ClassDef) and node.name == connection.BoundedProtocol.__name__:
            return node
    raise AssertionError("there is no such class")


def own_names() -> set[str]:
    """Return the methods and attributes that the protocol adds to uvicorn's."""
    methods = {node.name for node in protocol().body if isinstance(node, ast.FunctionDef)}
    stored = {
        node.attr
        for node in ast.walk(protocol())
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node.value) == "self"
    }
    return {name for name in methods | stored if not defines(HttpToolsProtocol, name)}


def owner(expression: str) -> type | None:
    """Return the class of uvicorn's that an expression of the module is of, by its last name."""
    if expression in ("self", "super()"):
        return HttpToolsProtocol
    if re.search(r"(^|\.)(cycle|_current)$", expression):
        return RequestResponseCycle
    return FlowControl if re.search(r"(^|\.)flow$", expression) else None


def used() -> dict[type, set[str]]:
    """Return what the module uses of each class."""
    names: dict[type, set[str]] = defaultdict(set)
    names[HttpToolsProtocol] |= {
        node.name for node in protocol().body if isinstance(node, ast.FunctionDef)
    }
    for node in ast.walk(tree("server/http/connection.py")):
        if isinstance(node, ast.Attribute):
            cls = owner(ast.unparse(node.value))
            if cls is not None:
                names[cls].add(node.attr)
    names[HttpToolsProtocol] -= own_names()
    return names


def defines(cls: type, name: str) -> bool:
    source = ast.parse(inspect.getsource(cls))
    return any(
        (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name)
        or (
            (isinstance(node, ast.Attribute) and node.attr == name)
            and ast.unparse(node.value) == "self"
            and isinstance(node.ctx, ast.Store)
        )
        for node in ast.walk(source)
    )


def imported(module: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "uvicorn":
            assert node.module is not None
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "uvicorn":
                    yield alias.name, ""


def test_the_connection_uses_what_is_listed_and_nothing_else() -> None:
    assert dict(used()) == USED


@pytest.mark.parametrize("cls", CLASSES)
def test_each_listed_name_is_one_that_uvicorn_defines(cls: type) -> None:
    assert {name for name in USED[cls] if not defines(cls, name)} == set()


def test_no_other_module_knows_what_uvicorn_does_not_promise() -> None:
    modules = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
    knowing = {module: set(imported(module)) for module in modules}

    outside = {module: names for module, names in knowing.items() if names}
    del outside["server/http/connection.py"]
    # The second serves the tools of agents, in a process of its own.
    assert outside == {module: {("uvicorn", "")} for module in ("app.py", "cli/agents.py")}
    for module in outside:
        assert {
            node.attr
            for node in ast.walk(tree(module))
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "uvicorn"
        } == {"Config", "Server"}


def test_the_classes_are_as_they_were_when_this_version_was_checked() -> None:
    source = "".join(inspect.getsource(cls) for cls in CLASSES)

    assert uvicorn.__version__.rpartition(".")[0] in CHECKED
    assert hashlib.sha256(source.encode()).hexdigest() == DIGEST


def test_only_versions_that_were_checked_are_allowed() -> None:
    project = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text())["project"]
    (allowed,) = [name for name in project["dependencies"] if name.startswith("uvicorn")]
    numbers = [int(minor.partition(".")[2]) for minor in CHECKED]

    assert numbers == list(range(min(numbers), max(numbers) + 1))
    assert allowed == f"uvicorn>=0.{min(numbers)},<0.{max(numbers) + 1}"
