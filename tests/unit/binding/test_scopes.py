"""The vectors of a scope, in process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import vicinal
from vicinal.errors import BadCursor, BadFilter, BadParameter, InvalidInput, MetadataIndexNotFound


@pytest.fixture
def docs(memory_path: Path) -> Iterator[vicinal.Vectorize]:
    with vicinal.open(memory_path / "data") as database:
        docs = database.create_index("docs", dimensions=2, metric="cosine")
        docs.create_metadata_index("k", "string")
        docs.upsert(
            [
                {"id": "a/1", "values": [1, 0], "metadata": {"k": "x"}},
                {"id": "a/2", "values": [1, 1], "namespace": "n", "metadata": {"k": ["x", "y"]}},
                {"id": "b/1", "values": [0, 1], "metadata": {"k": "z"}},
            ],
            wait=True,
        )
        yield docs


def test_a_scope_is_counted_iterated_and_paged(docs: vicinal.Vectorize) -> None:
    scope = docs.select(filter={"$or": [{"k": "x"}, {"k": {"$contains": "y"}}]}, id_prefix="a/")

    vectors = {vector.id: vector for vector in scope.vectors()}
    page = docs.select().page(2)
    rest = docs.select().page(2, page.next_cursor, return_values=False, return_metadata=False)

    assert scope.count() == 2
    assert docs.select(namespace="n").count() == 1
    assert set(vectors) == {"a/1", "a/2"}
    assert vectors["a/2"].metadata == {"k": ["x", "y"]}
    assert vectors["a/2"].namespace == "n"
    assert page.total_count == 3
    assert len({each.id for each in [*page.vectors, *rest.vectors]}) == 3
    assert rest.vectors[0].values is None
    assert rest.next_cursor is None


def test_facets_are_counted(docs: vicinal.Vectorize) -> None:
    facet = docs.select().facet("k", 1)

    assert [(each.value, each.count) for each in facet.values] == [("x", 1)]
    assert facet.distinct_count == 2


def test_bad_arguments_of_a_scope_are_refused(docs: vicinal.Vectorize) -> None:
    with pytest.raises(InvalidInput, match="id_prefix"):
        docs.select(id_prefix=1)  # type: ignore[arg-type]  # as a caller without types may
    with pytest.raises(BadFilter, match=r"\$or takes an array"):
        docs.select(filter={"$or": 1})
    with pytest.raises(BadFilter, match="no metadata index"):
        docs.select(filter={"u": 1}).count()
    with pytest.raises(BadParameter, match="count must be"):
        docs.select().page(0)
    with pytest.raises(BadCursor):
        docs.select().page(1, "x")
    with pytest.raises(MetadataIndexNotFound):
        docs.select().facet("u")
