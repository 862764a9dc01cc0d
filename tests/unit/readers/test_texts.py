"""Texts are cut by headings and paragraphs, and no chunk has more tokens than the model reads."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import pytest

from vicinal.errors import BadFile
from vicinal.readers.base import START
from vicinal.readers.opening import FileSource
from vicinal.readers.texts import TextsReader, chunk_id, chunks_of, text_files


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


PAGE = """before

# One

a b c

d e

## Two

```
# no heading
```

# Three
f g
"""


def test_a_page_is_cut_at_headings_and_paragraphs() -> None:
    chunks = [(chunk.heading, chunk.text) for chunk in chunks_of(PAGE, words, 20)]

    assert chunks == [
        ("", "before"),
        ("One", "One\n\na b c\n\nd e"),
        ("One > Two", "One > Two\n\n```\n# no heading\n```"),
        ("Three", "Three\n\nf g"),
    ]


@pytest.mark.parametrize("tokens_max", [4, 7, 20])
@pytest.mark.parametrize("separator", [" ", ". ", "\n", "\n\n"])
def test_no_chunk_is_longer_than_the_model_reads_and_no_word_is_lost(
    tokens_max: int, separator: str
) -> None:
    text = "# Head\n\n" + separator.join(f"w{number}" for number in range(100))

    chunks = list(chunks_of(text, words, tokens_max))

    assert max(words([chunk.text for chunk in chunks])) <= tokens_max
    kept = [word.strip(".") for chunk in chunks for word in chunk.text.split() if word != "Head"]
    assert kept == [f"w{number}" for number in range(100)]


def test_a_word_without_end_is_cut() -> None:
    chunks = list(chunks_of("x" * 10_000, lambda texts: [len(text) for text in texts], 600))

    assert "".join(chunk.text for chunk in chunks) == "x" * 10_000


def test_an_id_is_the_path_and_the_position_and_fits_every_profile() -> None:
    assert chunk_id("docs/a.md", 3) == "docs/a.md#3"
    long = [chunk_id("é" * 200 + name, position) for name in "ab" for position in range(2)]
    assert max(len(each.encode()) for each in long) <= 64
    assert len(set(long)) == 4


def test_chunks_of_many_files_are_read_and_continued(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.md").write_text("\n\n".join(f"{name}{n} x" for n in range(3)))
    (tmp_path / "c.md").write_bytes(gzip.compress((tmp_path / "c.md").read_bytes()))
    reader = TextsReader(sorted(tmp_path.iterdir()), words, 2, keeps_text=True)

    whole = list(reader.batches(START, 2))

    assert [text for batch in whole for text in batch.texts] == [
        f"{name}{n} x" for name in "abc" for n in range(3)
    ]
    assert b'"position":1' in whole[0].vectors.metadata[1]
    assert b'"text":"a1 x"' in whole[0].vectors.metadata[1]
    for done in range(len(whole)):
        rest = list(reader.batches(whole[done].end, 2))
        assert [batch.vectors.ids for batch in rest] == [
            batch.vectors.ids for batch in whole[done + 1 :]
        ]


def test_a_document_is_told_with_its_chunks_when_it_has_ended(tmp_path: Path) -> None:
    for name, count in (("a", 3), ("b", 0), ("c", 2)):
        (tmp_path / f"{name}.md").write_text("\n\n".join(f"{name}{n} x" for n in range(count)))
    paths = sorted(tmp_path.iterdir())
    reader = TextsReader(paths, words, 2, keeps_text=False)

    for rows_max in (1, 2, 3, 5, 9):
        whole = list(reader.batches(START, rows_max))
        told = [document for batch in whole for document in batch.documents]
        assert told == [(str(paths[0]), 3), (str(paths[1]), 0), (str(paths[2]), 2)]
        ends: dict[str, int] = {}
        for number, batch in enumerate(whole):
            ends |= {vector_id.partition("#")[0]: number for vector_id in batch.vectors.ids}
            assert all(ends.get(path, 0) <= number for path, _ in batch.documents)
        for done in range(len(whole)):
            rest = list(reader.batches(whole[done].end, rows_max))
            assert [batch.documents for batch in rest] == [
                batch.documents for batch in whole[done + 1 :]
            ]


def test_a_text_that_is_written_to_while_it_is_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.md"
    path.write_text("x")
    pull = FileSource.pull

    def growing(source: FileSource, size: int) -> bytes:
        content = pull(source, size)
        with path.open("a") as file:
            file.write("y")
        return content

    monkeypatch.setattr(FileSource, "pull", growing)

    with pytest.raises(BadFile, match=r"a\.md: it has grown from 1 to "):
        list(TextsReader([path], words, 9, keeps_text=False).batches(START, 2))


def test_files_that_are_no_text_are_named_or_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.bin").write_bytes(b"\0\1")
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "c.txt").write_bytes(b"ab\xff")

    assert text_files(tmp_path) == ([tmp_path / "a.txt", tmp_path / "c.txt"], 1)
    for name, reason in (("b.bin", "no text: byte 0 is 0"), ("c.txt", "not UTF-8 at byte 2")):
        with pytest.raises(BadFile, match=reason):
            list(TextsReader([tmp_path / name], words, 9, keeps_text=False).batches(START, 2))
