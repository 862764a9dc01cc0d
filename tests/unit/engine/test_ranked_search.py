"""Searches by words, by words and vectors, diverse and in groups, over segments and memtable."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.engines import DOCS, Record, batch
from tests.support.inline import InlineEngine, open_inline
from tests.support.model_engine import ModelEngine
from vicinal.engine import text_search
from vicinal.engine.base import Engine
from vicinal.engine.embedded import EngineOptions
from vicinal.engine.text_search import HIGHLIGHTS_MAX
from vicinal.errors import BadRanking, MetadataIndexNotFound
from vicinal.filters.nodes import Operator, Predicate
from vicinal.index_storage import MEMTABLE
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    Explanation,
    IndexConfig,
    IndexType,
    MetadataIndex,
    MetadataLevel,
    Metric,
    Mutation,
    Query,
    QueryResult,
    Scope,
    Upsert,
)
from vicinal.native.library import library
from vicinal.ranking import (
    WEIGHT_MAX,
    WEIGHT_MIN,
    Diversity,
    Fusion,
    Grouping,
    Highlight,
    RankedScore,
    Reranking,
    TextQuery,
)

TEXT = MetadataIndex("text", IndexType.TEXT, "english")
TITLE = MetadataIndex("title", IndexType.TEXT)
GROUP = MetadataIndex("group", IndexType.STRING)
SEED = 20_241_128
VOCABULARY = [f"word{number}" for number in range(60)]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[InlineEngine]:
    """An engine of which nearly all rows are in segments, which merge."""
    opened = open_inline(tmp_path, EngineOptions(memtable_rows_max=40, memtables_max=1_000))
    opened.create_index(DOCS, IndexConfig(4, Metric.COSINE), None)
    yield opened
    opened.close()


def write(engine: Engine, *mutations: Mutation) -> None:
    for mutation in mutations:
        engine.append(DOCS, mutation).result()


def put(
    engine: Engine, documents: dict[str, Any], vector: Callable[[int], Sequence[float]]
) -> None:
    records = [
        Record(id_, list(vector(number)), metadata=document)
        for number, (id_, document) in enumerate(documents.items())
    ]
    write(engine, Upsert(batch(*records)))


def east(_: int) -> Sequence[float]:
    return [1.0, 0.0, 0.0, 0.0]


def words(text: str, **options: Any) -> Query:
    return Query(options.pop("top_k", 10), text=TextQuery(text), **options)


def ids(result: QueryResult) -> list[str]:
    return [match.id for match in result.matches]


def random_records(random: np.random.Generator, names: Sequence[str]) -> list[Record]:
    """Return records whose texts have few words, of a common one to rare ones."""
    return [
        Record(
            name,
            random.standard_normal(4).tolist(),
            str(random.choice(["", "left", "right"])),
            {
                "text": " ".join(
                    VOCABULARY[int(60 * random.random() ** 3)] for _ in range(random.integers(12))
                ),
                "title": ["other", str(random.choice(VOCABULARY))],
                "group": str(random.integers(6)),
            },
        )
        for name in names
    ]


def filled(*engines: Engine) -> np.random.Generator:
    """Write the same to engines: two text indexes, 400 vectors, of which many were replaced."""
    random = np.random.default_rng(SEED)
    history: list[Mutation] = [CreateMetadataIndex(TEXT), CreateMetadataIndex(GROUP)]
    for number in range(12):
        names = [f"v{name}" for name in random.integers(400, size=60)]
        history.append(Upsert(batch(*random_records(random, names))))
        history.append(Delete([f"v{name}" for name in random.integers(400, size=10)]))
        if number == 6:
            history.append(CreateMetadataIndex(TITLE, backfill=True))
    for engine in engines:
        write(engine, *history)
    return random


def test_scores_are_those_of_the_textbook_wherever_rows_are(
    engine: InlineEngine, tmp_path: Path
) -> None:
    model = ModelEngine()
    model.create_index(DOCS, IndexConfig(4, Metric.COSINE), None)
    random = filled(engine, model)

    def compare() -> None:
        for _ in range(40):
            text = " ".join(random.choice(VOCABULARY, random.integers(1, 5)))
            query = replace(words(text, top_k=1_000), namespace=str(random.choice(["", "left"])))
            if random.random() < 0.5:
                query = replace(query, filter=(Predicate("group", Operator.LT, ("3",)),))
            found, expected = engine.query(DOCS, query), model.query(DOCS, query)
            assert len(found.matches) == len(expected.matches)
            assert {m.id: m.score for m in found.matches} == pytest.approx(
                {m.id: m.score for m in expected.matches}, rel=1e-9
            )
            keys = [(-match.score, match.id) for match in found.matches]
            assert keys == sorted(keys)
            few = engine.query(DOCS, replace(query, top_k=3))
            assert ids(few) == ids(found)[:3]

    compare()
    engine.compact(DOCS)
    compare()
    engine.close()
    engine = open_inline(tmp_path)
    compare()
    engine.close()


def test_rows_that_died_in_the_memtable_count_in_no_frequency(tmp_path: Path) -> None:
    engine, model = open_inline(tmp_path), ModelEngine()
    model.create_index(DOCS, IndexConfig(4, Metric.COSINE), None)
    engine.create_index(DOCS, IndexConfig(4, Metric.COSINE), None)
    filled(engine, model)
    assert [part.name for part in engine.storage(DOCS).parts] == [MEMTABLE]
    assert engine.storage(DOCS).parts[0].deleted_count > 100

    for number in range(0, 60, 6):
        query = words(" ".join(VOCABULARY[number : number + 3]), top_k=1_000)
        found, expected = engine.query(DOCS, query), model.query(DOCS, query)
        assert {m.id: m.score for m in found.matches} == pytest.approx(
            {m.id: m.score for m in expected.matches}, rel=1e-9
        )
    engine.close()


def test_a_change_of_any_row_changes_all_scores_at_once(engine: InlineEngine) -> None:
    write(engine, CreateMetadataIndex(TEXT))
    put(engine, {"a": {"text": "red fox"}, "b": {"text": "fox"}, "c": {"text": "dog"}}, east)
    before = engine.query(DOCS, words("fox")).matches
    assert [match.id for match in before] == ["b", "a"]

    write(engine, Delete(["c"]))
    after = engine.query(DOCS, words("fox")).matches

    assert after[0].score < before[0].score  # the word is less rare
    write(engine, Delete(["a", "b"]))
    assert not engine.query(DOCS, words("fox")).matches


@pytest.mark.parametrize("text", ["absent", "!!!", "\u00ad", "(", "a AND b*"])
def test_a_text_without_a_known_word_has_no_matches(engine: InlineEngine, text: str) -> None:
    write(engine, CreateMetadataIndex(TEXT))
    put(engine, {"x": {"text": "fox"}, "y": {}, "z": {"text": 7}}, east)

    assert engine.query(DOCS, words(text)) == QueryResult(())


def test_common_words_alone_find_what_has_them(engine: InlineEngine) -> None:
    write(engine, CreateMetadataIndex(TEXT))
    put(engine, {"x": {"text": "the fox of the year"}, "y": {"text": "the end"}}, east)

    assert ids(engine.query(DOCS, words("of the"))) == ["x", "y"]


@pytest.mark.parametrize("is_backfilled", [False, True])
def test_documents_of_any_kind_are_found_by_the_words_that_they_have(
    engine: InlineEngine, *, is_backfilled: bool
) -> None:
    documents: dict[str, Any] = {
        "array": {"text": ["red fox", 7, None, "Zürich"]},
        "boolean": {"text": True},
        "empty": {"text": ""},
        "japanese": {"text": "東京都の地図"},
        "many": {"text": " ".join(f"t{number}" for number in range(100_000))},
        "nested": {"text": {"text": "red"}},
        "number": {"text": 1.5},
        "thai": {"text": "สวัสดีชาวโลก"},
    }
    if not is_backfilled:
        write(engine, CreateMetadataIndex(TEXT))
    put(engine, documents, east)
    if is_backfilled:
        write(engine, CreateMetadataIndex(TEXT, backfill=True))

    def found(text: str) -> list[str]:
        return ids(engine.query(DOCS, words(text)))

    assert found("RED zurich") == ["array"]
    assert found("7 None null true 1.5") == []
    assert found("東京") == found("地図") == ["japanese"]
    assert found("京") == []
    assert found("สวัสดี") == ["thai"]
    assert found("t0") == found("t9999") == ["many"]
    assert found("t10000 t99999") == []


def test_properties_have_weights(engine: InlineEngine) -> None:
    write(engine, CreateMetadataIndex(TEXT), CreateMetadataIndex(TITLE))
    put(engine, {"a": {"text": "fox", "title": "dog"}, "b": {"text": "dog", "title": "fox"}}, east)

    def ranked(*weights: tuple[str, float]) -> list[str]:
        return ids(engine.query(DOCS, Query(2, text=TextQuery("fox", weights))))

    assert ranked() == ["a", "b"]  # equal scores, by id
    assert ranked(("text", 1.0), ("title", 2.0)) == ["b", "a"]
    assert ranked(("title", 1.0)) == ["b"]
    with pytest.raises(BadRanking, match="textWeights: the property 'group' has no text index"):
        ranked(("group", 1.0))


def test_without_a_text_index_a_text_alone_is_refused_and_one_beside_a_vector_passed_over(
    engine: InlineEngine,
) -> None:
    put(engine, {"a": {"text": "fox"}}, east)

    with pytest.raises(BadRanking, match="the index has no text index"):
        engine.query(DOCS, words("fox"))
    found = engine.query(DOCS, words("fox", vector=np.ones(4, np.float32)))
    assert ids(found) == ["a"]
    assert found.is_text_ignored
    assert found.matches == engine.query(DOCS, Query(10, np.ones(4, np.float32))).matches


def test_what_needs_a_model_is_refused_where_none_is(engine: InlineEngine) -> None:
    write(engine, CreateMetadataIndex(TEXT))

    with pytest.raises(BadRanking, match="hybrid: give a vector"):
        engine.query(DOCS, Query(1, text=TextQuery("fox", needs_vector=True)))
    with pytest.raises(BadRanking, match="rerank: nothing here runs models"):
        engine.query(DOCS, Query(1, text=TextQuery("fox"), reranking=Reranking("text", None, 9)))


def test_a_text_index_serves_no_filter_and_has_no_values(engine: InlineEngine) -> None:
    write(engine, CreateMetadataIndex(TEXT))
    put(engine, {"a": {"text": "fox"}}, east)
    query = Query(1, np.ones(4, np.float32), filter=(Predicate("text", Operator.EQ, ("fox",)),))

    assert engine.query(DOCS, query).unindexed == ("text",)
    with pytest.raises(MetadataIndexNotFound, match="is of type text"):
        engine.facet(DOCS, "text", Scope(), 10)
    indexed = Query(1, np.ones(4, np.float32), return_metadata=MetadataLevel.INDEXED)
    assert engine.query(DOCS, indexed).matches[0].metadata == b""


def test_an_index_that_is_younger_says_what_it_lacks(engine: InlineEngine) -> None:
    put(engine, {"a": {"text": "fox"}}, east)
    write(engine, CreateMetadataIndex(TEXT))
    put(engine, {"b": {"text": "fox"}}, east)

    found = engine.query(DOCS, words("fox"))
    assert ids(found) == ["b"]
    assert [(c.metadata_index, c.covered_count, c.vector_count) for c in found.partial] == [
        (TEXT, 1, 2)
    ]
    write(engine, CreateMetadataIndex(TEXT, backfill=True))
    assert ids(engine.query(DOCS, words("fox"))) == ["a", "b"]
    write(engine, DeleteMetadataIndex("text"))
    with pytest.raises(BadRanking):
        engine.query(DOCS, words("fox"))


def both(engine: InlineEngine, text: TextQuery, vector: Any, top_k: int = 5) -> QueryResult:
    query = Query(top_k, np.array(vector, np.float32), text=text, return_scores=True)
    return engine.query(DOCS, query)


def test_ranks_of_both_searches_are_fused_over_the_whole_index(engine: InlineEngine) -> None:
    random = filled(engine)
    for share in (0.5, 0.2):
        vector = random.standard_normal(4)
        query = TextQuery("word0 word7 word11", fusion=Fusion.RANKS, share=share)
        # Half as many again as are wanted by vector, twice as many by words.
        nearest = engine.query(DOCS, Query(30, np.array(vector, np.float32))).matches
        best = engine.query(DOCS, words(query.text, top_k=30)).matches
        expected: dict[str, float] = {}
        for weight, matches in ((1 - share, nearest), (share, best)):
            for rank, match in enumerate(matches, 1):
                expected[match.id] = expected.get(match.id, 0.0) + 2 * weight / (60 + rank)

        found = both(engine, query, vector, 20)

        ranked = sorted(expected.items(), key=lambda item: (-item[1], item[0]))[:20]
        assert ids(found) == [id_ for id_, _ in ranked]
        assert [m.score for m in found.matches] == pytest.approx([score for _, score in ranked])
        ranks = {match.id: rank for rank, match in enumerate(nearest, 1)}
        text_scores = {match.id: match.score for match in best}
        for match in found.matches:
            assert match.scores is not None
            assert match.scores.vector is not None
            assert match.scores.text is not None
            assert match.scores.vector.rank == ranks.get(match.id)
            if match.id in text_scores:
                assert match.scores.text.score == pytest.approx(text_scores[match.id])


@pytest.mark.parametrize("weight", [WEIGHT_MIN, WEIGHT_MAX])
def test_the_least_and_the_most_weight_find_the_same_rows_with_finite_scores(
    engine: InlineEngine, weight: float
) -> None:
    random = filled(engine)
    vector = random.standard_normal(4).astype(np.float32)
    plain, weighted = (
        TextQuery(" ".join(VOCABULARY[:9]), (("text", number),)) for number in (1.0, weight)
    )

    found, expected = (engine.query(DOCS, Query(1_000, text=each)) for each in (weighted, plain))

    assert {m.id: m.score for m in found.matches} == pytest.approx(
        {m.id: weight * m.score for m in expected.matches}
    )
    fused = both(engine, weighted, vector)
    assert [m.score for m in fused.matches] == pytest.approx(
        [m.score for m in both(engine, plain, vector).matches]
    )


@pytest.mark.parametrize("fusion", list(Fusion))
@pytest.mark.parametrize("top_k", [1, 6, 20])
def test_both_scores_of_a_match_are_those_of_each_search_alone(
    engine: InlineEngine, fusion: Fusion, top_k: int
) -> None:
    random = filled(engine)
    vector = random.standard_normal(4).astype(np.float32)
    text = TextQuery("word0 word7 word11", fusion=fusion)
    by_vector = {m.id: m.score for m in engine.query(DOCS, Query(1_000, vector)).matches}
    by_words = {m.id: m.score for m in engine.query(DOCS, words(text.text, top_k=1_000)).matches}

    matches = both(engine, text, vector, top_k).matches

    assert len(matches) == top_k
    plain = engine.query(DOCS, Query(top_k, vector, text=text)).matches
    assert [(m.id, m.score) for m in plain] == [(m.id, m.score) for m in matches]
    for match in matches:
        assert match.scores is not None
        assert match.scores.vector is not None
        assert match.scores.text is not None
        # To the last bit: a row that both found is one candidate.
        assert match.scores.vector.score == by_vector[match.id]
        assert match.scores.text.score == by_words.get(match.id, 0.0)


@pytest.mark.parametrize("metric", list(Metric))
def test_scores_of_both_searches_are_fused(tmp_path: Path, metric: Metric) -> None:
    engine = open_inline(tmp_path)
    engine.create_index(DOCS, IndexConfig(4, metric), None)
    write(engine, CreateMetadataIndex(TEXT))
    put(
        engine,
        {"a": {"text": "fox"}, "b": {"text": "red fox"}, "c": {"text": "dog"}, "d": {}},
        lambda number: [1.0, float(number), 0.0, 0.0],
    )
    vector = np.array([1.0, 3.0, 0.0, 0.0], np.float32)
    near = {m.id: m.score for m in engine.query(DOCS, Query(4, vector)).matches}
    text = {m.id: m.score for m in engine.query(DOCS, words("fox")).matches}
    # "fox" is in two of three documents, "absent" in none.
    full_score = (math.log1p((3 - 2 + 0.5) / 2.5) + math.log1p(3.5 / 0.5)) / 2.2

    found = both(engine, TextQuery("fox absent", share=0.25), vector)
    engine.close()

    if metric is Metric.COSINE:
        nearness = near
    else:
        signed = {id_: -score for id_, score in near.items()}
        least, most = min(signed.values()), max(signed.values())
        nearness = {id_: (score - least) / (most - least) for id_, score in signed.items()}
    expected = {id_: 0.75 * nearness[id_] + 0.25 * text.get(id_, 0.0) / full_score for id_ in near}
    assert {m.id: m.score for m in found.matches} == pytest.approx(expected)
    assert ids(found) == sorted(expected, key=lambda id_: (-expected[id_], id_))


@pytest.mark.parametrize(
    ("metric", "nearness"), [(Metric.COSINE, 0.5), (Metric.EUCLIDEAN, 1), (Metric.DOT_PRODUCT, 1)]
)
def test_vectors_that_are_all_equally_near_are_as_near_as_their_cosine_or_as_can_be(
    tmp_path: Path, metric: Metric, nearness: float
) -> None:
    engine = open_inline(tmp_path)
    engine.create_index(DOCS, IndexConfig(4, metric), None)
    write(engine, CreateMetadataIndex(TEXT))
    put(engine, {"a": {"text": "fox"}, "b": {"text": "fox"}}, east)

    found = both(engine, TextQuery("fox", share=0.25), np.ones(4, np.float32))
    engine.close()

    assert ids(found) == ["a", "b"]
    assert [m.score for m in found.matches] == pytest.approx([0.75 * nearness + 0.25] * 2)


def test_a_fused_score_under_cosine_depends_on_nothing_but_its_vector_and_words(
    engine: InlineEngine,
) -> None:
    random = filled(engine)
    vector = random.standard_normal(4)
    text = TextQuery("word0 word1 word9")
    everything = both(engine, text, vector, 1_000)
    scores = {match.id: match.score for match in everything.matches}

    for top_k in (1, 20, 100):
        found = both(engine, text, vector, top_k)
        assert {m.id: m.score for m in found.matches} == {
            match.id: pytest.approx(scores[match.id], rel=1e-12) for match in found.matches
        }
        plain = replace(Query(top_k, np.array(vector, np.float32)), text=text)
        assert ids(engine.query(DOCS, plain)) == ids(found)


def test_common_words_of_a_sentence_do_not_bring_a_row_above_near_ones(
    engine: InlineEngine,
) -> None:
    write(engine, CreateMetadataIndex(TEXT))
    documents = {f"d{number}": {"text": f"the word of {number}"} for number in range(20)}
    put(
        engine,
        {"near": {"text": "something"}, "far": {"text": "of the"}, **documents},
        lambda number: [0.0, 1.0, 0.0, 0.0] if number else [1.0, 0.0, 0.0, 0.0],
    )

    query = TextQuery("which of the absent")
    assert ids(both(engine, query, [1, 0.2, 0, 0]))[0] == "near"
    assert ids(engine.query(DOCS, words(query.text)))[0] == "far"


@pytest.mark.parametrize("count", [1, 3, 10, 60, 1_000])
def test_the_compiled_search_finds_what_numpy_does(
    engine: InlineEngine, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library() is None:
        pytest.skip("THE COMPILED PARTS WERE NOT BUILT: there is no C compiler")
    random = filled(engine)
    for number in range(30):
        text = " ".join(random.choice(VOCABULARY, random.integers(1, 25)))
        query = words(text, top_k=count, return_scores=number % 2 == 0)
        if number % 3 == 0:
            query = replace(query, namespace="left")
        if number % 5 == 0:
            query = replace(query, vector=np.array(random.standard_normal(4), np.float32))
        if number % 7 == 0:
            query = replace(query, text=TextQuery(text, (("title", 2.5), ("text", 0.5))))
        found = engine.query(DOCS, query)
        with monkeypatch.context() as patch:
            patch.setattr(text_search, "library", lambda: None)
            plain = engine.query(DOCS, query)

        # To the last bit: else equal documents of two segments would not tie.
        assert [(m.id, m.score) for m in found.matches] == [(m.id, m.score) for m in plain.matches]


def test_both_searches_give_top_k_matches_while_more_exist(engine: InlineEngine) -> None:
    filled(engine)
    count = engine.status(DOCS).vector_count

    for top_k in (1, 49, 50, 51, 120, count, count + 1):
        found = both(engine, TextQuery("word50 absent"), [1, 0, 0, 0], top_k)
        assert len(set(ids(found))) == len(found.matches) == min(top_k, count)


def test_a_stored_vector_and_words_are_searched_for_together(engine: InlineEngine) -> None:
    write(engine, CreateMetadataIndex(TEXT))
    put(
        engine,
        {"a": {"text": "dog"}, "b": {"text": "fox"}, "c": {"text": "cat"}},
        lambda number: [1.0, float(number), 0.0, 0.0],
    )
    query = words("cat", vector_id="a", return_scores=True)

    found = engine.query(DOCS, query)

    assert ids(found)[0] == "c"
    scores = {match.id: match.scores for match in found.matches}
    assert scores["a"] is not None
    assert scores["a"].vector == RankedScore(1.0, 1)
    assert scores["a"].text == RankedScore(0.0, None)
    assert ids(engine.query(DOCS, replace(query, vector_id="absent"))) == ["c"]


def test_matches_of_one_search_tell_its_score_and_rank(engine: InlineEngine) -> None:
    filled(engine)
    for query in (Query(3, np.ones(4, np.float32)), words("word1", top_k=3)):
        for rank, match in enumerate(
            engine.query(DOCS, replace(query, return_scores=True)).matches, 1
        ):
            scores = match.scores
            assert scores is not None
            by_text = query.text is not None
            assert (scores.text if by_text else scores.vector) == RankedScore(match.score, rank)
            assert (scores.vector if by_text else scores.text) is None


def naive_mmr(near: np.ndarray[Any, Any], units: np.ndarray[Any, Any], weight: float) -> list[int]:
    chosen: list[int] = []
    while len(chosen) < len(near):
        left = [number for number in range(len(near)) if number not in chosen]
        chosen.append(
            max(
                left,
                key=lambda n: (
                    weight * near[n]
                    - (1 - weight) * max((float(units[n] @ units[c]) for c in chosen), default=0.0)
                ),
            )
        )
    return chosen


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.7, 1.0])
def test_diverse_matches_are_those_of_maximal_marginal_relevance(
    engine: InlineEngine, weight: float
) -> None:
    random = filled(engine)
    vector = random.standard_normal(4).astype(np.float32)
    plain = engine.query(DOCS, Query(30, vector, return_values=True)).matches
    rows = np.array([match.values for match in plain], np.float64)
    units = rows / np.linalg.norm(rows, axis=1)[:, None]
    near = units @ (vector / np.linalg.norm(vector.astype(np.float64)))

    found = engine.query(DOCS, Query(8, vector, diversity=Diversity(weight, 30)))

    assert ids(found) == [plain[number].id for number in naive_mmr(near, units, weight)[:8]]
    scores = {match.id: match.score for match in plain}
    assert all(match.score == scores[match.id] for match in found.matches)


def test_words_and_both_searches_can_be_diverse(engine: InlineEngine) -> None:
    write(engine, CreateMetadataIndex(TEXT))
    vectors = [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]]
    put(
        engine,
        {"a": {"text": "fox"}, "b": {"text": "fox"}, "c": {"text": "fox fur"}},
        lambda number: vectors[number],
    )

    diverse = words("fox", top_k=2, diversity=Diversity(0.5, 10))
    assert ids(engine.query(DOCS, diverse)) == ["a", "c"]
    hybrid = replace(diverse, vector=np.array([1, 0, 0, 0], np.float32))
    assert ids(engine.query(DOCS, hybrid)) == ["a", "c"]
    assert not engine.query(DOCS, replace(diverse, text=TextQuery("absent"))).matches


@pytest.mark.parametrize("weight", [0.3, 0.7])
@pytest.mark.parametrize("aim", [[1, 0, 0, 0], [0, 0, 0, 1]], ids=["negative", "zero"])
def test_diverse_matches_are_right_where_the_best_fused_score_is_not_positive(
    engine: InlineEngine, aim: list[float], weight: float
) -> None:
    write(engine, CreateMetadataIndex(TEXT))
    xs, ys = [-0.6, -0.6, -0.8, -1.0], [0.8, 0.79, -0.6, 0.0]
    texts = {f"v{n}": {"text": "fox"} for n in range(4)}
    put(engine, texts, lambda number: [xs[number], ys[number], 0.0, 0.0])
    plain = Query(4, np.array(aim, np.float32), text=TextQuery("absent"), return_values=True)
    matches = engine.query(DOCS, plain).matches
    rows = np.array([match.values for match in matches], np.float64)
    scores = np.array([match.score for match in matches])

    found = engine.query(DOCS, replace(plain, diversity=Diversity(weight, 10)))

    assert scores.max() <= 0.0
    units = rows / np.linalg.norm(rows, axis=1)[:, None]
    assert ids(found) == [matches[number].id for number in naive_mmr(scores, units, weight)]


def test_an_explanation_tells_what_words_cost_in_each_part(engine: InlineEngine) -> None:
    write(engine, CreateMetadataIndex(TEXT), CreateMetadataIndex(GROUP))
    rows = {
        f"v{n}": {"text": "fox" if n % 2 else "owl fox", "group": str(n % 3)} for n in range(45)
    }
    put(engine, rows, east)
    put(engine, {"late": {"text": "owl", "group": "0"}}, east)

    def parts(query: Query) -> Sequence[Explanation]:
        found = engine.query(DOCS, replace(query, explain=True))
        assert engine.query(DOCS, query).explanations == ()
        assert [part.part for part in engine.query(DOCS, query).explain()] == [
            part.part for part in found.explanations
        ]
        return found.explanations

    segment, memtable = parts(words("owl", top_k=100))
    assert (segment.vector_count, segment.selected_count, segment.method) == (45, 45, "words")
    assert (segment.scored_count, segment.rescored_count) == (0, 0)
    assert segment.words is not None
    assert (segment.words.scored_count, segment.words.posting_count) == (23, 23)
    assert segment.total_ms >= segment.words.search_ms > 0.0
    assert memtable.words is not None
    assert (memtable.words.scored_count, memtable.words.posting_count) == (1, 1)

    segment, memtable = parts(words("owl fox", top_k=100))
    assert segment.words is not None
    assert (segment.words.scored_count, segment.words.posting_count) == (45, 68)

    near = np.array([1, 0, 0, 0], np.float32)
    chosen = (Predicate("group", Operator.EQ, ("0",)),)
    segment, memtable = parts(words("owl", vector=near, filter=chosen))
    assert (segment.selected_count, memtable.selected_count) == (15, 1)
    assert segment.method == "exact over the selected rows"
    assert segment.scored_count == 15
    assert segment.words is not None
    assert 0 < segment.words.scored_count <= 23

    segment, memtable = parts(Query(5, near, grouping=Grouping("group", 1)))
    assert segment.scored_count == 45
    assert (segment.words, memtable.words) == (None, None)
    assert parts(words("owl", filter=(Predicate("absent", Operator.EQ, ("0",)),))) == ()


@pytest.mark.parametrize("count", [1, 2])
def test_groups_have_a_bounded_number_of_matches_and_never_too_few_in_all(
    engine: InlineEngine, count: int
) -> None:
    random = filled(engine)
    put(engine, {f"w{number}": {"text": "word1"} for number in range(3)}, east)
    vector = random.standard_normal(4).astype(np.float32)
    everything = engine.query(DOCS, Query(1_000, vector, return_metadata=MetadataLevel.INDEXED))
    taken: dict[str, int] = {}
    expected = []
    for match in everything.matches:
        if not match.id.startswith("w"):
            group = str(match.metadata)
            taken[group] = taken.get(group, 0) + 1
            if taken[group] > count:
                continue
        expected.append(match.id)

    for top_k in (1, 4, 6 * count, 100):
        found = engine.query(DOCS, Query(top_k, vector, grouping=Grouping("group", count)))
        assert ids(found) == expected[:top_k]
    by_words = engine.query(DOCS, words("word0 word1", grouping=Grouping("group", count), top_k=99))
    assert 6 * count <= len(by_words.matches) <= 6 * count + 3


@pytest.mark.parametrize("name", ["absent", "text"])
def test_groups_need_a_metadata_index_of_values(engine: InlineEngine, name: str) -> None:
    write(engine, CreateMetadataIndex(TEXT))
    with pytest.raises(BadRanking, match=f"groupBy: the property '{name}' has no metadata index"):
        engine.query(DOCS, Query(1, np.ones(4, np.float32), grouping=Grouping(name, 1)))


def test_of_many_highlights_the_first_are_told(engine: InlineEngine) -> None:
    write(engine, CreateMetadataIndex(TEXT))
    put(engine, {"a": {"text": "fox " * (HIGHLIGHTS_MAX + 50)}}, east)

    (match,) = engine.query(DOCS, words("fox", return_highlights=True)).matches

    assert match.highlights is not None
    assert [each.start for each in match.highlights] == [4 * at for at in range(HIGHLIGHTS_MAX)]


def test_highlights_are_the_places_of_the_words(engine: InlineEngine) -> None:
    write(engine, CreateMetadataIndex(TEXT), CreateMetadataIndex(TITLE))
    put(
        engine,
        {
            "a": {"text": "Café foxes: the FOX", "title": ["no", 1, "東京都 fox"]},
            "b": {"text": "cafe"},
        },
        east,
    )
    query = words("cafés fox 東京都", return_highlights=True)

    matches = {match.id: match.highlights for match in engine.query(DOCS, query).matches}

    assert matches == {
        "a": (
            Highlight("text", 0, 4),
            Highlight("text", 5, 10),
            Highlight("text", 16, 19),
            Highlight("title", 0, 3, 2),
            Highlight("title", 4, 7, 2),
        ),
        "b": (Highlight("text", 0, 4),),
    }


def test_a_passage_is_the_texts_of_a_property(engine: InlineEngine) -> None:
    write(engine, CreateMetadataIndex(TEXT))
    put(engine, {"a": {"text": ["red", 1, "fox"]}, "b": {"text": "fox"}}, east)

    found = engine.query(DOCS, words("fox", passage_property="text"))

    assert {match.id: match.passage for match in found.matches} == {"a": "red\nfox", "b": "fox"}
    assert [match.metadata for match in found.matches] == [None, None]


def test_a_rare_word_scores_as_its_formula_says(engine: InlineEngine) -> None:
    write(engine, CreateMetadataIndex(TITLE))
    put(engine, {"a": {"title": "red red fox"}, "b": {"title": "dog"}, "c": {"title": ""}}, east)

    (match,) = engine.query(DOCS, words("red")).matches

    idf = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5))  # two documents have terms, one has the word
    assert match.score == pytest.approx(idf * 2 / (2 + 1.2 * (0.25 + 0.75 * 3 / 2)))


def test_a_word_counts_once_however_often_the_query_has_it(engine: InlineEngine) -> None:
    write(engine, CreateMetadataIndex(TEXT))
    put(engine, {"a": {"text": "red fox"}, "b": {"text": "a fox"}, "c": {"text": "a dog"}}, east)

    assert engine.query(DOCS, words("a a a red")) == engine.query(DOCS, words("a red"))
    assert ids(engine.query(DOCS, words("a a a red")))[0] == "a"
