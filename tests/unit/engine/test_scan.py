"""What a scope counts, at its bounds; what engines promise of it is in `tests/conformance`."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.engines import DOCS, Record, create, upsert
from tests.support.inline import InlineEngine, open_inline
from vicinal.engine import scan
from vicinal.errors import LimitExceeded
from vicinal.model import CreateMetadataIndex, FacetValue, IndexType, MetadataIndex, Scope


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[InlineEngine]:
    with closing(open_inline(tmp_path)) as engine:
        create(engine)
        index = MetadataIndex("color", IndexType.STRING)
        engine.append(DOCS, CreateMetadataIndex(index)).result()
        yield engine


def color(engine: InlineEngine, *colors: str) -> None:
    upsert(engine, *(Record(f"v{n}", [1, 0], "", {"color": c}) for n, c in enumerate(colors)))


def test_values_that_as_many_vectors_have_are_in_their_own_order(engine: InlineEngine) -> None:
    color(engine, "red", "blue", "green", "blue", "amber")

    facet = engine.facet(DOCS, "color", Scope(), 3)

    assert facet.values == (FacetValue("blue", 2), FacetValue("amber", 1), FacetValue("green", 1))
    assert facet.distinct_count == 4


def test_values_are_counted_up_to_a_bound_and_refused_beyond_it(
    engine: InlineEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "FACET_VALUES_MAX", 3)
    color(engine, "red", "blue", "green")
    assert len(engine.facet(DOCS, "color", Scope(), 1).values) == 1
    color(engine, "red", "blue", "green", "amber")

    with pytest.raises(LimitExceeded, match="more than 3 distinct values"):
        engine.facet(DOCS, "color", Scope(), 1)
