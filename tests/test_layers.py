"""The layer drawing in docs/architecture.md, as a table that a test can read."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import vicinal

ROOT = Path(vicinal.__file__).parent

BASE = {"errors", "limits", "model", "filters.nodes", "metadata", "distance", "presets", "native",
        "prepared", "budget", "usage", "durations", "index_storage", "ranking",
        "daemon_threads", "interruption"}  # fmt: skip

MAY_IMPORT: dict[str, set[str]] = {
    "__main__": {"cli"},
    "errors": set(),
    "limits": set(),
    "native": {"model"},
    "filters.nodes": set(),
    "filters": BASE,
    "model": {"filters.nodes", "ranking"},
    "ranking": set(),
    "keywords": set(),
    "metadata": {"model", "filters.nodes"},
    "distance": {"model"},
    "presets": {"model"},
    "prepared": {"native.pool"},
    "budget": set(),
    "durations": set(),
    "daemon_threads": set(),
    "interruption": set(),
    "usage": {"model", "durations"},
    "index_storage": set(),
    "openai_errors": set(),
    "open_files": {"errors"},
    "sites": set(),
    "trust": {"errors"},
    "service_links": set(),
    "setting_forms": {"sites"},
    "settings": BASE | {"setting_forms", "service_links"},
    "storage": {"errors", "limits"},
    "tokens": {"errors", "limits", "storage"},
    "stores": BASE | {"settings", "tokens"},
    "d1": {"errors", "storage"},
    "verify": BASE | {"settings", "tokens", "d1", "engine", "segment", "storage"},
    "snapshots": BASE | {"settings", "tokens", "d1", "engine", "storage", "verify"},
    "pytest_plugin": set(),
    "ann": BASE,
    "segment": BASE | {"filters", "storage", "ann", "keywords"},
    "engine": BASE | {"filters", "storage", "ann", "segment", "keywords"},
    "engine.shared": BASE | {"engine", "storage", "tokens"},
    "maps": BASE,
    "embeddings": BASE | {"openai_errors", "trust"},
    "generation": BASE | {"openai_errors"},
    "wire": BASE | {"filters", "keywords", "generation.base", "d1", "snapshots.manifest",
                    "verify.report"},
    "server.concurrency": {"errors", "model", "daemon_threads", "interruption"},
    "server.offload": {"native.pool", "prepared"},
    "server.workers.sessions": {"errors"},
    "server.http": {"errors", "budget", "sites", "wire", "server.concurrency"},
    "server.api": BASE | {"openai_errors", "trust", "tokens", "d1", "engine.base", "embeddings",
                          "generation", "wire", "server.http", "server.concurrency",
                          "server.offload", "server.workers.sessions", "snapshots.service", "maps"},
    "server.workers": {"errors", "tokens", "wire", "server.api", "server.http",
                       "server.concurrency"},
    "server": BASE | {"settings", "sites", "tokens", "d1", "engine.base", "embeddings",
                      "generation", "wire", "snapshots.service"},
    "readers": BASE | {"wire"},
    "moving": BASE | {"trust", "settings", "tokens", "d1", "engine", "storage", "wire"},
    "binding": BASE | {"engine.base", "wire"},
    "app": BASE | {"settings", "tokens", "stores", "d1", "engine", "storage", "embeddings", "wire",
                   "generation", "server", "open_files", "snapshots"},
    "cli": BASE | {"trust", "settings", "tokens", "stores", "d1", "embeddings", "wire", "app",
                   "binding",
                   "storage", "moving", "segment", "engine", "open_files", "verify", "readers",
                   "snapshots"},
}  # fmt: skip
"""Package or module -> what it may import besides itself. Prefixes cover what is inside."""


def modules() -> list[str]:
    return sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in ROOT.rglob("*.py")
    )


def imports(module: str) -> Iterator[str]:
    path = ROOT.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vicinal"):
            assert node.module is not None
            base = node.module.removeprefix("vicinal").removeprefix(".")
            for alias in node.names:
                name = f"{base}.{alias.name}".removeprefix(".")
                yield name if name in MODULES else base
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("vicinal."):
                    yield alias.name.removeprefix("vicinal.")


def within(module: str, layer: str) -> bool:
    return module == layer or module.startswith(f"{layer}.")


def layer_of(module: str) -> str:
    return max((layer for layer in MAY_IMPORT if within(module, layer)), key=len, default="")


MODULES = set(modules())


@pytest.mark.parametrize("module", [name for name in modules() if name != "__init__"])
def test_a_module_imports_only_what_its_layer_allows(module: str) -> None:
    layer = layer_of(module)
    assert layer, f"{module} belongs to no layer; add it to the table"

    forbidden = {
        name
        for name in imports(module)
        if not within(name, layer) and not any(within(name, each) for each in MAY_IMPORT[layer])
    }

    assert forbidden == set()


@pytest.mark.parametrize("module", [name for name in modules() if within(name, "segment")])
def test_a_segment_knows_kinds_of_index_by_their_seam_alone(module: str) -> None:
    known = {name for name in imports(module) if within(name, "ann")}

    assert known <= {"ann.base", "ann.exact", "ann.kinds"}


MAY_BE_ASYNC = ("server", "engine.shared", "embeddings.service")
"""The server; the engine whose database's driver is, and the client of services, with loops of
their own."""


@pytest.mark.parametrize(
    "module", [name for name in modules() if not any(within(name, each) for each in MAY_BE_ASYNC)]
)
def test_no_other_module_is_async(module: str) -> None:
    path = ROOT.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if module == "__init__":
        source = ROOT / "__init__.py"

    found = [
        n for n in ast.walk(ast.parse(source.read_text())) if isinstance(n, ast.AsyncFunctionDef)
    ]

    assert found == []


def test_no_module_is_over_500_lines_and_no_function_over_70() -> None:
    long: list[str] = []
    for path in ROOT.rglob("*.py"):
        text = path.read_text()
        if text.count("\n") > 500:
            long.append(f"{path.name}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno >= 70:
                    long.append(f"{path.name}: {node.name}")

    assert long == []
