"""Other products as sources, without their clients: what becomes of their types."""

import uuid
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vicinal.errors import InvalidInput
from vicinal.model import Effort, IndexAddress, IndexConfig, IndexType, MetadataIndex, Metric
from vicinal.moving.base import SourceIndex
from vicinal.moving.foreign import (
    ForeignRecord,
    batch_of,
    checked_dimensions,
    first_of,
    import_client,
    metric_of,
    without_secret,
)
from vicinal.moving.postgresql import dsn_without_secret
from vicinal.moving.qdrant import metadata_indexes, point_id
from vicinal.moving.stores import StoreOptions, open_destination, open_source
from vicinal.moving.writing import NAMESPACE, CollectionNote, ForeignDestination, with_ours


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


@pytest.mark.parametrize(
    ("product", "called"), [("qdrant", "Qdrant"), ("chroma", "Chroma"), ("lancedb", "LanceDB")]
)
@pytest.mark.parametrize("folder", ["missing", "other", "file", ""])
def test_a_source_that_is_no_folder_of_the_product_is_refused_and_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, product: str, called: str, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("dear")
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(InvalidInput, match=f"^{product}:{folder}: there is no folder of {called}"):
        open_source(f"{product}:{folder}", StoreOptions("vicinal", "", "local"))

    assert sorted(tmp_path.rglob("*")) == before


def test_the_eleventh_metadata_index_is_named() -> None:
    indexes = [MetadataIndex(f"p{number}", IndexType.NUMBER) for number in range(11)]

    kept, complaints = first_of(indexes)

    assert list(kept) == indexes[:10]
    assert complaints == ["the index of 'p10', as an index has at most 10 metadata indexes"]


@pytest.mark.parametrize("own", ["0", "7", str(2**64 - 1), "0b5f0f6e-8a43-4b1e-9d37-5f5d2b9d7c11"])
def test_an_id_that_a_point_can_have_is_the_points(own: str) -> None:
    assert str(point_id(own)) == own


@pytest.mark.parametrize(
    "other",
    ["", "a", "07", "-1", "1.0", "\u0661", str(2**64), "9" * 40, "é\0",
     "0B5F0F6E-8A43-4B1E-9D37-5F5D2B9D7C11", "0b5f0f6e8a434b1e9d375f5d2b9d7c11"],
)  # fmt: skip
def test_any_other_id_always_becomes_the_same_uuid(other: str) -> None:
    made = point_id(other)

    assert isinstance(made, str)
    assert str(uuid.UUID(made)) == made != other
    assert point_id(other) == made
    assert point_id(other + "x") != made


def test_a_note_is_read_as_it_was_written_and_other_text_is_none() -> None:
    config = IndexConfig(3, Metric.COSINE, "@cf/baai/bge-small-en-v1.5", Effort.LOW, "@x/some")
    note = CollectionNote.of(SourceIndex(IndexAddress("a", "b"), config, "it's one", 5))
    note = note.with_index(MetadataIndex("k", IndexType.STRING))
    note = note.with_index(MetadataIndex("n", IndexType.NUMBER))
    note = note.with_index(MetadataIndex("n", IndexType.NUMBER))

    read = CollectionNote.in_text(note.text)

    assert read == note
    assert read.config == config
    assert [index.property_name for index in read.indexes] == ["k", "n"]
    for text in (None, 7, "", "{", "{}", '{"id": 1}', "\ud800"):
        assert CollectionNote.in_text(text) is None


def test_properties_of_ours_do_not_replace_those_of_the_vector() -> None:
    assert with_ours({"a": 1}, {NAMESPACE: "n"}, "x") == {"a": 1, NAMESPACE: "n"}
    with pytest.raises(InvalidInput, match="vector 'x' has a property '_namespace'"):
        with_ours({NAMESPACE: 1}, {NAMESPACE: "n"}, "x")


def test_two_accounts_with_one_name_are_named_before_anything_is_copied() -> None:
    class Writer:
        label = "product:here"

        def check_name(self, name: str) -> None:
            pass

        def existing(self, name: str) -> None:
            return None

    destination = ForeignDestination(Writer(), None, ExitStack())  # type: ignore[arg-type]  # no more of it is called

    assert destination.existing(IndexAddress("a", "books")) is None
    assert destination.existing(IndexAddress("a", "books")) is None
    with pytest.raises(InvalidInput, match="the accounts a and b both have an index 'books'"):
        destination.existing(IndexAddress("b", "books"))


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


@pytest.mark.parametrize(
    "dsn",
    ["host=db password=hunter2", "postgresql://me:hunter2/x@db/shop", "postgresql://me:7/hunter2@db/",
     "postgresql://me:hunter2?x@db/shop", "postgresql://me:hunter2#x@db/shop", "hunter2",
     "postgresql://me:[hunter2@db/shop", "mysql://me:hunter2@db/shop", "//me:hunter2@db"],
)  # fmt: skip
@pytest.mark.parametrize("opened", ["source", "destination"])
def test_a_dsn_that_cannot_be_read_is_not_repeated(dsn: str, opened: str) -> None:
    options = StoreOptions("vicinal", "", "local")

    with pytest.raises(InvalidInput) as refused:
        (open_source if opened == "source" else open_destination)(f"pgvector:{dsn}", options)

    assert "hunter2" not in str(refused.value)
    assert "the DSN of a database" in str(refused.value)


@pytest.mark.parametrize(
    ("dsn", "label"),
    [
        ("postgresql://me:hunter2@db:5432/shop?sslmode=require&password=hunter2",
         "postgresql://db:5432/shop"),
        ("postgres://me:hunter%2F2@a:1,b:2/shop", "postgresql://a:1,b:2/shop"),
        ("postgresql://me:hunter2@[::1]:5432/shop", "postgresql://[::1]:5432/shop"),
        ("postgresql://me:hunter2@[::1]/shop", "postgresql://[::1]/shop"),
        ("postgresql:///shop?host=/run", "postgresql:///shop"),
        ("postgresql://me:hunter2@hunter@db/shop", "postgresql://db/shop"),
    ],
)  # fmt: skip
def test_the_label_of_a_database_has_no_secret(dsn: str, label: str) -> None:
    assert dsn_without_secret(dsn) == label


@pytest.mark.parametrize(
    ("location", "label"),
    [
        ("https://me:hunter2@db:6333/x?api_key=hunter2#hunter2", "https://db:6333/x"),
        ("http://me:hunter2/x@db", "http://db"),
        ("/srv/me@home/x?y", "/srv/me@home/x?y"),
        ("db://shop", "db://shop"),
        ("http://me:hunter2?x@db", "http://..."),
    ],
)
def test_the_label_of_a_url_has_no_secret(location: str, label: str) -> None:
    assert without_secret(location) == label


def test_a_number_without_a_form_in_json_is_missing_or_named() -> None:
    nan, infinite = float("nan"), float("inf")
    record = ForeignRecord("a", [1.0, 2.0], {"x": nan, "y": {"z": nan, "w": [1]}, "n": None})

    batch = batch_of([record], 2)

    assert list(batch.metadata) == [b'{"y":{"w":[1]},"n":null}']
    for bad in ({"x": infinite}, {"x": [1, nan]}, {"x": {"y": -infinite}}):
        with pytest.raises(InvalidInput, match=r"the metadata of 'a' has .* no form in JSON"):
            batch_of([ForeignRecord("a", [1.0, 2.0], bad)], 2)
