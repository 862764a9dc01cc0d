"""Every error has an answer, and the answers are the live service's where those are known."""

import inspect
import json

import pytest

from vicinal import errors
from vicinal.errors import Error
from vicinal.limits import PROFILES, Limits
from vicinal.model import QueryResult
from vicinal.wire import codes, envelope, requests, vectors
from vicinal.wire.codes import ErrorResponse

LIMITS = Limits()
LIVE_CODES = {
    1000, 1005, 3000, 3002, 3043, 5004, 5006, 5007, 7001, 7003, 7404, 7500, 9106, 9109, 10000,
    10049, 40005, 40006, 40007, 40008, 40009, 40012, 40016, 40018, 40023, 40025, 40026, 40030,
    40041, 40052,
}  # fmt: skip

NOT_FOUND = 'vectorize.index.not_found - Index name "%s"'
DUPLICATE = 'vectorize.index.duplicate_name - Index name "%s"'
NO_ROUTE = "Could not route to %s, perhaps your object identifier is invalid?"
BAD_QUERY = "invalid query vector, expected 2 dimensions, and got %d dimensions"
TOP_K_OF_ALL = (
    "with returnValues=true or returnMetadata=all, max top K is 50, but got %d; "
    "for a top K up to 100, retry with returnValues=false and returnMetadata=indexed"
)
BAD_VECTOR = 'invalid vector for id="X", expected 2 dimensions, and got 1 dimensions'
LARGE_METADATA = (
    'oversized metadata for vector id="X"; the compact JSON representation of the metadata '
    "must not exceed 10240 bytes, got 21326 bytes"
)
UNPARSABLE = "failed to parse upsert vectors request in %s format: line %s was not expected format"

CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("error", CLASSES)
def test_every_class_of_errors_has_an_answer_of_its_own(error: type[Error]) -> None:
    row = codes.CODES[error]

    assert 400 <= row.status < 600
    assert row.code in LIVE_CODES or 40080 <= row.code <= 40099, "ours are in a range of their own"
    assert row.text.count("%s") == 1


def test_an_error_that_only_its_parent_knows_is_answered_as_the_parent_is() -> None:
    class Novel(errors.BadTopK):
        pass

    assert codes.response_for(Novel("x")) == ErrorResponse(400, 40025, "x")


@pytest.mark.parametrize(
    ("error", "status", "code", "text"),
    [
        (errors.IndexNotFound("docs"), 404, 3000, NOT_FOUND % "docs"),
        (errors.IndexNotFound("100%s"), 404, 3000, NOT_FOUND % "100%s"),
        (errors.IndexExists("docs"), 400, 3002, DUPLICATE % "docs"),
        (errors.MetadataIndexNotFound("none on 'k'"), 400, 40005, "none on 'k'"),
        (errors.LimitExceeded("full"), 400, 40096, "full"),
        (errors.Overloaded("9 wait"), 429, 40041, "Too Many Requests: 9 wait"),
        (errors.RouteNotFound("/x"), 404, 7003, NO_ROUTE % "/x"),
        (errors.MethodNotAllowed("PUT"), 405, 7001, "Method PUT not available for that URI."),
        (errors.Unauthenticated("none"), 401, 9106, "Authentication error: none"),
        (errors.InvalidToken("none"), 401, 1000, "Invalid API Token: none"),
        (errors.UnknownUser("none"), 401, 9109, "Invalid access token: none"),
        (errors.Forbidden("read only"), 403, 10000, "Authentication error: read only"),
        (errors.BodyTooLarge("1 of 0"), 413, 40093, "1 of 0"),
        (errors.Corruption("segment 3"), 500, 40098, "segment 3"),
        (errors.ModelNotFound("no model x"), 400, 5007, "no model x"),
    ],
)
def test_errors_of_other_layers_are_answered(
    error: Error, status: int, code: int, text: str
) -> None:
    assert codes.response_for(error) == ErrorResponse(status, code, text)


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ('{"vector":[]}', 40006, BAD_QUERY % 0),
        ('{"vector":[1]}', 40006, BAD_QUERY % 1),
        ('{"vector":[1,2],"topK":101}', 40025, "max top K is 100, but got 101"),
        ('{"vector":[1,2],"topK":100,"returnMetadata":"all"}', 40025, TOP_K_OF_ALL % 100),
        ('{"vector":[1,2],"topK":51,"returnValues":true}', 40025, TOP_K_OF_ALL % 51),
    ],
)
def test_texts_of_refused_queries_are_the_live_ones(body: str, code: int, text: str) -> None:
    with pytest.raises(Error) as caught:
        requests.query(body.encode(), 2, LIMITS)

    assert codes.response_for(caught.value) == ErrorResponse(400, code, text)


def test_texts_of_refused_ids_are_the_live_ones() -> None:
    with pytest.raises(Error) as caught:
        requests.ids(json.dumps({"ids": ["x"] * 34}).encode(), 20, LIMITS)

    text = "too many ids in payload; max id count is 20, got 34"
    assert codes.response_for(caught.value) == ErrorResponse(400, 40007, text)


@pytest.mark.parametrize(
    ("members", "code", "start"),
    [
        ({"values": [1]}, 40012, BAD_VECTOR),
        ({"id": "x" * 74}, 40008, "id too long; max is 64 bytes, got 74 bytes"),
        ({"namespace": "x" * 65}, 40009, "namespace too long"),
        ({"metadata": {"k": "x" * 21318}}, 40016, LARGE_METADATA),
        ({"metadata": {"a.b": 1}}, 40018, 'invalid metadata key for vector id="X": '),
        ({"values": None}, 40023, UNPARSABLE % ("ndjson", "Some(0)")),
    ],
)
def test_texts_of_refused_vectors_begin_as_the_live_ones(
    members: dict[str, object], code: int, start: str
) -> None:
    with pytest.raises(Error) as caught:
        vectors.read(json.dumps({"id": "X", "values": [1, 2], **members}).encode(), None, 2, LIMITS)

    answer = codes.response_for(caught.value)
    assert (answer.status, answer.code) == (400, code)
    assert answer.message.startswith(start)


def test_the_text_of_a_refused_document_begins_as_the_live_one() -> None:
    with pytest.raises(Error) as caught:
        vectors.read(b'{"vectors":[{}]}', "application/json", 2, LIMITS)

    answer = codes.response_for(caught.value)
    assert (answer.status, answer.code) == (400, 40023)
    assert answer.message.startswith(UNPARSABLE % ("json", "None"))


def test_a_cursor_that_cannot_be_used_is_told_of_in_the_live_words_first() -> None:
    answer = codes.response_for(errors.BadCursor("it has expired"))

    text = "List vectors cursor appears to be corrupted - it has expired"
    assert answer == ErrorResponse(400, 40052, text)


@pytest.mark.parametrize("condition", [{}, []])
def test_a_filter_without_a_value_has_its_live_code(condition: object) -> None:
    body = json.dumps({"vector": [1, 2], "filter": {"k": condition}}).encode()
    with pytest.raises(errors.EmptyFilterValue) as caught:
        requests.query(body, 2, LIMITS)

    answer = codes.response_for(caught.value)
    assert (answer.status, answer.code) == (400, 40030)


@pytest.mark.parametrize("limits", PROFILES.values(), ids=PROFILES)
def test_ids_that_no_vector_can_have_are_refused_by_all_that_takes_ids(limits: Limits) -> None:
    bound = limits.id_bytes_max
    longest, longer = "é" * (bound // 2), "é" * (bound // 2) + "x"

    def ids(vector_id: str) -> list[str]:
        return requests.ids(json.dumps({"ids": ["a", vector_id]}).encode(), 20, limits)

    def by_id(vector_id: str) -> str | None:
        body = json.dumps({"vectorId": vector_id}).encode()
        return requests.query(body, 2, limits).vector_id

    assert (ids(longest), by_id(longest)) == (["a", longest], longest)
    for read, place in ((ids, "ids[1]"), (by_id, "vectorId")):
        with pytest.raises(errors.IdTooLong) as caught:
            read(longer)
        text = f"id too long; max is {bound} bytes, got {bound + 1} bytes ({place})"
        assert codes.response_for(caught.value) == ErrorResponse(400, 40008, text)


def test_an_unknown_content_type_has_its_live_code_and_text() -> None:
    with pytest.raises(Error) as caught:
        vectors.read(b"a,b", "text/csv", 2, LIMITS)

    answer = codes.response_for(caught.value)
    assert (answer.status, answer.code) == (400, 1005)
    assert answer.message.startswith("vectorize.unknown_content_type")


def test_an_endless_message_is_cut() -> None:
    assert len(codes.response_for(errors.BadBody("x" * 2000)).message) == 2000
    assert codes.response_for(errors.BadBody("x" * 2001)).message == "x" * 2000 + "..."


def test_a_retry_is_suggested_only_when_it_is_known_when() -> None:
    assert codes.response_for(errors.Unavailable("x", retry_after=1.5)).retry_after == 1.5
    assert codes.response_for(errors.Unavailable("x")).retry_after is None
    assert codes.response_for(errors.BadTopK("x")).retry_after is None


def test_filters_on_unindexed_properties_are_told_of() -> None:
    notices = codes.notices_for(QueryResult((), unindexed=("a", "b.c")))

    assert [notice.message for notice in notices] == [
        "the filter on 'a' matches nothing: the property has no metadata index",
        "the filter on 'b.c' matches nothing: the property has no metadata index",
    ]
    assert all(json.loads(envelope.success(b"{}", notices))["success"] for _ in notices)
