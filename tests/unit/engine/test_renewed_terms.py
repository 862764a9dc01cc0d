"""A text index whose terms another version of the analyzer has made is made anew when it opens."""

import unicodedata
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.engines import DOCS, Record, apply, create, upsert
from tests.support.inline import open_inline
from vicinal.engine.backfill import Backfill
from vicinal.engine.compactor import Compactor
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.keywords import analyzer
from vicinal.keywords.analyzer import Analyzer
from vicinal.model import CreateMetadataIndex, Delete, IndexType, MetadataIndex, Query
from vicinal.ranking import TextQuery
from vicinal.segment import postings

BODY = MetadataIndex("body", IndexType.TEXT)
COMPOSED, ROWS = "한국어 guide", 12
OPTIONS = EngineOptions(memtable_rows_max=5)


def unchanged(text: str) -> str:
    return text


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a version has written it that did not normalize texts."""
    decomposed = unicodedata.normalize("NFD", COMPOSED)
    with monkeypatch.context() as patched:
        patched.setattr(postings, "MADE_BY", "analyzer_1")
        patched.setattr(analyzer, "normalized", unchanged)
        patched.setattr(postings, "analyzer", Analyzer)  # others remember words
        with closing(open_inline(tmp_path, OPTIONS)) as engine:
            create(engine)
            upsert(engine, Record("older", [1, 2], "", {"body": decomposed}))
            engine.compact(DOCS)
            apply(engine, CreateMetadataIndex(BODY))
            for n in range(ROWS):
                upsert(engine, Record(f"v{n}", [n, 1], "", {"body": f"{decomposed} {n}"}))
            apply(engine, Delete(["v3"]))
            engine.compact(DOCS)
            upsert(engine, Record("in the log", [1, 1], "", {"body": decomposed}))
    return tmp_path


def found(engine: EmbeddedEngine, text: str) -> list[str]:
    matches = engine.query(DOCS, Query(50, text=TextQuery(text))).matches
    return sorted(match.id for match in matches)


@pytest.fixture
def renewals(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count the columns that were made anew so far."""
    count = 0
    real = Backfill.columns_of_segment

    def counted(backfill: Backfill, view: object) -> object:
        nonlocal count
        count += 1
        return real(backfill, view)  # type: ignore[arg-type]

    monkeypatch.setattr(Backfill, "columns_of_segment", counted)
    return lambda: count


def test_words_are_found_as_today_and_made_anew_once(
    old: Path, renewals: Callable[[], int]
) -> None:
    expected = sorted(["older", "in the log", *(f"v{n}" for n in range(ROWS) if n != 3)])
    with closing(open_inline(old, OPTIONS)) as engine:
        assert found(engine, "한국어") == expected
        assert found(engine, "한국") == expected
        assert found(engine, "guide 7")[:1] != []
        assert list(engine.list_metadata_indexes(DOCS)) == [BODY]
    assert renewals() > 0
    made = renewals()

    with closing(open_inline(old, OPTIONS)) as engine:
        assert found(engine, "한국어") == expected
        upsert(engine, Record("new", [1, 1], "", {"body": COMPOSED}))
        engine.compact(DOCS)
        assert found(engine, "한국어") == sorted([*expected, "new"])
    with closing(open_inline(old, OPTIONS)) as engine:
        assert found(engine, "한국어") == sorted([*expected, "new"])
    assert renewals() == made


def test_what_was_made_anew_and_never_written_is_made_again(
    old: Path, renewals: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Compactor, "start", lambda _: None)
        with closing(open_inline(old, OPTIONS)) as engine:
            before = found(engine, "한국어")
    made = renewals()

    with closing(open_inline(old, OPTIONS)) as engine:
        assert found(engine, "한국어") == before
    assert renewals() > made
