"""SQL over HTTP: D1's two routes, as its clients call and read them."""

from pathlib import Path

import pytest

from tests.support.asgi import application, call
from vicinal.server.app import App
from vicinal.tokens import Permission, Tokens

DATABASE = "/client/v4/accounts/acme/d1/database/texts"
BY_TOKEN = {"Authorization": "Bearer secret"}


@pytest.fixture
def app(tmp_path: Path) -> App:
    return application(tmp_path, tokens=["secret"])


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
