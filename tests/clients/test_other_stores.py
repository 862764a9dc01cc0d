"""`vicinal copy` from other products, each made by its own client."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support import shell
from tests.support.installed import python_project
from tests.unit.moving.conftest import contents_of, folder_engine

pytestmark = pytest.mark.clients

ENVIRONMENT = shell.ROOT / "tests" / "clients" / "python" / "stores.txt"
COUNT = 5_200  # more than a page

# The clients are not installed beside the tests: they are found behind what is.
_VICINAL = "import sys; sys.path.append(sys.argv.pop(1)); from vicinal.cli import main; main()"

Copy = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    script = ENVIRONMENT.with_name("other_stores.py")
    subprocess.run(
        [python_project(ENVIRONMENT), script, folder, str(COUNT)], check=True, cwd=folder
    )
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    environment = python_project(ENVIRONMENT).parent.parent
    (packages,) = environment.glob("lib/python*/site-packages")

    def copy(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", _VICINAL, packages, "copy", *arguments],
            env=shell.environment(XDG_STATE_HOME=str(tmp_path / "state")),
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )

    return copy


def check(folder: Path, stores: Path, id_of: str, metadata_of: Callable[[int], bytes]) -> None:
    values = np.load(stores / "values.npy")
    with folder_engine(folder) as engine:
        found = contents_of(engine)["local/plain"]
    assert found["config"].metric.value == "euclidean"
    assert found["vectors"] == {
        id_of.format(number): (row.tobytes(), "", metadata_of(number))
        for number, row in enumerate(values)
    }


def test_a_qdrant_is_copied_and_what_has_no_home_is_named_before(
    stores: Path, tmp_path: Path, copy: Copy
) -> None:
    source = f"qdrant:{stores / 'qdrant'}"

    refused = copy(source, tmp_path / "data")
    assert refused.returncode == 1
    for thing in (
        "index local/named: named vector 'b'",
        "index local/named: sparse vector 'words'",
        "index local/taxi: 'taxi' has the metric Manhattan, which no index has",
    ):
        assert thing in refused.stderr, refused.stderr
    with folder_engine(tmp_path / "data") as engine:
        assert engine.addresses() == []

    copied = copy(source, tmp_path / "data", "--leave-out")
    assert copied.returncode == 0, copied.stderr
    check(
        tmp_path / "data",
        stores,
        "{}",
        lambda number: (
            f'{{"kind":"k{number % 3}","n":{number},"deep":{{"list":[1,null,"x"]}}}}'.encode()
        ),
    )


def test_a_chroma_is_copied_with_its_documents(stores: Path, tmp_path: Path, copy: Copy) -> None:
    source = f"chroma:{stores / 'chroma'}"

    refused = copy(source, tmp_path / "data")
    assert "'none-yet' is empty, so its dimensions are not known" in refused.stderr

    copied = copy(source, tmp_path / "data", "--index", "plain")
    assert copied.returncode == 0, copied.stderr
    values = np.load(stores / "values.npy")
    with folder_engine(tmp_path / "data") as engine:
        vectors = contents_of(engine)["local/plain"]["vectors"]
    assert {id_: raw for id_, (raw, _, _) in vectors.items()} == {
        f"id {number}": row.tobytes() for number, row in enumerate(values)
    }
    assert b'"document":"text 7"' in vectors["id 7"][2]
    assert b'"n":7' in vectors["id 7"][2]


def test_a_lancedb_is_copied(stores: Path, tmp_path: Path, copy: Copy) -> None:
    source = f"lancedb:{stores / 'lance'}"

    refused = copy(source, tmp_path / "data")
    assert "index local/plain: column 'when' of type timestamp[us]" in refused.stderr

    copied = copy(source, tmp_path / "data", "--leave-out")
    assert copied.returncode == 0, copied.stderr
    check(
        tmp_path / "data",
        stores,
        "id {}",
        lambda number: (
            (
                ("" if number == 0 else f'"kind":"k{number % 3}",')
                + f'"n":{number},"deep":{{"list":[1,{number}]}}}}'
            )
            .join(("{", ""))
            .encode()
        ),
    )
