"""Text columns hold the same terms whether they grow, are sealed, merged or backfilled."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vicinal.keywords.analyzer import analyzer
from vicinal.segment.binary_column import BinaryColumn
from vicinal.segment.ids import IdTable
from vicinal.segment.postings import GrowingTextColumn, TextColumn, merged_texts, totals_of

WORDS = ["fox", "foxes", "a", "ab", "abcdefgh", "abcdefghi", "abcdefghij", "é", "東京", "1.2"]
DOCUMENTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), max_size=2)
COLUMNS = st.lists(DOCUMENTS, max_size=8)


def growing(documents: list[list[str]], older: int = 0) -> GrowingTextColumn:
    column = GrowingTextColumn("english", older)
    column.extend(documents)
    return column


def content(column: TextColumn) -> dict[str, list[tuple[int, int]]]:
    return {
        term.decode(): list(zip(*map(np.ndarray.tolist, _postings(column, term)), strict=True))
        for term in column.terms.take(np.arange(len(column.terms)))
    }


def _postings(column: TextColumn, term: bytes) -> tuple[np.ndarray, np.ndarray]:
    postings = column.postings(term.decode())
    return postings.rows, postings.counts


def expected(documents: list[list[str]]) -> dict[str, list[tuple[int, int]]]:
    held: dict[str, list[tuple[int, int]]] = {}
    for row, texts in enumerate(documents):
        terms = analyzer("english").terms(texts)
        for term in sorted(set(terms)):
            held.setdefault(term, []).append((row, terms.count(term)))
    return dict(sorted(held.items(), key=lambda item: item[0].encode()))


@given(COLUMNS, st.data())
def test_a_sealed_column_has_what_its_rows_have(
    documents: list[list[str]], data: st.DataObject
) -> None:
    column = growing(documents)
    kept = [row for row in range(len(documents)) if data.draw(st.booleans())]

    sealed = column.sealed(np.array(kept, np.int64))

    wanted = expected([documents[row] for row in kept])
    assert content(sealed) == wanted
    assert list(content(sealed)) == list(wanted)
    for word in [*WORDS, "absent", "abcdefgi", ""]:
        assert len(sealed.postings(word).rows) == len(wanted.get(word, []))
    lengths = [len(analyzer("english").terms(documents[row])) for row in kept]
    assert sealed.lengths.tolist() == lengths
    assert totals_of(sealed.lengths, np.ones(len(kept), np.bool_)) == (
        sum(length > 0 for length in lengths),
        sum(lengths),
    )


@given(st.lists(COLUMNS, min_size=1, max_size=3), st.data())
def test_a_merged_column_is_the_one_of_all_rows(
    parts: list[list[list[str]]], data: st.DataObject
) -> None:
    merged_documents: list[list[str]] = []
    columns = []
    for documents in parts:
        kept = [row for row in range(len(documents)) if data.draw(st.booleans())]
        column = growing(documents).sealed(np.arange(len(documents)))
        columns.append((column, np.array(kept, np.int64)))
        merged_documents += [documents[row] for row in kept]

    merged = merged_texts(columns)

    assert content(merged) == expected(merged_documents)
    assert merged.is_complete


def test_rows_older_than_the_column_are_noted_through_seals_and_merges() -> None:
    column = growing([["fox"], []], older=2)
    sealed = column.sealed(np.array([1, 2, 3]))
    assert sealed.uncovered.tolist() == [0]
    assert not sealed.is_complete

    merged = merged_texts(
        [(sealed, np.array([0, 1])), (None, np.array([3, 4])), (sealed, np.array([2]))]
    )

    assert merged.uncovered.tolist() == [0, 2, 3]
    assert merged.is_indexed(5).tolist() == [False, True, False, False, True]
    assert content(merged) == {"fox": [(1, 1)]}


def test_a_reader_sees_the_rows_of_its_snapshot_while_more_come() -> None:
    column = growing([["fox"]])
    lengths = column.lengths_of(1)
    column.extend([["fox fox"]] * 1_000)

    assert column.postings("fox", 1).rows.tolist() == [0]
    assert column.postings("fox", 3).counts.tolist() == [1, 2, 2]
    assert lengths.tolist() == column.lengths_of(1).tolist() == [1]
    assert not len(column.postings("absent", 3).rows)


@given(
    st.lists(st.text(st.sampled_from("ab\0é\U0001f600"), max_size=20), unique=True, max_size=120),
    st.integers(1, 10),
)
def test_the_first_ids_of_rows_are_among_those_returned(ids: list[str], count: int) -> None:
    ids = [*ids, *(f"same-prefix-of-many-ids-{number}" for number in range(100))]
    table = IdTable(IdTable.arrays(ids))
    rows = np.arange(len(ids))

    first = table.first(rows, count)

    assert set(sorted(ids)[:count]) <= {ids[row] for row in first.tolist()}
    assert len(set(first.tolist())) == len(first)
    assert len(first) < len(ids)


def test_heads_sort_as_what_they_begin() -> None:
    values = sorted({bytes(v) for n in range(4) for v in itertools.product(b"\0a\xff", repeat=n)})
    column = BinaryColumn.of(values)
    heads = column.heads(np.arange(len(values)))
    assert heads.tolist() == [int.from_bytes(v.ljust(8, b"\0"), "big") for v in values]
    assert BinaryColumn.of([b"", b""]).heads(np.arange(2)).tolist() == [0, 0]
    tails = BinaryColumn.of([b"12345678ab", b"1"]).heads(np.arange(2), 8)
    assert tails.tolist() == [int.from_bytes(b"ab".ljust(8, b"\0"), "big"), 0]
