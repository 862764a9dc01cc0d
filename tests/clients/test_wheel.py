"""An installed Vicinal has the hook with it: a wheel is built, unpacked and asked."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.clients

ENDS_WITHIN_S = 300


def test_a_wheel_has_the_npm_package_and_finds_its_hook(tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps")
    built = subprocess.run(
        [*pip, "--wheel-dir", str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
    )
    if "No matching distribution" in built.stderr or "Could not fetch" in built.stderr:
        pytest.skip(f"the build's tools cannot be had: {built.stderr[-300:]}")
    assert built.returncode == 0, built.stderr[-2000:]
    (wheel,) = tmp_path.glob("vicinal-*.whl")
    assert wheel.stat().st_size < 1_500_000
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    libraries = list((tmp_path / "site").rglob("*.so"))
    is_compiled = any(map(shutil.which, ("cc", "gcc", "clang")))
    compiled = ["native"] if is_compiled else []
    assert sorted(each.parent.name for each in libraries) == compiled
    assert wheel.name.endswith("-none-any.whl") != is_compiled

    printed = subprocess.run(
        [sys.executable, "-m", "vicinal", "hook-path"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
        timeout=ENDS_WITHIN_S,
    ).stdout.strip()

    pages = ROOT / "src" / "vicinal" / "ui"
    for path in filter(Path.is_file, pages.rglob("*")):
        there = tmp_path / "site" / "vicinal" / "ui" / path.relative_to(pages)
        assert there.read_bytes() == path.read_bytes()

    package = tmp_path / "site" / "vicinal" / "workers"
    assert Path(printed) == package / "hook.cjs"
    wanted = {
        str(path.relative_to(ROOT / "workers"))
        for path in (ROOT / "workers").rglob("*")
        if path.is_file() and "node_modules" not in path.parts
    }
    assert {
        str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()
    } == wanted
    assert {"hook.cjs", "connection.cjs", "service/index.mjs", "package.json"} <= wanted
