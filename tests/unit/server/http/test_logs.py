"""The log says what happened to each request and nothing of what was in it."""

import json
import logging
from pathlib import Path

import pytest

from tests.support.asgi import INDEXES, Conversation, application, call
from tests.support.model_engine import ModelEngine
from vicinal.model import Index
from vicinal.server.http.logs import JsonFormatter, configure


def fields(record: logging.LogRecord) -> dict[str, object]:
    logged: dict[str, object] = vars(record)["fields"]
    return logged


def test_an_access_line_has_the_template_of_the_path_and_sizes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = application(tmp_path)
    caplog.set_level(logging.INFO, "vicinal.access")

    answer = call(
        app,
        "GET",
        f"{INDEXES}/secret-name?token=s3cret",
        b"",
        headers={"authorization": "Bearer s3cret"},
    )

    (record,) = caplog.records
    logged = fields(record)
    assert logged["path"] == ("/client/v4/accounts/{account_id}/vectorize/v2/indexes/{index_name}")
    assert (logged["method"], logged["status"]) == ("GET", 404)
    assert (logged["bytes_in"], logged["bytes_out"]) == (0, len(answer.body))
    assert isinstance(logged["milliseconds"], float)
    assert "s3cret" not in record.getMessage()
    assert "secret-name" not in record.getMessage()
    assert "s3cret" not in str(logged)


def test_a_client_that_goes_is_logged_as_499(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = application(tmp_path)
    caplog.set_level(logging.INFO, "vicinal.access")

    talk = Conversation([b"{", b"}"], breaks_off=True)
    assert call(app, "POST", INDEXES, conversation=talk).status is None

    assert [fields(record)["status"] for record in caplog.records] == [499]


def test_a_defect_is_logged_with_its_trace_and_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(ModelEngine):
        def list_indexes(self, account: str) -> list[Index]:
            raise AssertionError("the inside of the engine")

    answer = call(application(tmp_path, engine=Broken()), "GET", INDEXES)

    status, _, message = answer.error
    assert status == 500
    assert "inside" not in message
    (record,) = (each for each in caplog.records if each.levelname == "ERROR")
    assert record.name.startswith("vicinal.server")
    assert "the inside of the engine" in caplog.text
    assert "Traceback" in caplog.text


def test_a_json_log_has_one_object_a_line_with_the_fields_as_members() -> None:
    record = logging.LogRecord("vicinal.x", logging.WARNING, "f.py", 1, "a %s\nb", ("é",), None)
    record.fields = {"status": 200}

    line = JsonFormatter().format(record)

    assert "\n" not in line
    event = json.loads(line)
    assert event.pop("time").endswith("+00:00")
    assert event == {
        "level": "warning",
        "logger": "vicinal.x",
        "message": "a é\nb",
        "status": 200,
    }


def test_a_json_log_carries_the_trace_of_an_exception() -> None:
    try:
        raise ValueError("why")
    except ValueError as error:
        record = logging.LogRecord(
            "vicinal", logging.ERROR, "f.py", 1, "m", (), (ValueError, error, error.__traceback__)
        )

    assert "ValueError: why" in json.loads(JsonFormatter().format(record))["trace"]


def test_the_level_decides_what_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    configure("warning", "json")
    try:
        logging.getLogger("vicinal.access").info("quiet")
        logging.getLogger("vicinal.server").warning("loud")
    finally:
        for name in ("vicinal", "uvicorn.error"):
            logging.getLogger(name).handlers = []
            logging.getLogger(name).setLevel(logging.NOTSET)
            logging.getLogger(name).propagate = True

    assert [json.loads(line)["message"] for line in capfd.readouterr().err.splitlines()] == ["loud"]
