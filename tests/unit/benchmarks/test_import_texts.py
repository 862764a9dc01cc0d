"""The texts that are imported are real, and are there whatever this machine has."""

import itertools
from pathlib import Path

import pytest

from benchmarks import import_texts
from benchmarks.contender import Failed


def test_docstrings_are_a_corpus_that_every_machine_has() -> None:
    first, second = itertools.islice(import_texts.docstrings(), 2)

    assert first.name != second.name
    assert len(first.text.split()) > 500


def test_texts_are_written_from_the_first_source_that_has_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_texts, "_CHARS_PER_CHUNK", 800)
    few = [import_texts.Document("a", "x" * 100)]
    many = [import_texts.Document(f"d{n}", "y" * 400) for n in range(9)]
    monkeypatch.setattr(import_texts, "manuals", lambda: iter(few))
    monkeypatch.setattr(import_texts, "descriptions", lambda: iter(many))

    source, files = import_texts.written(tmp_path / "texts", 3)

    assert source.startswith("descriptions")
    assert files == 6  # of which two make a chunk
    assert sorted(path.name for path in (tmp_path / "texts").iterdir()) == [
        f"d{n}.txt" for n in range(6)
    ]
    monkeypatch.setattr(import_texts, "descriptions", lambda: iter(()))
    monkeypatch.setattr(import_texts, "docstrings", lambda: iter(()))
    with pytest.raises(Failed, match="too few texts"):
        import_texts.written(tmp_path / "texts", 3)
