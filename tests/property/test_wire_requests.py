"""Whatever a body holds, it is read or refused with an error of ours; and results read back."""

import contextlib
import json
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.bodies import READERS, metadata, numbers, scalars, short_text
from vicinal.errors import Error
from vicinal.limits import Limits
from vicinal.model import MetadataLevel, QueryResult, ScoredVector, StoredVector
from vicinal.wire import members, requests, responses

LIMITS = Limits()
NAMES = st.sampled_from(
    ["name", "config", "dimensions", "metric", "preset", "description", "vector", "vectorId",
     "topK", "filter", "namespace", "returnValues", "returnMetadata", "ids", "propertyName",
     "property", "indexType", "backfill", "text", "pooling", "inputs", "model", "input",
     "encoding_format", "$eq", "$in", "$gte", "$lt", "k"]
)  # fmt: skip
WORDS = st.sampled_from(["cosine", "string", "mean", "all", "none", "base64", "x", ""])

documents = st.recursive(
    scalars | WORDS | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(), inner),
    max_leaves=20,
)
bodies = (
    st.dictionaries(NAMES, documents).map(lambda document: json.dumps(document).encode())
    | documents.map(lambda document: json.dumps(document).encode())
    | st.binary()
)
floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    "read",
    [
        lambda body: requests.create_index(body, LIMITS),
        lambda body: requests.ids(body, 3, LIMITS),
        lambda body: requests.create_metadata_index(body, LIMITS),
        requests.delete_metadata_index,
        lambda body: requests.embedding(body, LIMITS),
        lambda body: requests.binding_embedding(body, LIMITS),
        lambda body: requests.openai_embedding(body, LIMITS),
    ],
    ids=["create", "ids", "metadata", "drop", "embedding", "binding", "openai"],
)
@given(body=bodies)
def test_any_body_is_read_or_refused(read: Any, body: bytes) -> None:
    with contextlib.suppress(Error):
        read(body)


@given(
    body=bodies
    | st.fixed_dictionaries(
        {"vector": st.lists(numbers, min_size=2, max_size=2)},
        optional={
            "topK": numbers,
            "filter": st.dictionaries(st.text(), documents),
            "returnValues": scalars,
            "returnMetadata": scalars | WORDS,
            "namespace": scalars,
        },
    ).map(lambda document: json.dumps(document).encode())
)
def test_any_query_is_read_or_refused_alike_by_all_readers(body: bytes) -> None:
    def outcome(reader: Any) -> object:
        with mock.patch.object(members, "quick", reader):
            try:
                query = requests.query(body, 2, LIMITS)
            except Error as error:
                return type(error), str(error)
        assert (query.vector is None) != (query.vector_id is None)
        assert 1 <= query.top_k <= LIMITS.top_k_max
        return repr(query)

    first, *others = map(outcome, READERS)

    assert others == [first] * len(others)


@given(
    vector=st.lists(floats32, min_size=1, max_size=8),
    top_k=st.integers(1, 50),
    namespace=st.none() | short_text(64),
    values=st.none() | st.booleans(),
    level=st.sampled_from([None, True, False, "none", "indexed", "all"]),
    indent=st.sampled_from([None, 1]),
)
def test_a_query_reads_as_it_was_meant(
    vector: list[float],
    top_k: int,
    namespace: str | None,
    values: bool | None,
    level: object,
    indent: int | None,
) -> None:
    body = json.dumps(
        {
            "vector": vector,
            "topK": top_k,
            "namespace": namespace,
            "returnValues": values,
            "returnMetadata": level,
        },
        indent=indent,
    ).encode()

    query = requests.query(body, len(vector), LIMITS)

    assert query.vector is not None
    assert query.vector.tobytes() == np.array(vector, dtype=np.float32).tobytes()
    assert (query.top_k, query.namespace) == (top_k, namespace or "")
    assert query.return_values is bool(values)
    meant = {None: "none", False: "none", True: "all"}.get(level, level)  # type: ignore[call-overload]  # a str is its own
    assert query.return_metadata is MetadataLevel(meant)


@given(
    st.lists(
        st.tuples(
            short_text(64, min_size=1),
            floats32,
            short_text(64),
            st.none() | st.lists(floats32, min_size=1, max_size=4),
            st.none() | metadata,
        ),
        max_size=4,
    )
)
def test_matches_read_back_as_they_are(
    rows: list[tuple[str, float, str, list[float] | None, dict[str, Any] | None]],
) -> None:
    matches = tuple(
        ScoredVector(
            id,
            score,
            namespace,
            None if values is None else np.array(values, dtype=np.float32),
            None if document is None else json.dumps(document, ensure_ascii=False).encode(),
        )
        for id, score, namespace, values, document in rows
    )

    shown = json.loads(responses.query_result(QueryResult(matches)))

    assert shown["count"] == len(rows)
    for read, (id, score, namespace, values, document) in zip(shown["matches"], rows, strict=True):
        assert (read["id"], read.get("namespace", "")) == (id, namespace)
        assert np.float32(read["score"]).tobytes() == np.float32(score).tobytes()
        assert read.get("values") == values
        assert read.get("metadata") == document


@given(short_text(64, min_size=1), st.lists(floats32, min_size=1, max_size=4), metadata)
def test_a_stored_vector_reads_back_as_it_is(
    id: str, values: list[float], document: dict[str, Any]
) -> None:
    blob = json.dumps(document).encode()

    (read,) = json.loads(
        responses.vectors([StoredVector(id, np.array(values, dtype=np.float32), "n", blob)])
    )

    assert read == {"id": id, "values": values, "metadata": document, "namespace": "n"}
