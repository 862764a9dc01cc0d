"""Copies between folders and databases, whole, killed and refused."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.engines import spoil_embedded
from tests.support.postgres import fresh_schema, server
from tests.unit.moving.conftest import (
    BOOKS,
    EMPTY,
    SMALL,
    Commands,
    Contents,
    apply,
    contents_of,
    database_engine,
    filled_folder,
    folder_engine,
    rows,
)
from vicinal.cli import main
from vicinal.d1 import Databases
from vicinal.d1.messages import Statement
from vicinal.engine.shared import filling
from vicinal.engine.shared.tokens import SharedTokens
from vicinal.model import Delete, IndexConfig, Metric, Upsert, VectorBatch
from vicinal.tokens import Permission, Tokens


def of_folder(folder: Path) -> dict[str, Contents]:
    with folder_engine(folder) as engine:
        return contents_of(engine)


def database(schema: str, end: str) -> tuple[str, str, str]:
    return server().dsn, f"--{end}-schema", schema


@pytest.mark.parametrize("memtable_rows_max", [20_000, 50])
def test_a_folder_goes_to_a_database_and_back_row_for_row(
    tmp_path: Path, copy: Commands, schema: str, memtable_rows_max: int
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    expected = filled_folder(first, memtable_rows_max=memtable_rows_max)

    copy.ok(first, *database(schema, "destination"))
    with database_engine(tmp_path / "node", schema) as engine:
        in_database = contents_of(engine)
    printed = copy.ok(*database(schema, "source"), second)

    assert in_database == expected
    assert of_folder(second) == expected
    assert of_folder(first) == expected
    assert f"3 indexes with {len(expected['acme/books']['vectors']) + 1:,} vectors" in printed
    assert not list(copy.state.rglob("*.db")), "a journal of a copy that is done is left"


def test_a_user_without_a_home_folder_is_told_where_the_journal_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    filled_folder(tmp_path / "first")
    monkeypatch.setattr(Path, "home", no_home)
    arguments = ["copy", str(tmp_path / "first"), str(tmp_path / "second")]

    refused = CliRunner().invoke(main, arguments, env={"XDG_STATE_HOME": ""})

    assert refused.exit_code == 1
    assert "set XDG_STATE_HOME" in refused.stderr
    assert isinstance(refused.exception, SystemExit)


def test_a_metadata_index_lacks_in_the_copy_what_it_lacks(tmp_path: Path, copy: Commands) -> None:
    expected = filled_folder(tmp_path / "first")
    covered = expected["acme/books"]["covered"]

    copy.ok(tmp_path / "first", tmp_path / "second")

    assert isinstance(covered, dict)
    counts = {name: len(ids) for name, ids in covered.items()}
    assert counts["kind"] < counts["n"]
    assert counts["deep.on"] < counts["kind"]
    assert of_folder(tmp_path / "second") == expected


@pytest.mark.parametrize(
    ("save", "after"),
    [
        (2, True),
        (9, False),
        *(pytest.param(save, save % 2 == 0, marks=pytest.mark.slow) for save in range(1, 20)),
    ],
)
def test_a_copy_that_is_killed_goes_on_where_it_was(
    tmp_path: Path, copy: Commands, save: int, after: bool
) -> None:
    expected = filled_folder(tmp_path / "first")

    copy.killed_at(save, tmp_path / "first", tmp_path / "second", after=after)
    copy.ok(tmp_path / "first", tmp_path / "second")

    assert of_folder(tmp_path / "second") == expected


@pytest.mark.parametrize(
    ("save", "after"),
    [
        (4, True),
        pytest.param(1, False, marks=pytest.mark.slow),
        pytest.param(8, False, marks=pytest.mark.slow),
    ],
)
def test_a_copy_between_folder_and_database_is_killed_both_ways(
    tmp_path: Path, copy: Commands, schema: str, save: int, after: bool
) -> None:
    expected = filled_folder(tmp_path / "first")

    copy.killed_at(save, tmp_path / "first", *database(schema, "destination"), after=after)
    copy.ok(tmp_path / "first", *database(schema, "destination"))
    copy.killed_at(save, *database(schema, "source"), tmp_path / "second", after=after)
    copy.ok(*database(schema, "source"), tmp_path / "second")

    assert of_folder(tmp_path / "second") == expected


def test_a_continued_copy_does_not_write_again_what_is_there(
    tmp_path: Path, copy: Commands
) -> None:
    filled_folder(tmp_path / "first")
    copy.killed_at(8, tmp_path / "first", tmp_path / "second", after=True)

    planned = copy.ok(tmp_path / "first", tmp_path / "second", "--dry-run")
    printed = copy.ok(tmp_path / "first", tmp_path / "second")

    assert "continued after" in planned
    assert "of them now)" in printed


def test_a_source_that_changes_between_two_runs_is_copied_anew(
    tmp_path: Path, copy: Commands
) -> None:
    filled_folder(tmp_path / "first")
    copy.killed_at(8, tmp_path / "first", tmp_path / "second", after=True)
    with folder_engine(tmp_path / "first") as engine:
        apply(engine, BOOKS, rows(1_000, 10))
        ids = engine.list(BOOKS, 5, None).ids
        apply(engine, BOOKS, Delete(list(ids)))
        expected = contents_of(engine)

    result = copy.run(tmp_path / "first", tmp_path / "second")

    assert result.exit_code == 0, result.output
    assert "has changed since its copy began: it is begun anew" in result.stderr
    assert of_folder(tmp_path / "second") == expected


def test_a_partial_copy_that_others_write_to_is_not_deleted(
    tmp_path: Path, copy: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled_folder(tmp_path / "first")
    copy.killed_at(4, tmp_path / "first", tmp_path / "second", after=True)
    with folder_engine(tmp_path / "first") as engine:
        apply(engine, BOOKS, rows(1_000, 10))
    with folder_engine(tmp_path / "second") as engine:
        apply(engine, BOOKS, rows(5_000, 500))
        before = contents_of(engine)["acme/books"]
    monkeypatch.setattr("vicinal.moving.copying.BATCH_ROWS", 30)

    said = copy.fails(tmp_path / "first", tmp_path / "second")

    assert "it is written to by others" in said
    assert of_folder(tmp_path / "second")["acme/books"] == before


def test_an_index_that_is_there_is_refused_before_anything_is_copied(
    tmp_path: Path, copy: Commands
) -> None:
    filled_folder(tmp_path / "first")
    with folder_engine(tmp_path / "second") as engine:
        engine.create_index(BOOKS, engine_config(tmp_path / "first"), None)
        apply(engine, BOOKS, rows(9_000, 3))
        before = contents_of(engine)

    said = copy.fails(tmp_path / "first", tmp_path / "second")

    assert "index acme/books is in" in said
    assert "with 3 vectors; --into writes to it all the same" in said
    assert of_folder(tmp_path / "second") == before


def engine_config(folder: Path) -> IndexConfig:
    with folder_engine(folder) as engine:
        return engine.get_index(BOOKS).config


def test_into_writes_to_an_index_that_is_there_and_keeps_its_vectors(
    tmp_path: Path, copy: Commands
) -> None:
    expected = filled_folder(tmp_path / "first")
    with folder_engine(tmp_path / "second") as engine:
        engine.create_index(BOOKS, engine_config(tmp_path / "first"), None)
        apply(engine, BOOKS, rows(9_000, 3))

    copy.ok(tmp_path / "first", tmp_path / "second", "--into")

    vectors = of_folder(tmp_path / "second")["acme/books"]["vectors"]
    wanted = expected["acme/books"]["vectors"]
    assert isinstance(vectors, dict)
    assert isinstance(wanted, dict)
    assert wanted.items() <= vectors.items()
    assert len(vectors) == len(wanted) + 3


def test_an_empty_index_that_is_there_is_filled(tmp_path: Path, copy: Commands) -> None:
    expected = filled_folder(tmp_path / "first")
    with folder_engine(tmp_path / "second") as engine:
        engine.create_index(BOOKS, engine_config(tmp_path / "first"), "every book")

    copy.ok(tmp_path / "first", tmp_path / "second")

    assert of_folder(tmp_path / "second") == expected


def test_an_index_of_another_shape_is_refused(tmp_path: Path, copy: Commands) -> None:
    filled_folder(tmp_path / "first")
    with folder_engine(tmp_path / "first") as engine:
        small = engine.get_index(SMALL).config
    with folder_engine(tmp_path / "second") as engine:
        engine.create_index(BOOKS, small, None)

    said = copy.fails(tmp_path / "first", tmp_path / "second", "--into")

    assert "acme/books has 6 dimensions and metric euclidean" in said
    assert "has 3 and cosine" in said


def test_chosen_indexes_and_accounts_alone_are_copied(tmp_path: Path, copy: Commands) -> None:
    filled_folder(tmp_path / "first")

    copy.ok(tmp_path / "first", tmp_path / "a", "--index", "books", "--index", "small")
    copy.ok(tmp_path / "first", tmp_path / "b", "--account", "other")
    copy.ok(tmp_path / "first", tmp_path / "c", "--index", "empty", "--to-account", "new")

    assert sorted(of_folder(tmp_path / "a")) == ["acme/books", "other/small"]
    assert sorted(of_folder(tmp_path / "b")) == ["other/small"]
    assert sorted(of_folder(tmp_path / "c")) == ["new/empty"]


def test_a_name_that_no_index_has_is_refused(tmp_path: Path, copy: Commands) -> None:
    filled_folder(tmp_path / "first")

    said = copy.fails(tmp_path / "first", tmp_path / "second", "--index", "boks")

    assert "has no index named boks" in said


def test_a_copy_that_is_interrupted_says_how_to_go_on(
    tmp_path: Path, copy: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled_folder(tmp_path / "first")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vicinal.moving.copying.Copy.execute", interrupted)
        result = copy.run(tmp_path / "first", tmp_path / "second")

    assert result.exit_code == 1
    assert result.stderr.endswith("interrupted; the same command goes on from there\n")
    copy.ok(tmp_path / "first", tmp_path / "second")


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path, copy: Commands, schema: str) -> None:
    filled_folder(tmp_path / "first")
    Tokens(tmp_path / "first" / "tokens.db").create("ops", Permission.READ)

    to_folder = copy.ok(tmp_path / "first", tmp_path / "second", "--dry-run")
    to_database = copy.ok(tmp_path / "first", *database(schema, "destination"), "--dry-run")

    for printed in (to_folder, to_database):
        assert "would copy 3 indexes with 393 vectors and 1 tokens" in printed
        assert "each of one moment" in printed
    assert not (tmp_path / "second").exists()
    found = server().sql(f"SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}'")
    assert found == "0"
    assert not list(copy.state.rglob("*.db"))


def test_a_damaged_index_is_named_and_the_others_are_copied(tmp_path: Path, copy: Commands) -> None:
    expected = filled_folder(tmp_path / "first")
    spoil_embedded(tmp_path / "first", SMALL)

    said = copy.fails(tmp_path / "first", tmp_path / "second")

    assert "not copied: index other/small:" in said
    assert "1 of 3 indexes were not copied" in said
    del expected["other/small"]
    assert of_folder(tmp_path / "second") == expected


def test_after_an_index_was_mended_the_rest_alone_is_copied(tmp_path: Path, copy: Commands) -> None:
    expected = filled_folder(tmp_path / "first")
    with folder_engine(tmp_path / "first") as engine:
        log = tmp_path / "first" / "indexes" / engine.get_index(SMALL).id / "index.db"
    whole = log.read_bytes()
    spoil_embedded(tmp_path / "first", SMALL)
    copy.fails(tmp_path / "first", tmp_path / "second")
    log.write_bytes(whole)

    planned = copy.ok(tmp_path / "first", tmp_path / "second", "--dry-run")
    copy.ok(tmp_path / "first", tmp_path / "second")

    assert planned.count("done before") == 2
    assert of_folder(tmp_path / "second") == expected


def test_sql_databases_are_named_and_left_out_by_leave_alone(
    tmp_path: Path, copy: Commands, schema: str
) -> None:
    expected = filled_folder(tmp_path / "first")
    databases = Databases(tmp_path / "first" / "d1")
    databases.execute("acme", "texts", [Statement("CREATE TABLE t (a)", ())])
    databases.stop()
    destination = database(schema, "destination")

    said = copy.fails(tmp_path / "first", *destination)
    with database_engine(tmp_path / "node", schema) as engine:
        assert engine.addresses() == []
    result = copy.run(tmp_path / "first", *destination, "--leave-out")

    assert "nothing was copied" in said
    assert "SQL database texts of account acme" in said
    assert result.exit_code == 0, result.output
    assert "left out: SQL database texts of account acme" in result.stderr
    with database_engine(tmp_path / "node", schema) as engine:
        assert contents_of(engine) == expected


def test_tokens_go_along_both_ways_and_their_secrets_are_good(
    tmp_path: Path, copy: Commands, schema: str
) -> None:
    filled_folder(tmp_path / "first")
    tokens = Tokens(tmp_path / "first" / "tokens.db")
    token, secret = tokens.create("ops", Permission.READ, "acme")
    tokens.close()

    copy.ok(tmp_path / "first", *database(schema, "destination"))
    shared = SharedTokens(server().dsn, schema)
    assert shared.authenticate(secret) == (token, True)
    shared.close()
    copy.ok(*database(schema, "source"), tmp_path / "second")

    tokens = Tokens(tmp_path / "second" / "tokens.db")
    assert tokens.authenticate(secret) == (token, True)
    tokens.close()


def test_tokens_stay_where_a_part_is_copied_or_none_are_wanted(
    tmp_path: Path, copy: Commands
) -> None:
    filled_folder(tmp_path / "first")
    Tokens(tmp_path / "first" / "tokens.db").create("ops", Permission.READ)

    copy.ok(tmp_path / "first", tmp_path / "a", "--without-tokens")
    copy.ok(tmp_path / "first", tmp_path / "b", "--index", "books")

    for name in ("a", "b"):
        assert Tokens(tmp_path / name / "tokens.db").list() == []


def test_a_folder_that_a_server_has_open_is_refused(tmp_path: Path, copy: Commands) -> None:
    filled_folder(tmp_path / "first")
    with folder_engine(tmp_path / "first"):
        said = copy.fails(tmp_path / "first", tmp_path / "second")

    assert "is in use by another process: stop its server, or name the server's URL" in said


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("nowhere", "nowhere is no data folder"),
        ("qdrnt://x", "qdrnt:// is no store"),
        ("http://", "is not the URL of a server"),
        ("postgresql://127.0.0.1:1/x", "127.0.0.1:1"),
    ],
)
def test_what_is_no_store_is_refused(copy: Commands, source: str, complaint: str) -> None:
    assert complaint in copy.fails(source, "second")


def test_a_database_without_tables_is_no_source(copy: Commands) -> None:
    said = copy.fails(*database(fresh_schema(), "source"), "second")

    assert "has no tables of Vicinal" in said


def test_source_and_destination_are_two(tmp_path: Path, copy: Commands, schema: str) -> None:
    filled_folder(tmp_path / "first")
    copy.ok(tmp_path / "first", *database(schema, "destination"))

    assert "the same folder" in copy.fails(tmp_path / "first", tmp_path / "first")
    said = copy.fails(
        server().dsn, server().dsn, "--source-schema", schema, "--destination-schema", schema
    )
    assert "source and destination are both" in said


def test_no_secret_of_a_database_is_shown(tmp_path: Path, copy: Commands, schema: str) -> None:
    filled_folder(tmp_path / "first")
    dsn = server().dsn.replace("vicinal@", "vicinal:hunter2@")

    result = copy.run(tmp_path / "first", dsn, "--destination-schema", schema, "--dry-run")

    assert result.exit_code == 0, result.output
    assert "hunter2" not in result.output
    assert EMPTY.name in result.output


def test_a_database_that_is_written_to_is_copied_as_of_one_moment(
    tmp_path: Path, copy: Commands, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write replaces all vectors, so that those of two moments would differ."""
    monkeypatch.setattr(filling, "BATCH_ROWS", 7)
    ids = [f"v{number}" for number in range(60)]
    stop = threading.Event()
    with database_engine(tmp_path / "node", schema) as engine:
        engine.create_index(BOOKS, IndexConfig(2, Metric.EUCLIDEAN), None)

        def write() -> int:
            generation = 0
            while not stop.is_set():
                generation += 1
                values = np.full((len(ids), 2), generation, np.float32)
                apply(engine, BOOKS, Upsert(VectorBatch(ids, values, [""] * 60, [b"{}"] * 60)))
                began.set()
            return generation

        began = threading.Event()
        with ThreadPoolExecutor(1) as threads:
            writing = threads.submit(write)
            try:
                assert began.wait(60)
                for number in range(4):
                    copy.ok(*database(schema, "source"), tmp_path / f"copy{number}")
            finally:
                stop.set()
            assert writing.result(60) > 4

    generations = []
    for number in range(4):
        with folder_engine(tmp_path / f"copy{number}") as copied:
            found = copied.get(BOOKS, ids)
        assert [each.id for each in found] == ids
        (generation,) = {value for each in found for value in each.values.tolist()}
        generations.append(generation)
    assert generations == sorted(generations)
