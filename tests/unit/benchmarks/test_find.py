"""The questions of the benchmark have known answers, and its small form measures all of it."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks import find
from benchmarks.find import Document
from benchmarks.measure import Floats

AVAILABLE = """\
Package: zip
Version: 3.0-13
Description: Archiver for .zip files
 This is InfoZIP's program that packs several files into one smaller file.  It is old.
 .
 More.

Package: broken

Package: ed
Version: 1.19
Description-en: classic UNIX line editor
"""


def test_packages_and_manuals_are_read() -> None:
    packages = list(find.read_packages(AVAILABLE.splitlines()))

    assert [(each.id, each.text) for each in packages] == [
        ("zip", "zip 3.0-13 Archiver for .zip files"),
        ("ed", "ed 1.19 classic UNIX line editor"),
    ]
    assert packages[0].sentence.startswith("This is InfoZIP's program that packs")
    manuals = list(find.read_manuals(["ls (1)               - list files", "nonsense"]))
    assert manuals == [Document("ls(1)", "ls list files")]


def test_every_second_question_names_its_answer_or_says_it_without_its_name() -> None:
    other = Document("ed", "ed 1.19 editor", "An editor of lines.")
    documents = [other, Document("zip", "zip 3.0 Archiver", "The zip program packs."), other]
    asked = find.questions(documents, 5)

    assert asked == {
        "names": [("zip 3.0", "zip")],
        "paraphrases": [("The program packs", "zip")],
    }


def test_quality_is_recall_and_reciprocal_rank() -> None:
    vector = np.zeros(2, np.float32)
    asked = [find.Question(str(number), vector, str(number)) for number in range(4)]
    answers = {"0": ["0"], "1": ["x", "1"], "2": ["x"], "3": []}

    assert find.quality(lambda text, _: answers[text], asked) == (0.5, 0.375)


def test_the_small_form_measures_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [
        Document(f"tool{n}", f"tool{n} {n}.0 does {n}", f"Such a program does {n} again and again.")
        for n in range(120)
    ]

    def embed(wanted: Sequence[str]) -> Floats:
        seeds = [int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) for text in wanted]
        rows = [np.random.default_rng(seed).standard_normal(8) for seed in seeds]
        return np.array(rows, np.float32)

    monkeypatch.setattr(find, "collected", lambda _: documents)
    monkeypatch.setattr(find, "_embedder", lambda: embed)
    monkeypatch.setattr(find, "ROUNDS", 1)

    measured = find.run(is_quick=True)

    found = {(row[0], row[1]): row[2] for row in measured.tables[0].rows}
    assert found["names", "keyword"] == 1.0
    assert found["names", "FTS5"] == 1.0
    assert {row[0] for row in measured.tables[1].rows} >= {"dense", "keyword", "hybrid", "FTS5"}
    assert {row[0] for row in measured.tables[3].rows} >= {"keyword", "FTS5"}
    assert all(10 < float(row[1] or 0) < 500 for row in measured.tables[3].rows)
    claims = [mark.claim for mark in measured.marks]
    assert claims[:3] == [f"hybrid recall@10 of {n}" for n in ("names", "paraphrases", "both")]
    assert claims[-1] == "texts/s with words"
