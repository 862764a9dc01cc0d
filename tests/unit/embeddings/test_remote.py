"""A remote service is asked as OpenAI's clients ask, and its answers are checked."""

import base64
import json
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support.embedding_service import Answer, Asked, embedding_service
from tests.support.ports import closed_port
from vicinal.embeddings.base import Pooling
from vicinal.embeddings.remote import (
    BATCH_TEXTS_MAX,
    CHARS_MAX,
    DIMENSIONS_MAX,
    RemoteEmbedder,
    answer_bytes_max,
)
from vicinal.errors import BadEmbeddingInput, Error, ModelNotFound, Overloaded, Unavailable

MODEL = "@mine/some-model"
KNOWN = "@cf/baai/bge-base-en-v1.5"


def remote(url: str, **models: str) -> RemoteEmbedder:
    return RemoteEmbedder(url, key="the-key", models={MODEL: "theirs"} | models, pause_s=0.0)


def vectors(*rows: Any, **members: Any) -> Answer:
    """An answer with these embeddings, numbered in order."""
    data = [{"index": place, "embedding": row} for place, row in enumerate(rows)]
    return Answer({"data": data, **members})


def always(answer: Answer) -> Callable[[Asked], Answer]:
    return lambda _asked: answer


def test_the_request_names_the_model_as_the_service_does_and_carries_the_key() -> None:
    with embedding_service(always(vectors([3.0, 4.0], [0.0, 2.0]))) as service:
        made = remote(service.url).embed(MODEL, ["one", "zwölf"])

    [asked] = service.asked
    assert asked.path == "/v1/embeddings"
    assert asked.headers["authorization"] == "Bearer the-key"
    assert asked.headers["content-type"] == "application/json"
    assert asked.body == {
        "model": "theirs",
        "input": ["one", "zwölf"],
        "encoding_format": "float",
    }
    assert made.values == pytest.approx(np.array([[0.6, 0.8], [0.0, 1.0]]))
    assert made.pooling is None


@pytest.mark.parametrize("suffix", ["", "/", "/embeddings", "/embeddings/"])
def test_the_url_may_end_with_or_without_the_operation(suffix: str) -> None:
    with embedding_service(always(vectors([1.0]))) as service:
        remote(service.url + suffix).embed(MODEL, ["one"])

    assert service.asked[0].path == "/v1/embeddings"


def test_without_a_key_none_is_sent_and_known_models_go_by_their_repository() -> None:
    with embedding_service(always(vectors([1.0] * 768))) as service:
        RemoteEmbedder(service.url).embed(KNOWN, ["one"])

    assert "authorization" not in service.asked[0].headers
    assert service.asked[0].body["model"] == "BAAI/bge-base-en-v1.5"


def test_base64_is_read_as_little_endian_float32() -> None:
    encoded = base64.b64encode(np.array([3.0, -4.0], dtype="<f4").tobytes()).decode()

    with embedding_service(always(vectors(encoded))) as service:
        made = remote(service.url).embed(MODEL, ["one"])

    assert made.values == pytest.approx(np.array([[0.6, -0.8]]))


def test_many_texts_are_sent_in_parts_and_their_tokens_added() -> None:
    def answer(asked: Asked) -> Answer:
        rows = [[float(text), 1.0] for text in asked.body["input"]]
        return vectors(*rows, usage={"prompt_tokens": len(rows)})

    texts = [str(number) for number in range(2 * BATCH_TEXTS_MAX + 1)]
    with embedding_service(answer) as service:
        made = remote(service.url).embed(MODEL, texts)

    assert [len(asked.body["input"]) for asked in service.asked] == [32, 32, 1]
    assert made.token_count == 65
    assert made.values[:, 0] / made.values[:, 1] == pytest.approx(np.arange(65))


def test_a_pooling_that_cannot_be_had_is_refused_without_asking() -> None:
    with (
        embedding_service(always(vectors([1.0]))) as service,
        pytest.raises(BadEmbeddingInput, match="'cls'"),
    ):
        remote(service.url).embed(MODEL, ["one"], Pooling.CLS)

    assert service.asked == []


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_service_is_asked_again(status: int) -> None:
    answers = [Answer(b"later", status), Answer(b"later", status), vectors([1.0])]

    with embedding_service(lambda _: answers.pop(0)) as service:
        remote(service.url).embed(MODEL, ["one"])

    assert len(service.asked) == 3


@pytest.mark.parametrize(
    ("answer", "error", "said", "retry_after", "times"),
    [
        (Answer({"error": {"message": "slow down"}}, 429), Overloaded, "slow down", 1.0, 3),
        (Answer(b"", 429, {"Retry-After": "30"}), Overloaded, "429", 30.0, 1),
        (Answer(b"", 503, {"Retry-After": "0"}), Unavailable, "503", 1.0, 3),
        (Answer({"error": "boom"}, 500), Unavailable, "500 .*boom", None, 1),
        (Answer({"error": {"message": "bad key"}}, 401), Unavailable, "bad key", None, 1),
        (Answer(b"<html>", 403), Unavailable, "<html>", None, 1),
        (Answer(b"", 302, {"Location": "/"}), Unavailable, "302", None, 1),
    ],
)
def test_what_the_caller_cannot_mend_is_unavailable(
    answer: Answer, error: type[Unavailable], said: str, retry_after: float | None, times: int
) -> None:
    with embedding_service(always(answer)) as service, pytest.raises(error, match=said) as caught:
        remote(service.url).embed(MODEL, ["one"])

    assert caught.value.retry_after == retry_after
    assert len(service.asked) == times
    assert "the-key" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadEmbeddingInput),
        (413, BadEmbeddingInput),
        (422, BadEmbeddingInput),
        (404, ModelNotFound),
    ],
)
def test_what_the_caller_can_mend_is_passed_on(status: int, error: type[Error]) -> None:
    answer = Answer({"error": {"message": "too long by 3 tokens"}}, status)

    with (
        embedding_service(always(answer)) as service,
        pytest.raises(error, match=f"{status} for theirs: too long by 3 tokens"),
    ):
        remote(service.url).embed(MODEL, ["one"])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(b"not json"), "something else"),
        (Answer({"embeddings": [[1.0]]}), "something else.*data"),
        (vectors([1.0, 2.0]), "1 vectors for 2 texts"),
        (vectors([1.0], [1.0], [1.0]), "3 vectors for 2 texts"),
        (
            Answer({"data": [{"index": 1, "embedding": [1.0]}, {"index": 1, "embedding": [1.0]}]}),
            "numbers them wrongly",
        ),
        (vectors([1.0], [1.0, 2.0]), "2 dimensions .* has 1"),
        (vectors([], []), "0 dimensions"),
        (vectors([1e300], [1.0]), "beyond float32"),
        (vectors("****", "****"), "damaged base64"),
        (vectors("AAA=", "AAA="), "damaged base64"),
        (vectors(base64.b64encode(b"\x00\x00\xc0\x7f").decode(), [1.0]), "NaN"),
        (vectors(None, None), "something else"),
    ],
)
def test_an_answer_that_cannot_be_right_is_not_believed(answer: Answer, said: str) -> None:
    with (
        embedding_service(always(answer)) as service,
        pytest.raises(Unavailable, match=said),
    ):
        remote(service.url).embed(MODEL, ["one", "two"])


def test_published_dimensions_are_held_to() -> None:
    with embedding_service(always(vectors([1.0, 2.0]))) as service:
        embedder = RemoteEmbedder(service.url, models={KNOWN: "another"})
        with pytest.raises(Unavailable, match=f"2 dimensions for another; {KNOWN} has 768"):
            embedder.embed(KNOWN, ["one"])


def test_dimensions_that_nobody_published_are_those_of_the_first_good_answer() -> None:
    answers = [vectors([1.0, 2.0], [1.0]), vectors([1.0, 2.0, 3.0]), vectors([1.0, 2.0])]

    with embedding_service(lambda _: answers.pop(0)) as service:
        embedder = remote(service.url)
        with pytest.raises(Unavailable):
            embedder.embed(MODEL, ["one", "two"])
        assert [each.dimensions for each in embedder.models()] == [None]
        embedder.embed(MODEL, ["one"])
        assert [each.dimensions for each in embedder.models()] == [3]
        with pytest.raises(Unavailable, match=r"2 dimensions .* has 3"):
            embedder.embed(MODEL, ["one"])


def test_a_service_that_is_not_there_is_named() -> None:
    with (
        closed_port() as port,
        pytest.raises(Unavailable, match=f"127.0.0.1:{port}/v1/embeddings cannot be reached"),
    ):
        remote(f"http://127.0.0.1:{port}/v1").embed(MODEL, ["one"])


def test_a_service_that_never_answers_is_given_up_after_the_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        embedder = RemoteEmbedder(url, models={MODEL: "theirs"}, timeout_s=0.05)
        with pytest.raises(Unavailable, match=r"takes more than 0\.05 seconds") as caught:
            embedder.embed(MODEL, ["one"])

    assert caught.value.retry_after == 1.0


@pytest.mark.parametrize("url", ["no-scheme/v1", "ftp://127.0.0.1/v1", "http://[::1/v1"])
def test_a_url_that_cannot_be_asked_is_named(url: str) -> None:
    with pytest.raises(Unavailable, match="cannot be asked"):
        remote(url).embed(MODEL, ["one"])


@pytest.mark.parametrize(
    ("model", "sent_max", "dimensions"), [(MODEL, CHARS_MAX, 1), (KNOWN, 512 * 128, 768)]
)
def test_of_a_long_text_only_the_start_is_sent_on(
    model: str, sent_max: int, dimensions: int
) -> None:
    def answer(asked: Asked) -> Answer:
        return vectors(*[[1.0] * dimensions for _ in asked.body["input"]])

    with embedding_service(answer) as service:
        remote(service.url, **{KNOWN: "bge"}).embed(model, ["a" * 1_000_000] * 40 + ["short"])

    sent = [text for asked in service.asked for text in asked.body["input"]]
    assert [len(text) for text in sent] == [sent_max] * 40 + [5]


def test_an_answer_without_end_is_not_read_to_it() -> None:
    bytes_max = answer_bytes_max(1, DIMENSIONS_MAX)
    whole = json.dumps({"data": [{"embedding": [1.0]}]}).encode().ljust(bytes_max)
    answers = [Answer(whole), Answer(whole + b" ")]
    with embedding_service(lambda _: answers.pop(0)) as service:
        assert len(remote(service.url).embed(MODEL, ["one"]).values) == 1
        with pytest.raises(Unavailable, match=f"more than {bytes_max} bytes"):
            remote(service.url).embed(MODEL, ["one"])


def test_an_answer_of_a_known_model_has_no_room_for_more_than_its_vectors() -> None:
    whole = json.dumps({"data": [{"embedding": [1.0] * 768}]}).encode()
    longest = whole.ljust(answer_bytes_max(1, 768))
    answers = [Answer(longest), Answer(longest + b" ")]
    with embedding_service(lambda _: answers.pop(0)) as service:
        embedder = RemoteEmbedder(service.url)
        assert len(embedder.embed(KNOWN, ["one"]).values) == 1
        with pytest.raises(Unavailable, match="more than"):
            embedder.embed(KNOWN, ["one"])


def test_a_compressed_answer_is_not_unpacked() -> None:
    packed = Answer(b"?", headers={"Content-Encoding": "gzip"})
    with (
        embedding_service(always(packed)) as service,
        pytest.raises(Unavailable, match="compresses"),
    ):
        remote(service.url).embed(MODEL, ["one"])

    assert service.asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_the_key_is_in_no_message_though_the_service_repeats_it(status: int) -> None:
    told = Answer({"error": {"message": "no such key: the-key"}}, status)
    with embedding_service(always(told)) as service, pytest.raises(Error) as caught:
        remote(service.url).embed(MODEL, ["one"])

    assert "the-key" not in str(caught.value)
    assert "no such key: (hidden)" in str(caught.value)


def test_a_pause_of_any_length_is_a_number() -> None:
    busy = Answer({}, 429, {"Retry-After": "9" * 400})
    with embedding_service(always(busy)) as service, pytest.raises(Overloaded) as caught:
        remote(service.url).embed(MODEL, ["one"])

    assert caught.value.retry_after == 999_999_999
