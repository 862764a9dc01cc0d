"""An error of a service is told in its own words, whatever form its body has."""

import pytest

from vicinal.openai_errors import CHARS_MAX, reason


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b'{"error": {"message": "too long", "code": 3}}', "too long"),
        (b'{"error": "too long"}', "too long"),
        (b'{"error": "' + b"x" * 10_000 + b'"}', "x" * CHARS_MAX),
        (b'{"error": {"message": "' + b"x" * 10_000 + b'"}}', "x" * CHARS_MAX),
        (b'{"error": {"code": 3}}', ""),
        (b'{"error": null}', '{"error": null}'),
        (b'{"message": "too long"}', '{"message": "too long"}'),
        (b" not found \n", "not found"),
        (b"", ""),
        (b"\xff" * 300, "\N{REPLACEMENT CHARACTER}" * 200),
        (b'{"error": "\xff"}', '{"error": "\N{REPLACEMENT CHARACTER}"}'),
        (b'{"a":' * 100_000, ('{"a":' * 40)),
    ],
)
def test_the_message_is_read_and_of_another_form_the_beginning(content: bytes, text: str) -> None:
    assert reason(content) == text
