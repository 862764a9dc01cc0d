"""Too many texts are refused before they are made."""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from vicinal.errors import BadEmbeddingBody, BadEmbeddingInput
from vicinal.limits import Limits
from vicinal.wire import counting, requests

LIMITS = Limits()
MOST = LIMITS.texts_per_embedding_max

FORMS: dict[str, tuple[Callable[[bytes, Limits], Any], Callable[[object], object], str]] = {
    "REST": (requests.embedding, lambda texts: {"text": texts}, "text"),
    "binding": (requests.binding_embedding, lambda texts: {"inputs": {"text": texts}}, "text"),
    "OpenAI": (requests.openai_embedding, lambda texts: {"model": "m", "input": texts}, "input"),
}


@pytest.mark.parametrize("form", FORMS)
def test_too_many_texts_take_no_memory(form: str) -> None:
    read, shaped, member = FORMS[form]
    body = json.dumps(shaped(["a"] * 2_000_000)).encode()
    tracemalloc.start()

    with pytest.raises(BadEmbeddingInput, match=f"{member}: expected 1 to {MOST} texts, got more"):
        read(body, LIMITS)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(body) * 1.5  # seen: 0; it was eight times the body


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "text", ['"' * 9_000, "\\" * 9_000, '\\"' * 5_000, "a, [b]\n" * 2_000, "é漢" * 3_000]
)
def test_as_many_long_texts_as_the_limit_pass_whatever_is_in_them(form: str, text: str) -> None:
    read, shaped, _ = FORMS[form]
    body = json.dumps(shaped([text] * MOST)).encode()

    assert len(body) > counting.SHORT_BYTES
    assert read(body, LIMITS).texts == (text,) * MOST
    with pytest.raises(BadEmbeddingInput, match="got more"):
        read(json.dumps(shaped([text] * (MOST + 1))).encode(), LIMITS)


@pytest.mark.parametrize("form", FORMS)
def test_one_long_text_of_escapes_is_one(form: str) -> None:
    read, shaped, _ = FORMS[form]

    assert read(json.dumps(shaped('"' * 100_000)).encode(), LIMITS).texts == ('"' * 100_000,)


def test_what_is_amiss_otherwise_is_told_as_in_a_short_body() -> None:
    long = b" " * counting.SHORT_BYTES

    for body in (b"{", b'{"text":1}', b'{"text":[1]}', b"[]", b"{}", b'{"text":["' + b"a" * 9):
        told = []
        for given in (body, body + long):
            with pytest.raises((BadEmbeddingBody, BadEmbeddingInput)) as caught:
                requests.embedding(given, LIMITS)
            told.append((caught.type, str(caught.value)[:40]))
        assert told[0] == told[1]
