"""Whatever objects the binding is given, it takes them or refuses them; the folder stays whole."""

import contextlib
import tempfile
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import vicinal
from vicinal.binding import Columns, Database, Vector, Vectorize
from vicinal.errors import AlreadyExists, InvalidInput, LimitExceeded, NotFound

X = [1.0, 0.0, 0.0]
ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates, too

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | ANY_TEXT
    | st.binary()
    | st.complex_numbers()
    | st.builds(Decimal, st.integers())
    | st.builds(Fraction, st.integers())
    | st.sampled_from([np.bool_(True), np.int8(3), np.float16("nan"), np.ma.masked, object, ...])
    | st.sampled_from(["docs", "cosine", "string", "all", "exact", "a", "k", 3, [1, 0, 0]])
    | arrays.from_dtype(np.dtype("f4"))
)
some_arrays = arrays.arrays(
    arrays.scalar_dtypes() | st.just(np.dtype(object)),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
keys = ANY_TEXT | st.sampled_from(["id", "values", "namespace", "metadata", "k", "$in", "$gte"])
things: st.SearchStrategy[Any] = st.recursive(
    scalars | some_arrays,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys | st.integers(), inner, max_size=4)
        | st.builds(Vector, inner, inner, inner, inner)
        | st.builds(Columns, inner, inner, inner, inner)
        | st.lists(inner, max_size=3).map(iter)
    ),
    max_leaves=12,
)
calls: list[Callable[[Database, Vectorize, Any, Any, Any], object]] = [
    lambda db, _, a, b, c: db.create_index(a, dimensions=b, metric=c),
    lambda db, _, a, b, c: db.create_index("x", dimensions=3, metric="cosine", description=a,
                                           effort=b, preset=c),
    lambda db, _, a, b, c: db.index(a),
    # Not "docs", which is looked for at the end.
    lambda db, _, a, b, c: db.delete_index(f"x{a}" if isinstance(a, str) else a),
    lambda _, docs, a, b, c: docs.upsert(a, wait=b, timeout_s=c),
    lambda _, docs, a, b, c: docs.insert([a, {"id": "n", "values": b, "metadata": c}]),
    lambda _, docs, a, b, c: docs.upsert([{"id": a, "values": X, "namespace": b, "metadata": c}]),
    lambda _, docs, a, b, c: docs.upsert(Columns(a, b, c, None)),
    lambda _, docs, a, b, c: docs.upsert(Columns(["n"], [X], a, b)),
    lambda _, docs, a, b, c: docs.query(a, top_k=b, filter=c),
    lambda _, docs, a, b, c: docs.query(X, filter={"k": a}, namespace=b, effort=c),
    lambda _, docs, a, b, c: docs.query_by_id(a, return_values=b, return_metadata=c),
    lambda _, docs, a, b, c: docs.get_by_ids(a),
    lambda _, docs, a, b, c: docs.list_vectors(a, b),
    lambda _, docs, a, b, c: docs.create_metadata_index(a, b, backfill=c),
    lambda _, docs, a, b, c: docs.delete_metadata_index(a, wait=b),
    lambda _, docs, a, b, c: docs.delete_by_ids(["absent"], wait=a, timeout_s=b),
]  # fmt: skip


@settings(max_examples=50)  # each opens a folder twice
@given(st.lists(st.tuples(st.sampled_from(calls), things, things, things), min_size=1, max_size=8))
def test_any_objects_are_taken_or_refused_and_the_folder_opens_again(
    made: list[tuple[Callable[..., object], Any, Any, Any]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "data"
        with vicinal.open(folder) as database:
            docs = database.create_index("docs", dimensions=3, metric="cosine")
            docs.upsert([{"id": "kept", "values": X, "metadata": {"é": [1]}}], wait=True)
            for call, *given_ in made:
                with contextlib.suppress(InvalidInput, NotFound, AlreadyExists, LimitExceeded):
                    call(database, docs, *given_)
            indexes = database.list_indexes()
            docs.delete_by_ids([], wait=True)
            count, listed = docs.describe().vector_count, docs.list_metadata_indexes()

        with vicinal.open(folder) as database:
            docs = database.index("docs")
            docs.delete_by_ids([], wait=True)
            assert database.list_indexes() == indexes
            assert docs.describe().vector_count == count
            assert docs.list_metadata_indexes() == listed
            (kept,) = docs.get_by_ids(["kept"])
            assert (kept.values.tolist(), kept.metadata) == (X, {"é": [1]})
