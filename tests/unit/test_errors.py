"""Errors say what happened, also those that others raise without a word."""

import httpx
import pytest

from vicinal.errors import reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (httpx.ReadError(""), "ReadError"),
        (httpx.ConnectError("all attempts failed"), "all attempts failed"),
        (TimeoutError(), "TimeoutError"),
        (OSError(24, "Too many open files"), "[Errno 24] Too many open files"),
    ],
)
def test_a_reason_is_what_an_error_says_or_its_kind(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
