"""What a data folder holds is its owner's alone, whatever the umask, unless a group was meant."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

import vicinal
from tests.support.asgi import INDEXES, call
from vicinal.app import create
from vicinal.settings import Settings
from vicinal.storage import private
from vicinal.tokens import Permission, Tokens


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=["umask 000", "umask 022", "umask 077"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def statuses(folder: Path) -> dict[str, int]:
    """The kind and mode of a folder and of all that is in it."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        with suppress(FileNotFoundError):  # an engine at work removes what it wrote for a moment
            found[str(path.relative_to(folder.parent))] = path.lstat().st_mode
    return found


def modes(folder: Path) -> dict[str, int]:
    return {name: stat.S_IMODE(status) for name, status in statuses(folder).items()}


def too_open(folder: Path, folders: int = 0o700, files: int = 0o600) -> dict[str, str]:
    return {
        name: oct(stat.S_IMODE(status))
        for name, status in statuses(folder).items()
        if stat.S_IMODE(status) != (folders if stat.S_ISDIR(status) else files)
    }


def fill(folder: Path) -> None:
    """Make some of all that a data folder can hold: segments, payload files, D1, tokens."""
    application = create(Settings(data=folder, memtable_rows_max=100))
    try:
        config = {"name": "docs", "config": {"dimensions": 1_000, "metric": "cosine"}}
        call(application.asgi, "POST", INDEXES, config)
        rows = [{"id": f"{n}", "values": [float(n)] * 1_000} for n in range(1, 151)]
        wait = {"prefer": "wait=30"}
        url = f"{INDEXES}/docs/upsert"
        assert call(application.asgi, "POST", url, {"vectors": rows}, headers=wait).status == 200
        d1 = "/client/v4/accounts/acme/d1/database/texts/query"
        assert call(application.asgi, "POST", d1, {"sql": "create table t (x)"}).status == 200
        application.asgi.services.tokens.create("one", Permission.WRITE)
        assert too_open(folder) == {}  # with the files that SQLite removes at the end
    finally:
        application.close()


def test_a_new_data_folder_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    folder = tmp_path / "above" / "data"
    folder.parent.mkdir(mode=0o755)

    fill(folder)

    names = modes(folder)
    assert too_open(folder) == {}
    kinds = ("catalog.db", "tokens.db", "tokens-required", "texts.sqlite", "index.db", "segments")
    for kind in kinds:
        assert [name for name in names if name.endswith(kind)], kind
    assert [name for name in names if "/segments/0" in name or "/blobs/" in name]


def test_the_library_makes_the_same_modes_and_leaves_the_programs_umask_alone(
    tmp_path: Path, umask: int
) -> None:
    with vicinal.open(tmp_path / "data") as database:
        docs = database.create_index("docs", dimensions=2, metric="cosine")
        docs.upsert([{"id": "a", "values": [1, 2]}], wait=True)
        assert too_open(tmp_path / "data") == {}

    assert os.umask(umask) == umask
    assert too_open(tmp_path / "data") == {}


def test_tokens_are_the_owners_alone_beside_an_open_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with closing(Tokens(tmp_path / "tokens.db")) as tokens:
        tokens.create("one", Permission.READ)
        assert too_open(tmp_path, folders=0o755) == {}


def test_a_folder_that_is_open_to_all_is_closed_and_all_that_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    fill(folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)

    create(Settings(data=folder)).close()

    assert too_open(folder) == {}


def test_an_empty_folder_that_a_person_has_made_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o755)

    fill(folder)

    assert too_open(folder) == {}


def test_what_a_person_has_opened_to_a_group_stays_so_and_new_files_follow(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o750)

    with vicinal.open(folder) as database:
        docs = database.create_index("docs", dimensions=2, metric="cosine")
        docs.upsert([{"id": "a", "values": [1, 2]}], wait=True)

    found = {mode for name, mode in modes(folder).items() if not name.endswith(("lock", "mark"))}
    assert found <= {0o750, 0o640, 0o600}
    assert modes(folder)["data"] == 0o750
    assert modes(folder)["data/catalog.db"] == 0o640


def test_a_folder_with_other_files_in_it_is_left_alone_but_for_what_is_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "diary").touch()
    for path in (folder, folder / "diary"):
        path.chmod(0o755)

    create(Settings(data=folder)).close()

    found = modes(folder)
    assert (found.pop("home"), found.pop("home/diary")) == (0o755, 0o755)
    assert {mode & 0o077 for mode in found.values()} == {0}
    assert "holds other files" in caplog.text


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (outside / "file").chmod(0o644)
    outside.chmod(0o755)
    folder = tmp_path / "data"
    (folder / "indexes").mkdir(parents=True)
    (folder / "indexes" / "link").symlink_to(outside)
    (folder / "d1").symlink_to(outside)
    folder.chmod(0o755)

    assert private.close_to_others(folder)

    assert modes(outside) == {"outside": 0o755, "outside/file": 0o644}


def test_making_a_file_that_is_there_ends_no_lock_on_it(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        private.make_file(path)
        other = (
            "import sqlite3, sys;sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN EXCLUSIVE')"
        )
        ran = subprocess.run(
            [sys.executable, "-c", other, str(path)], capture_output=True, check=False
        )

    assert b"database is locked" in ran.stderr
