"""Answers are whole JSON documents with the members that each kind of client reads."""

import json

import msgspec
import pytest

from vicinal.wire import envelope, schemas
from vicinal.wire.codes import ErrorResponse, Message

TEXTS = ["plain", 'quotes " and \\', "line\nbreak", "é😀", "100%b %d"]


def strictly(shape: type[msgspec.Struct], body: bytes) -> None:
    """Check that `body` has the members of `shape`, and no others."""
    value = msgspec.json.decode(body, type=shape)
    assert msgspec.json.decode(msgspec.json.encode(value)) == msgspec.json.decode(body)


def test_a_result_is_framed_by_four_members() -> None:
    body = envelope.success(b'{"count":0,"matches":[]}')

    strictly(schemas.SuccessSchema, body)
    assert json.loads(body) == {
        "result": {"count": 0, "matches": []},
        "success": True,
        "errors": [],
        "messages": [],
    }


def test_nothing_to_return_is_null() -> None:
    assert json.loads(envelope.success(envelope.NULL))["result"] is None


@pytest.mark.parametrize("text", TEXTS)
def test_messages_are_carried_along(text: str) -> None:
    body = envelope.success(b"[]", [Message(40094, text), Message(1000, "")])

    strictly(schemas.SuccessSchema, body)
    assert json.loads(body)["messages"] == [
        {"code": 40094, "message": text},
        {"code": 1000, "message": ""},
    ]


@pytest.mark.parametrize("text", TEXTS)
def test_a_failure_is_framed_by_the_same_members(text: str) -> None:
    body = envelope.failure(ErrorResponse(400, 40012, text, retry_after=2))

    strictly(schemas.FailureSchema, body)
    assert json.loads(body) == {
        "result": None,
        "success": False,
        "errors": [{"code": 40012, "message": text}],
        "messages": [],
    }


@pytest.mark.parametrize("text", TEXTS)
def test_a_bare_failure_serves_both_bindings(text: str) -> None:
    body = envelope.bare_failure(ErrorResponse(400, 40006, text))

    assert json.loads(body) == {
        "error": text,
        "code": 40006,
        "errors": [{"code": 40006, "message": text}],
    }


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "invalid_request_error"), (503, "server_error")]
)
def test_a_failure_in_openai_form_says_whose_fault_it_is(status: int, kind: str) -> None:
    body = envelope.openai_failure(ErrorResponse(status, 5006, "x"))

    strictly(schemas.OpenAIFailureSchema, body)
    assert json.loads(body) == {
        "error": {"message": "x", "type": kind, "param": None, "code": "5006"}
    }
