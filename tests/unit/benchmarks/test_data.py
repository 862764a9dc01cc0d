"""What is searched: real texts, rows made from them the same way every time, exact answers."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import data, texts
from benchmarks.data import Where
from benchmarks.texts import Corpus, Text

STANZAS = """\
Package: frob
Section: utils
Priority: optional
Installed-Size: 12
Description: turns things around
 A longer text: that goes on.

Package: bare
Description: has nothing else

Package: silent
Section: doc
"""


def test_packages_give_their_first_line_of_description_and_what_is_known_of_them() -> None:
    assert list(texts.packages(STANZAS)) == [
        Text("turns things around", "utils", "optional", 12),
        Text("has nothing else", "unknown", "unknown", 0),
    ]


def test_of_equal_texts_the_first_is_kept() -> None:
    repeated = [Text("a", "1", "", 0), Text("b", "2", "", 0), Text("a", "3", "", 0)]

    assert texts.distinct(iter(repeated)) == repeated[:2]


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("One sentence. Another.", "One sentence"),
        ("Two\nlines of one\n\nMore", "Two lines of one"),
        ("", ""),
    ],
)
def test_a_docstring_gives_its_first_sentence_on_one_line(docstring: str, sentence: str) -> None:
    assert texts.first_sentence(docstring) == sentence


def test_other_texts_or_another_order_have_another_name() -> None:
    one, other = Text("a", "", "", 0), Text("b", "", "", 0)

    keys = {Corpus(each, "").key for each in [(one,), (one, other), (other, one)]}

    assert len(keys) == 3


@pytest.fixture(scope="module")
def embedded() -> tuple[Corpus, np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    """Unit vectors in the place of embeddings: what is made from them is what is tested."""
    rows = np.random.RandomState(7).standard_normal((data.QUERIES + 300, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Corpus(tuple(Text(str(row), "", "", 0) for row in range(len(rows))), "numbers"), rows


@pytest.fixture(autouse=True)
def _own_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    embedded: tuple[Corpus, np.ndarray[tuple[int, int], np.dtype[np.float32]]],
) -> None:
    monkeypatch.setattr(data, "DATA", tmp_path)
    monkeypatch.setattr(data, "_CHUNK", 250)
    monkeypatch.setattr(texts, "embedded", lambda _count_max: embedded)
    monkeypatch.setattr(texts, "corpus", lambda: embedded[0])


def test_rows_of_384_dimensions_are_the_embeddings_and_queries_are_held_out(
    embedded: tuple[Corpus, np.ndarray[tuple[int, int], np.dtype[np.float32]]],
) -> None:
    vectors = data.real(384, 300)

    assert (vectors.queries == embedded[1][: data.QUERIES]).all()
    assert (vectors.values == embedded[1][data.QUERIES :]).all()


@pytest.mark.parametrize("dimensions", [384, 768])
@pytest.mark.parametrize("count", [1, 200, 250, 290, 310, 460])
def test_a_smaller_set_is_the_beginning_of_a_larger_one(dimensions: int, count: int) -> None:
    """To the bit: 300 rows are texts, and a chunk has 250."""
    small, large = data.real(dimensions, count), data.real(dimensions, 500)

    assert (large.values[:count] == small.values).all()
    assert (large.queries == small.queries).all()


def test_rows_beyond_the_texts_are_near_them_but_not_the_same() -> None:
    vectors = data.real(384, 600)
    cosines = vectors.values[300:] @ vectors.values[:300].T

    assert 0.5 < cosines.max(axis=1).mean() < 0.999


def test_projections_are_of_unit_length_and_keep_who_is_near_whom() -> None:
    before, after = data.real(384, 600).values, data.real(768, 600).values

    assert np.linalg.norm(after, axis=1) == pytest.approx(1.0, abs=1e-5)
    jittered = range(300, 600)
    same = sum(
        int(np.argmax(before[:300] @ before[row])) == int(np.argmax(after[:300] @ after[row]))
        for row in jittered
    )
    assert same > 0.9 * len(jittered)


def test_a_file_that_was_not_finished_is_made_again(tmp_path: Path) -> None:
    def broken() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        raise RuntimeError("the power went")

    path = tmp_path / "rows.npy"
    with pytest.raises(RuntimeError):
        data._write(path, (broken() for _ in range(1)), (1, 2))  # noqa: SLF001 - the seam is here

    assert not path.exists()


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot-product"])
def test_exact_answers_are_those_of_the_textbook(metric: str) -> None:
    random = np.random.RandomState(3)
    values = (random.standard_normal((500, 8)) * random.lognormal(size=(500, 1))).astype(np.float32)
    queries = random.standard_normal((20, 8)).astype(np.float32)
    wide, asked = values.astype(np.float64), queries.astype(np.float64)
    by_hand = {
        "cosine": 1
        - asked
        @ wide.T
        / np.linalg.norm(asked, axis=1)[:, None]
        / np.linalg.norm(wide, axis=1)[None, :],
        "euclidean": np.linalg.norm(asked[:, None] - wide[None], axis=2),
        "dot-product": -asked @ wide.T,
    }[metric]

    found = data.exact(values, queries, 10, metric)

    assert found == pytest.approx(np.sort(by_hand, axis=1)[:, :10], abs=1e-6)


def test_exact_answers_under_a_condition_are_those_among_the_rows_that_pass() -> None:
    values = np.arange(1, 7, dtype=np.float32)[:, None]
    queries = np.zeros((2, 1), np.float32)
    where = Where("parity", np.array([1, 0, 1, 0, 1, 0]), np.array([0, 7]))

    found = data.exact(values, queries, 4, "euclidean", where)

    assert found[0].tolist() == [2.0, 4.0, 6.0, np.inf]
    assert found[1].tolist() == [np.inf] * 4


def test_exact_answers_are_kept_and_read_back() -> None:
    vectors = data.real(384, 300)

    first, second = data.nearest(vectors), data.nearest(vectors)

    assert first.shape == (data.QUERIES, data.DEPTH)
    assert (first == second).all()
    assert first == pytest.approx(data.exact(vectors.values, vectors.queries, data.DEPTH, "cosine"))


def test_conditions_let_through_as_many_rows_as_they_say() -> None:
    vectors = data.real(384, 5_000)

    half, tenth, hundredth, thousandth, cluster = data.conditions(vectors)

    assert half.share == pytest.approx(0.5, rel=0.1)
    assert tenth.share == pytest.approx(0.1, rel=0.1)
    assert hundredth.share == pytest.approx(0.01, rel=0.2)
    assert thousandth.share == pytest.approx(0.001, rel=0.5)
    assert len(cluster.wanted) == data.QUERIES


def test_the_far_cluster_lies_farther_than_the_nearest_rows() -> None:
    vectors = data.real(384, 2_000)
    cluster = data.conditions(vectors)[-1]

    anywhere, far = data.nearest(vectors)[:, 0], data.nearest(vectors, cluster)[:, 0]

    assert (far >= anywhere).all()
    assert np.median(far - anywhere) > 0.02


def test_metadata_has_a_title_and_every_attribute_for_each_row() -> None:
    vectors = data.real(384, 400)

    rows = np.load(data.metadata(vectors), mmap_mode="r")
    assert set(rows.dtype.names) == {"title", *data.SELECTIVE, "cluster"}
    assert len(rows) == 400
    assert rows["title"][1] == b"1"
    assert rows["half"].tolist() == data.attributes(vectors)["half"].tolist()


def test_rows_are_grown_between_near_ones_and_a_smaller_set_begins_a_larger_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(3)
    embedded = random.standard_normal((data.QUERIES + 300, 8)).astype(np.float32)
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    corpus = Corpus((Text("a", "", "", 0),), "nowhere")
    monkeypatch.setattr(data, "DATA", tmp_path)
    monkeypatch.setattr(texts, "embedded", lambda _: (corpus, embedded))

    less, more = data.grown(2_000), data.grown(12_000)

    assert np.array_equal(less.values, more.values[:2_000])
    assert np.array_equal(less.values[:300], embedded[data.QUERIES :])
    assert np.array_equal(more.queries, embedded[: data.QUERIES])
    assert np.allclose(np.linalg.norm(more.values, axis=1), 1, atol=1e-5)
    assert len(np.unique(more.values, axis=0)) == 12_000
    assert (more.values[300:] @ more.values[:300].T).max(axis=1).min() > 0.5
