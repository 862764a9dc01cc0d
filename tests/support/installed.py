"""Clients that are not dependencies of this project, installed once into ``.make/``.

Each is put together under a temporary name and renamed when it is whole, so an interrupted
installation is begun again and two test runs do not get in each other's way.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / ".make"

INSTALLED_WITHIN_S = 600


def python_with(package: str, version: str) -> Path:
    """Return the interpreter of a virtual environment that has this version of a package."""

    def install(folder: Path) -> None:
        _install(folder, f"{package}=={version}")

    return _once(FOLDER / "python" / f"{package}-{version}", install) / "bin" / "python"


def python_project(requirements: Path) -> Path:
    """Return the interpreter of a virtual environment that has what a file asks for."""
    wanted = requirements.read_bytes()
    digest = hashlib.sha256(wanted).hexdigest()[:12]

    def install(folder: Path) -> None:
        _install(folder, "--requirement", str(requirements))

    return _once(FOLDER / "python" / f"{requirements.stem}-{digest}", install) / "bin" / "python"


def _install(folder: Path, *wanted: str) -> None:
    """Make an environment with these packages, by this one's pip; they are compiled as imported."""
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    pip = (sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install")
    _run(*pip, "--quiet", "--disable-pip-version-check", "--no-compile", *wanted)


def node_package(package: str, version: str) -> Path:
    """Return a folder whose ``node_modules`` has this version of a package."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        pytest.skip(f"{package} {version} needs Node.js, which is not on the PATH")

    def install(folder: Path) -> None:
        options = ("--no-audit", "--no-fund", "--loglevel", "error", "--prefix", str(folder))
        _run("npm", "install", *options, f"{package}@{version}")

    return _once(FOLDER / "node" / f"{package.replace('/', '+')}-{version}", install)


def node_project(manifest: Path) -> Path:
    """Return a folder whose ``node_modules`` has what a ``package.json`` asks for."""
    node()
    wanted = manifest.read_bytes()
    digest = hashlib.sha256(wanted).hexdigest()[:12]

    def install(folder: Path) -> None:
        folder.mkdir()
        (folder / "package.json").write_bytes(wanted)
        options = ("--no-audit", "--no-fund", "--loglevel", "error", "--prefix", str(folder))
        _run("npm", "install", *options)

    return _once(FOLDER / "node" / f"{manifest.parent.name}-{digest}", install)


def node() -> str:
    """Return the Node.js of this machine, or skip the test."""
    path = shutil.which("node")
    if path is None or shutil.which("npm") is None:
        pytest.skip("needs Node.js, which is not on the PATH")
    return path


def _once(folder: Path, install: Callable[[Path], None]) -> Path:
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as made:
        unfinished = Path(made) / folder.name
        try:
            install(unfinished)
        except subprocess.SubprocessError as error:
            output = getattr(error, "stderr", None) or b""
            pytest.skip(f"{folder.name} could not be installed: {error} {output[-500:]!r}")
        with suppress(OSError):  # another run was faster
            unfinished.rename(folder)
    return folder


def _run(*command: str) -> None:
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=INSTALLED_WITHIN_S,
    )
