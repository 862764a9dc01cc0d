"""SQL over HTTP: D1's two routes, as its clients call and read them."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.support.asgi import application, call
from tests.support.server import in_thread
from tests.support.waiting import wait_until
from vicinal.server.app import App
from vicinal.tokens import Permission, Tokens

DATABASE = "/client/v4/accounts/acme/d1/database/texts"
BY_TOKEN = {"Authorization": "Bearer secret"}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    app = application(tmp_path, tokens=["secret"])
    yield app
    app.services.databases.stop()


def run(app: App, route: str, body: object) -> list[dict[str, object]]:
    answer = call(app, "POST", f"{DATABASE}/{route}", body, headers=BY_TOKEN)
    result: list[dict[str, object]] = answer.result
    return result


def test_rows_come_as_arrays_beside_their_columns_or_as_objects(app: App) -> None:
    run(app, "query", {"sql": "CREATE TABLE t (id TEXT, n INTEGER, b BLOB)"})
    (written,) = run(
        app, "query", {"sql": "INSERT INTO t VALUES (?, ?, x'00ff')", "params": ["a", True]}
    )
    (raw,) = run(app, "raw", {"sql": "SELECT * FROM t"})
    (objects,) = run(app, "query", {"sql": "SELECT * FROM t"})

    assert raw["results"] == {"columns": ["id", "n", "b"], "rows": [["a", 1, [0, 255]]]}
    assert objects["results"] == [{"id": "a", "n": 1, "b": [0, 255]}]
    assert raw["success"] is objects["success"] is True
    meta = written["meta"]
    assert isinstance(meta, dict)
    assert (meta["changes"], meta["last_row_id"], meta["changed_db"]) == (1, 1, True)
    assert meta["duration"] > 0


def test_a_result_without_rows_still_has_its_columns(app: App) -> None:
    (result,) = run(app, "raw", {"sql": "SELECT 1 AS one WHERE 0"})

    assert result["results"] == {"columns": ["one"], "rows": []}


def test_each_statement_has_a_result(app: App) -> None:
    together = run(app, "query", {"sql": "SELECT 1 AS a; SELECT 2 AS b"})
    batch = run(
        app, "query", {"batch": [{"sql": "SELECT ? AS a", "params": [1]}, {"sql": "SELECT 2 AS b"}]}
    )

    wanted = [[{"a": 1}], [{"b": 2}]]
    assert [each["results"] for each in together] == wanted
    assert [each["results"] for each in batch] == wanted


def test_infinity_becomes_null(app: App) -> None:
    (result,) = run(app, "raw", {"sql": "SELECT 9e999"})

    assert result["results"] == {"columns": ["9e999"], "rows": [[None]]}


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ({"sql": "SELECT * FROM none"}, 7500, "no such table: none: SQLITE_ERROR"),
        ({"sql": "SELECT ?", "params": [[1]]}, 40026, "params"),
        ({"sql": "SELECT ?", "params": "x"}, 40026, "params"),
        ({"sql": 5}, 40026, "sql"),
        ({}, 40026, "expected one of sql and batch"),
        ({"sql": "SELECT 1", "batch": []}, 40026, "expected one of sql and batch"),
        (b"not json", 40026, "JSON"),
    ],
)
def test_what_cannot_be_run_has_a_code_and_a_text(
    app: App, body: object, code: int, text: str
) -> None:
    status, found, message = call(app, "POST", f"{DATABASE}/raw", body, headers=BY_TOKEN).error

    assert (status, found) == (400, code)
    assert text in message


def test_a_malformed_id_is_not_found(app: App) -> None:
    path = "/client/v4/accounts/acme/d1/database/..%2F..%2Fcatalog/raw"

    assert call(app, "POST", path, {"sql": "SELECT 1"}, headers=BY_TOKEN).error[0] == 404


def test_a_token_that_may_only_read_runs_no_sql(app: App) -> None:
    tokens = app.services.tokens
    assert isinstance(tokens, Tokens)
    _, reader = tokens.create("reader", Permission.READ)

    answer = call(
        app,
        "POST",
        f"{DATABASE}/query",
        {"sql": "SELECT 1"},
        headers={"Authorization": f"Bearer {reader}"},
    )

    assert answer.error[:2] == (403, 10000)


def test_databases_are_listed_once_they_have_been_used(app: App) -> None:
    listed = "/client/v4/accounts/acme/d1/database"
    assert call(app, "GET", listed, headers=BY_TOKEN).result == []
    before = datetime.now(UTC).replace(microsecond=0)
    for name in ("texts", "others", "more-texts"):
        path = f"{listed}/{name}/query"
        assert call(app, "POST", path, {"sql": "SELECT 1"}, headers=BY_TOKEN).status == 200

    found = call(app, "GET", listed, headers=BY_TOKEN).result
    assert [each["uuid"] for each in found] == ["more-texts", "others", "texts"]
    assert [each["name"] for each in found] == ["more-texts", "others", "texts"]
    assert {each["version"] for each in found} == {"production"}
    assert all(before <= datetime.fromisoformat(each["created_at"]) for each in found)
    assert all(each["file_size"] > 0 for each in found)

    def names(query: str) -> list[str]:
        found = call(app, "GET", f"{listed}?{query}", headers=BY_TOKEN).result
        return [each["name"] for each in found]

    assert names("per_page=2") == ["more-texts", "others"]
    assert names("per_page=2&page=2") == ["texts"]
    assert names("per_page=2&page=3") == []
    assert names("name=texts") == ["more-texts", "texts"]
    assert names("name=texts&per_page=1&page=2") == ["texts"]
    assert names("name=none") == []
    assert call(app, "GET", f"{listed}?page=0", headers=BY_TOKEN).error[:2] == (400, 40092)
    other = call(app, "GET", "/client/v4/accounts/other/d1/database", headers=BY_TOKEN)
    assert other.result == []


def test_when_a_database_was_made_stays_though_it_is_written(app: App, tmp_path: Path) -> None:
    run(app, "query", {"sql": "CREATE TABLE t (a)"})
    path = tmp_path / "d1" / "acme" / "texts.sqlite"
    made = call(app, "GET", DATABASE, headers=BY_TOKEN).result["created_at"]
    os.utime(path, (2_000_000_000, 2_000_000_000))
    run(app, "query", {"sql": "INSERT INTO t VALUES (1)"})

    assert call(app, "GET", DATABASE, headers=BY_TOKEN).result["created_at"] == made


def test_a_database_is_told_of_and_one_that_is_not_there_is_not_made(
    app: App, tmp_path: Path
) -> None:
    for name in ("texts", "..%2F..%2Fcatalog", "a.b"):
        path = f"/client/v4/accounts/acme/d1/database/{name}"
        assert call(app, "GET", path, headers=BY_TOKEN).error[:2] == (404, 7404)
    assert not (tmp_path / "d1").exists()

    run(app, "query", {"sql": "SELECT 1"})
    told = call(app, "GET", DATABASE, headers=BY_TOKEN).result
    assert (told["uuid"], told["name"], told["version"]) == ("texts", "texts", "production")


def test_a_blob_of_any_length_is_an_array_of_numbers(app: App) -> None:
    for length in (0, 1, 65_535, 65_536, 65_537, 200_000):
        (result,) = run(app, "raw", {"sql": f"SELECT zeroblob({length}), x'00ff'"})
        assert result["results"] == {
            "columns": [f"zeroblob({length})", "x'00ff'"],
            "rows": [[[0] * length, [0, 255]]],
        }


def test_names_that_each_row_repeats_count_as_part_of_the_result(app: App) -> None:
    sql = (
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 50000) "
        f"SELECT n AS {'x' * 1_000} FROM r"
    )
    run(app, "raw", {"sql": sql})  # where they are said once

    answer = call(app, "POST", f"{DATABASE}/query", {"sql": sql}, headers=BY_TOKEN)
    assert answer.error[:2] == (400, 7500)


def test_a_body_longer_than_a_call_may_be_is_refused(app: App) -> None:
    body = b'{"sql": "SELECT 1", "params": ["' + b"x" * 32 * 1024 * 1024 + b'"]}'

    assert call(app, "POST", f"{DATABASE}/raw", body, headers=BY_TOKEN).error[:2] == (413, 40093)


def test_long_statements_of_an_account_do_not_hold_up_another(app: App) -> None:
    long = {"sql": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT * FROM "
            "(SELECT max(i) FROM n)"}  # fmt: skip
    with in_thread(app, token="secret") as server, ThreadPoolExecutor(8) as pool:

        def send(account: str, database: str, body: object) -> int:
            url = f"{server.base_url}/accounts/{account}/d1/database/{database}/raw"
            return httpx.post(url, json=body, headers=BY_TOKEN, timeout=60).status_code

        calls = [pool.submit(send, "acme", f"b{i}", long) for i in range(6)]
        wait_until(lambda: len(app.services.databases.processes()) == 4)
        assert send("other", "texts", {"sql": "SELECT 1"}) == 200
        assert not any(each.done() for each in calls)
        app.services.databases.stop()
        assert {each.result() for each in calls} == {503}
