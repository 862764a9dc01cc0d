"""Other products as sources, without their clients: what becomes of their types."""

from types import SimpleNamespace
from typing import Any

import pytest

from vicinal.errors import InvalidInput
from vicinal.model import IndexType, MetadataIndex, Metric
from vicinal.moving.foreign import checked_dimensions, first_of, import_client, metric_of
from vicinal.moving.qdrant import metadata_indexes


def of_type(name: str) -> Any:
    return SimpleNamespace(data_type=SimpleNamespace(value=name))


def test_payload_indexes_become_metadata_indexes_where_there_are_such() -> None:
    schema = {
        "a.b": of_type("keyword"), "n": of_type("integer"), "f": of_type("float"),
        "is": of_type("bool"), "where": of_type("geo"), "words": of_type("text"),
        "when": of_type("datetime"), "u": of_type("uuid"),
    }  # fmt: skip

    indexes, complaints = metadata_indexes(schema)

    assert indexes == [
        MetadataIndex("a.b", IndexType.STRING),
        MetadataIndex("f", IndexType.NUMBER),
        MetadataIndex("is", IndexType.BOOLEAN),
        MetadataIndex("n", IndexType.NUMBER),
        MetadataIndex("u", IndexType.STRING),
    ]
    assert complaints == [
        "the datetime index of 'when'", "the geo index of 'where'", "the text index of 'words'",
    ]  # fmt: skip


def test_the_eleventh_metadata_index_is_named() -> None:
    indexes = [MetadataIndex(f"p{number}", IndexType.NUMBER) for number in range(11)]

    kept, complaints = first_of(indexes)

    assert list(kept) == indexes[:10]
    assert complaints == ["the index of 'p10', as an index has at most 10 metadata indexes"]


def test_a_metric_that_no_index_has_is_refused() -> None:
    assert metric_of("l2", {"l2": Metric.EUCLIDEAN}, "books") is Metric.EUCLIDEAN
    with pytest.raises(InvalidInput, match="'books' has the metric hamming, which no index has"):
        metric_of("hamming", {"l2": Metric.EUCLIDEAN}, "books")


@pytest.mark.parametrize("dimensions", [0, 4_097])
def test_dimensions_that_no_index_has_are_refused(dimensions: int) -> None:
    assert checked_dimensions(4_096, "books") == 4_096
    with pytest.raises(InvalidInput, match=f"has {dimensions} dimensions, an index has 1 to 4096"):
        checked_dimensions(dimensions, "books")


def test_a_client_that_is_not_installed_is_named_with_its_extra() -> None:
    with pytest.raises(InvalidInput, match=r"pip install 'vicinal\[qdrant\]'"):
        import_client("a_module_that_nobody_has", "qdrant")
