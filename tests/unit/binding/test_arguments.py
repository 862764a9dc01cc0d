"""Whatever Python hands over is what a JSON body could have held, or is refused by name."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import vicinal
from vicinal.binding import Columns, Database, Vector, Vectorize
from vicinal.errors import InvalidInput, MetadataIndexNotFound
from vicinal.model import Effort, Metric

X = [1, 0, 0]
SURROGATE = "a\ud800"
HUGE = 10**5_000  # has more digits than Python writes


class Stubborn:
    """An object that cannot be made an array, nor shown."""

    def __array__(self, *_arguments: object) -> object:
        raise RuntimeError("requires grad")

    def __repr__(self) -> str:
        raise RuntimeError("no representation")


class Ones:
    """Can be iterated over, again and again, and says nothing of its length."""

    def __iter__(self) -> Iterator[int]:
        return iter([1])


class Posing:
    """Says that it is of a class, as mocks do, and is not."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    @property  # type: ignore[misc]  # as mocks have it
    def __class__(self) -> Any:
        return self.kind


class Endless(list[Any]):
    """A list that does not end where it says that it does."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat("a")


class Refusing(dict[str, Any]):
    """A dictionary that raises when it is read."""

    def items(self) -> Any:
        raise TypeError("no")


class RefusingList(list[Any]):
    """A list that raises when it is read."""

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("no")

    def __len__(self) -> int:
        raise TypeError("no")


def holding_itself() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def unfolding() -> dict[str, Any]:
    """Return few lists that would be 2**60 as JSON."""
    found: list[Any] = [1]
    for _ in range(60):
        found = [found, found]
    return {"k": found}


def masked() -> Any:
    return np.ma.masked_array([1.0, 0.0, 0.0], mask=[False, True, False])


NOT_TEXT = [5, 5.0, True, b"docs", bytearray(b"docs"), ["docs"], {"a": 1}, {"a"}, object(),
            Stubborn(), SURROGATE, np.int64(3), np.bytes_(b"docs"), math.nan, Decimal(1), HUGE,
            itertools.repeat("a"), np.array(["docs"]), holding_itself(), Posing(str),
            RefusingList(["docs"])]  # fmt: skip
NOT_BOOLEAN = [1, 0, "yes", "", 1.0, None, [], [True], np.int64(1), np.float32(0), object(),
               np.array([True, False]), b"", HUGE, Stubborn()]  # fmt: skip
NOT_INTEGER = [3.0, 3.5, True, False, "3", b"3", Decimal(3), Fraction(3), [3], {3}, object(), HUGE,
               -HUGE, 2**64, math.nan, math.inf, 3j, np.float64(3), np.bool_(True), np.str_("3"),
               np.array([3]), np.array(3), np.datetime64(3, "D"), np.timedelta64(3, "D"),
               Stubborn(), Posing(int),
               holding_itself()]  # fmt: skip
NOT_NUMBER = [True, "5", b"5", Decimal(5), Fraction(5), [5], {5}, object(), HUGE, -HUGE, 2**64, 5j,
              math.nan, np.bool_(True), np.str_("5"), np.array([5]), np.complex64(5),
              np.timedelta64(3, "D"), Stubborn(), holding_itself(), Posing(int),
              Posing(float)]  # fmt: skip
NOT_VECTOR = [None, 5, 1.5, True, "123", b"123", bytearray(b"123"), SURROGATE, {1, 2, 3},
              {"a": 1}, object(), Stubborn(), [], [1, 2], [1, 2, 3, 4], [X], np.array([X]),
              np.ones(4),
              np.array(X, object), np.array([1, "a", None], object), np.ones(3, complex),
              [1j, 0, 0],
              ["1", "0", "0"], np.array(["1", "0", "0"]), np.array([True, False, True]),
              [True, False, True], [None, 0, 0], [math.nan, 0, 0], np.array([np.nan, 0, 0]),
              [math.inf, 0, 0], [1e300, 0, 0], np.array([1e300, 0, 0]), [10**400, 0, 0],
              [HUGE, 0, 0],
              [Decimal(1), 0, 0], [Fraction(1), 0, 0], masked(), [np.ma.masked, 0, 0],
              np.ma.masked_array(X), np.array([1, 2, 3], "M8[s]"), np.zeros(3, "i4,f4"),
              np.array([b"a", b"b", b"c"]), holding_itself(), iter(X), (each for each in X),
              np.float32(1), np.array(1.0), [[1], [2], [3]], [SURROGATE, 0, 0],
              RefusingList(X), [RefusingList(X)]]  # fmt: skip
NOT_DOCUMENT = [[], [1], (), 5, "a", True, b"a", {"a"}, object(), Stubborn(), {1: 2}, {None: 1},
                {b"a": 1}, {SURROGATE: 1}, {"k": SURROGATE}, {"k": object()}, {"k": b"a"},
                {"k": {1, 2}}, {"k": math.nan}, {"k": math.inf}, {"k": np.float32("nan")},
                {"k": HUGE}, {"k": Decimal(1)}, {"k": 1j}, {"k": np.ones(3)}, {"k": [SURROGATE]},
                {"k": holding_itself()}, unfolding(), {"k": {"k": Stubborn()}}, {"$k": 1}, {"": 1},
                {"k": np.datetime64(1, "s")}, {"k": np.longdouble(1)}, {HUGE: 1}, {Stubborn(): 1},
                Refusing(k=1), {"k": Refusing(k=1)}, {"k": RefusingList()}, {"k": Posing(str)},
                {"k": Posing(int)}, {"k": Posing(float)}]  # fmt: skip
NOT_IDS = [None, 5, 1.5, True, "a", b"a", {"a"}, {"a": 1}, object(), Stubborn(), [5], [None],
           [b"a"], [SURROGATE], ["a", True], [["a"]], np.array([1, 2]), np.array("a"),
           np.array([["a"]]), itertools.repeat("a"), itertools.count(), holding_itself(),
           Ones(), ["a"] * 10_001, frozenset(["a"]), Endless(["a"]), RefusingList(["a"]),
           Posing(str), [Posing(str)]]  # fmt: skip
NOT_MEMBER = [5, True, "most", "", SURROGATE, b"exact", ["exact"], {"exact"}, object(), Stubborn(),
              HUGE, np.int64(1), Metric, "EXACT", "exact\0"]  # fmt: skip
NOT_VECTORS = [None, 5, True, "abc", b"abc", {"id": "a", "values": X}, object(), Stubborn(), [5],
               [None], ["a"], [b"a"], [{}], [{"id": "a"}], [{"values": X}], [[("id", "a")]], {"a"},
               np.ones((2, 3)), np.array(5), itertools.count(), holding_itself(), [Vector], Columns,
               {1: 2}]  # fmt: skip
NOT_COLUMN = [5, "a", b"a", {"a": 1}, {"a"}, object(), Stubborn(), (each for each in ["a"]), [5],
              [SURROGATE], [b"a"], [], ["a", "b"], np.array(5), [[]], Endless(["a"]),
              RefusingList(["a"]), range(10**12)]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """A call with good arguments, and for each of them values that are none."""

    name: str
    of: Callable[[Database, Vectorize], Callable[..., object]]
    good: Mapping[str, Any]
    bad: Mapping[str, list[Any]]


WRITES: Mapping[str, list[Any]] = MappingProxyType(
    {"wait": NOT_BOOLEAN, "timeout_s": [*NOT_NUMBER, -1, -0.5, -math.inf]}
)
SEARCH: Mapping[str, list[Any]] = MappingProxyType(
    {
        "top_k": [*NOT_NUMBER, 2.5, 0, -1, 1_001, math.inf, -math.inf],
        "namespace": [*NOT_TEXT, "n" * 65],
        "filter": [*NOT_DOCUMENT, {"k": []}, {"k": {}}, {"k": {"$near": 1}},
                   {"k": {"$in": (1, b"a")}}],
        "return_values": NOT_BOOLEAN,
        "return_metadata": [each for each in NOT_MEMBER if each is not True] + [None],
        "effort": NOT_MEMBER,
    }
)  # fmt: skip


def is_row_in_one(value: object) -> bool:
    """Return whether something that is no vector is one row of them."""
    if isinstance(value, np.ndarray):
        return bool(value.shape == (1, 3))
    return type(value) is list and len(value) == 1 and value == [X]


def record(**members: Any) -> dict[str, Any]:
    return {"id": "new", "values": X} | members


def stored(upsert: Callable[..., object]) -> Callable[..., object]:
    """Return an upsert of one vector by its members, in each of the forms that there are."""

    def call(form: str, **members: Any) -> object:
        if form == "record":
            return upsert([record(**members)])
        if form == "vector":
            return upsert([Vector(**record(**members))])
        named = record(namespace=None, metadata=None) | members
        return upsert(Columns([named["id"]], [named["values"]], [named["namespace"]],
                              [named["metadata"]]))  # fmt: skip

    return call


def by_columns(upsert: Callable[..., object]) -> Callable[..., object]:
    return lambda **columns: upsert(Columns(**columns))


MEMBERS: Mapping[str, list[Any]] = MappingProxyType(
    {
        "id": [*NOT_TEXT, None, "", "i" * 513],
        "values": NOT_VECTOR,
        "namespace": [*NOT_TEXT, "n" * 65],
        "metadata": [*NOT_DOCUMENT, {"k": "x" * 10_240}],
    }
)

CALLS = [
    Call(
        "create_index",
        lambda database, _: database.create_index,
        {"name": "other", "dimensions": 3, "metric": "cosine"},
        {
            "name": [*NOT_TEXT, None, "", "a b", "n" * 65],
            "dimensions": [*NOT_INTEGER, None, 0, -1, 4_097],
            "metric": [*NOT_MEMBER, None],
            "preset": [*NOT_TEXT, "unknown"],
            "description": [*NOT_TEXT, "d" * 1_025],
            "effort": NOT_MEMBER,
        },
    ),
    Call(
        "index", lambda database, _: database.index, {"name": "docs"}, {"name": [*NOT_TEXT, None]}
    ),
    Call(
        "delete_index",
        lambda database, _: database.delete_index,
        {"name": "docs"},
        {"name": [*NOT_TEXT, None]},
    ),
    *(
        Call(
            name,
            lambda _, docs, name=name: getattr(docs, name),  # type: ignore[misc]  # bound now
            {"vectors": [record()]},
            {"vectors": NOT_VECTORS, **WRITES},
        )
        for name in ("insert", "upsert")
    ),
    *(
        Call(
            f"upsert of a {form}",
            lambda _, docs, form=form: (  # type: ignore[misc]  # bound now
                lambda **members: stored(docs.upsert)(form, **members)
            ),
            {},
            MEMBERS,
        )
        for form in ("record", "vector", "column")
    ),
    Call(
        "upsert of columns",
        lambda _, docs: by_columns(docs.upsert),
        {"ids": ["new"], "values": [X]},
        {
            "ids": [*NOT_COLUMN, None, [None], [""]],
            "values": [
                *(each for each in NOT_VECTOR if not is_row_in_one(each)),
                X,
                np.ones((1, 3, 1)),
                np.ones((1, 2)),
                np.ma.masked_array([X]),
                np.array([X], object).repeat(2, 0),
                [[1, 2], [1]],
                np.array([["1", "2", "3"]]),
                np.array([X], bool),
                np.array([X], complex),
                np.full((1, 3), np.nan),
            ],
            "namespaces": NOT_COLUMN,
            "metadata": [*NOT_COLUMN, ["a"], [{1: 2}]],
        },
    ),
    Call(
        "delete_by_ids",
        lambda _, docs: docs.delete_by_ids,
        {"ids": ["x"]},
        {"ids": NOT_IDS, **WRITES},
    ),
    Call("get_by_ids", lambda _, docs: docs.get_by_ids, {"ids": ["a"]}, {"ids": NOT_IDS}),
    Call("query", lambda _, docs: docs.query, {"vector": X}, {"vector": NOT_VECTOR, **SEARCH}),
    Call(
        "query_by_id",
        lambda _, docs: docs.query_by_id,
        {"vector_id": "a"},
        {"vector_id": [*NOT_TEXT, None, ""], **SEARCH},
    ),
    Call(
        "list_vectors",
        lambda _, docs: docs.list_vectors,
        {},
        {
            "count": [*NOT_INTEGER, 0, -1, 10_001],
            "cursor": [*NOT_TEXT, "nonsense", "é", "A" * 38, "\0"],
        },
    ),
    Call(
        "create_metadata_index",
        lambda _, docs: docs.create_metadata_index,
        {"property_name": "p", "index_type": "string"},
        {
            "property_name": [*NOT_TEXT, None, "", "$p", "a..b", "p" * 513],
            "index_type": [*NOT_MEMBER, None],
            "backfill": NOT_BOOLEAN,
            **WRITES,
        },
    ),
    Call(
        "delete_metadata_index",
        lambda _, docs: docs.delete_metadata_index,
        {"property_name": "k"},
        {"property_name": [*NOT_TEXT, None], **WRITES},
    ),
]


def shown(value: object) -> str:
    """Return an id: not the value itself where that has no end or no representation."""
    is_short = isinstance(value, str | bytes | bool | float) or value is None
    return ascii(value)[:30] if is_short else type(value).__name__


CASES = [
    pytest.param(call, parameter, value, id=f"{call.name}({parameter}={shown(value)})")
    for call in CALLS
    for parameter, values in call.bad.items()
    for value in values
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arguments") / "data"


@pytest.fixture(scope="module")
def database(folder: Path) -> Iterator[Database]:
    """One for all: nothing that is refused may leave a trace, which is looked for at the end."""
    with vicinal.open(folder) as database:
        docs = database.create_index("docs", dimensions=3, metric="cosine", description="d")
        docs.create_metadata_index("k", "string")
        docs.upsert([{"id": "a", "values": X, "metadata": {"k": "v"}}], wait=True)
        yield database
    with vicinal.open(folder) as again:
        assert contents(again) == CONTENTS


CONTENTS = ([("docs", 3, "cosine", "d")], [("k", "string")], [("a", X, {"k": "v"})], 2)


def contents(database: Database) -> object:
    docs = database.index("docs")
    return (
        [
            (each.name, each.config.dimensions, each.config.metric, each.description)
            for each in database.list_indexes()
        ],
        [(each.property_name, each.index_type) for each in docs.list_metadata_indexes()],
        [
            (each.id, each.values.tolist(), each.metadata)
            for each in docs.get_by_ids(list(docs.list_vectors().ids))
        ],
        docs.describe().applied_seqno,
    )


@pytest.mark.parametrize(("call", "parameter", "value"), CASES)
def test_a_wrong_argument_is_refused_and_changes_nothing(
    database: Database, call: Call, parameter: str, value: Any
) -> None:
    function = call.of(database, database.index("docs"))

    with pytest.raises(InvalidInput) as refused:
        function(**{**call.good, parameter: value})

    str(refused.value).encode()  # can be printed
    assert contents(database) == CONTENTS


@pytest.mark.parametrize("value", [*NOT_TEXT, None, "", "a/b", "a b", "é", "a" * 33, "a\n", ".."],
                         ids=shown)  # fmt: skip
def test_an_account_that_no_path_could_name_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InvalidInput, match="account"):
        vicinal.open(tmp_path / "data", account=value)

    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("value", [*NOT_TEXT, None, "", "big"], ids=shown)
def test_a_profile_that_there_is_not_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InvalidInput, match="limits"):
        vicinal.open(tmp_path / "data", limits=value)


class BytesPath:
    def __fspath__(self) -> bytes:
        return b"data"


class NumberPath:
    def __fspath__(self) -> int:
        return 5


@pytest.mark.parametrize(
    "value",
    [5, None, True, b"data", [], object(), BytesPath(), NumberPath(), "", "a\0b", SURROGATE],
    ids=shown,
)
def test_a_path_that_can_be_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InvalidInput, match="path"):
        vicinal.open(value)

    assert list(tmp_path.iterdir()) == []


def of(kind: Any, value: object) -> Any:
    """Return a value of a type that type checkers would object to."""
    return kind(value)


def test_numpys_scalars_mean_what_pythons_do(tmp_path: Path) -> None:
    true: Any = np.bool_(True)
    text: Any = np.str_
    metadata = {text("k"): np.int32(7), "b": true}
    with vicinal.open(tmp_path / "data") as database:
        docs = database.create_index(
            text("docs"), dimensions=of(np.int64, 3), metric=text("cosine"), effort=Effort.EXACT
        )
        docs.create_metadata_index(text("k"), text("number"), backfill=true, wait=true)
        values = [np.float16(1), np.int8(0), 0]
        record = {"id": text("a"), "values": values, "namespace": text("n"), "metadata": metadata}
        docs.upsert([record], wait=True, timeout_s=of(np.float32, 30))
        found = docs.query(
            np.array(X, np.uint8),
            top_k=of(np.int16, 1),
            filter={"k": {"$in": (np.int64(7),)}},
            return_values=true,
            return_metadata=true,
        )
        listed = docs.list_vectors(of(np.uint8, 5))
        got = docs.get_by_ids(of(np.array, ["a", "b"]))

    assert [(each.id, each.namespace, each.metadata) for each in found.matches] == [
        ("a", "n", {"k": 7, "b": True})
    ]
    assert list(listed.ids) == ["a"]
    assert [each.id for each in got] == ["a"]
    with vicinal.open(tmp_path / "data") as database:
        (index,) = database.list_indexes()
        assert type(index.config.dimensions) is int
        assert database.index("docs").describe().vector_count == 1


def test_members_that_mean_nothing_may_hold_anything(tmp_path: Path) -> None:
    with vicinal.open(tmp_path / "data") as database:
        docs = database.create_index("docs", dimensions=3, metric="cosine")

        record: dict[Any, Any] = {"id": "a", "values": X, "document": object(), 5: "five"}
        docs.upsert([record], wait=True)

        assert docs.describe().vector_count == 1


@pytest.mark.parametrize(
    "values",
    [np.ones((2, 3), kind) for kind in ("f2", "f4", "f8", "i1", "u8", ">f4", "<i2")]
    + [np.asfortranarray(np.ones((2, 3))), np.ones((2, 6))[:, ::2], [[1, 1, 1], (1, 1, 1)]],
    ids=shown,
)
def test_columns_take_numbers_of_any_size_and_order(tmp_path: Path, values: Any) -> None:
    with vicinal.open(tmp_path / "data") as database:
        docs = database.create_index("docs", dimensions=3, metric="cosine")

        docs.upsert(Columns(("a", "b"), values, (None, "n"), ({}, None)), wait=True)

        assert [each.values.tolist() for each in docs.get_by_ids(["a", "b"])] == [[1, 1, 1]] * 2


def test_empty_columns_are_an_empty_batch_and_a_column_of_a_wrong_form_is_none(
    tmp_path: Path,
) -> None:
    with vicinal.open(tmp_path / "data") as database:
        docs = database.create_index("docs", dimensions=3, metric="cosine")

        docs.upsert(Columns([], np.empty((0, 3))), wait=True)
        docs.upsert(Columns([], []), wait=True)

        with pytest.raises(InvalidInput):
            docs.upsert(Columns([], 3.0))
        assert docs.describe().vector_count == 0


def test_what_is_copied_may_be_changed_afterwards(tmp_path: Path) -> None:
    with vicinal.open(tmp_path / "data") as database:
        docs = database.create_index("docs", dimensions=3, metric="cosine")
        rows = np.ones((2, 3), np.float32)

        docs.upsert(Columns(["a", "b"], rows))
        rows[:] = 7

        docs.delete_by_ids([], wait=True)
        assert docs.get_by_ids(["a"])[0].values.tolist() == [1, 1, 1]


def test_a_name_of_a_metadata_index_that_there_is_not_is_no_wrong_argument(
    database: Database,
) -> None:
    with pytest.raises(MetadataIndexNotFound):
        database.index("docs").delete_metadata_index("unknown")
