"""Chroma: a server's URL, or the folder of a persistent client.

Metadata comes as it is; a record's document becomes the property `DOCUMENT` of it.

As a destination it takes the texts, numbers and booleans of metadata as its own, for its filters;
metadata that has anything else is kept whole as JSON beside them, as a namespace is.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from vicinal.errors import InvalidInput, Unavailable, reason_of
from vicinal.model import IndexConfig, MetadataIndex, Metric, VectorBatch
from vicinal.moving.base import ExistingIndex
from vicinal.moving.foreign import (
    ForeignCollection,
    ForeignPage,
    ForeignRecord,
    checked_dimensions,
    import_client,
    metric_of,
    without_secret,
)
from vicinal.moving.writing import (
    METADATA,
    NAMESPACE,
    NOTE,
    CollectionNote,
    document_of,
    with_ours,
)

DOCUMENT = "document"

_METRICS = {"cosine": Metric.COSINE, "l2": Metric.EUCLIDEAN, "ip": Metric.DOT_PRODUCT}
_SPELLINGS = {metric: spelling for spelling, metric in _METRICS.items()}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{1,510}[A-Za-z0-9]")
_KEY = re.compile(r"[A-Za-z][^\0]*")  # its own properties begin with other signs
_INTEGERS = range(-(1 << 63), 1 << 63)


class ChromaClient:
    """Implements `moving.foreign.ForeignClient` and `moving.writing.ForeignWriter`.

    Args:
        location: A URL, or the folder of a persistent client.
        key: For the server.
    """

    def __init__(self, location: str, key: str) -> None:
        self._module = import_client("chromadb", "chroma")
        self.label = f"chroma:{without_secret(location)}"
        try:
            self._client = self._connected(location, key)
        except ValueError as error:  # the client's for all that it cannot reach
            raise Unavailable(f"{self.label}: {error}") from error
        self._collections: dict[str, Any] = {}

    def _connected(self, location: str, key: str) -> Any:
        if "://" not in location:
            return self._module.PersistentClient(location)
        parts = urlsplit(location)
        is_tls = parts.scheme == "https"
        return self._module.HttpClient(
            host=parts.hostname or "",
            port=parts.port or (443 if is_tls else 8000),
            ssl=is_tls,
            headers={"x-chroma-token": key, "authorization": f"Bearer {key}"},
        )

    def names(self) -> Sequence[str]:
        """See `moving.foreign.ForeignClient`."""
        names: list[str] = []
        while page := self._called(self._client.list_collections, limit=100, offset=len(names)):
            names += [collection.name for collection in page]
        return names

    def describe(self, name: str) -> ForeignCollection:
        """See `moving.foreign.ForeignClient`."""
        collection = self._collection(name)
        first = self._called(collection.get, limit=1, include=["embeddings"])["embeddings"]
        if first is None or not len(first):
            raise InvalidInput(f"{name!r} is empty, so its dimensions are not known")
        space = _space(collection)
        count, note = self.count(name), _note(collection)
        config = IndexConfig(
            checked_dimensions(len(first[0]), name), metric_of(space, _METRICS, name)
        )
        return ForeignCollection(
            config if note is None else note.config,
            count,
            f"{collection.id} with {count} records",
            () if note is None else note.indexes,
            description=None if note is None else note.description,
        )

    def page(self, name: str, cursor: str | None, count: int) -> ForeignPage:
        """See `moving.foreign.ForeignClient`; a cursor is an offset."""
        offset = int(cursor or 0)
        collection = self._collection(name)
        is_ours = _note(collection) is not None
        page = self._called(
            collection.get,
            limit=count,
            offset=offset,
            include=["embeddings", "metadatas", "documents"],
        )
        ids = page["ids"]
        records: list[ForeignRecord] = []
        for row, id_ in enumerate(ids):
            properties = _metadata(page["metadatas"][row], page["documents"][row], id_)
            namespace = ""
            if is_ours:
                namespace = properties.pop(NAMESPACE, "")
                whole = properties.pop(METADATA, None)
                properties = properties if whole is None else msgspec.json.decode(whole)
            records.append(ForeignRecord(id_, page["embeddings"][row], properties, namespace))
        return ForeignPage(records, str(offset + len(ids)) if len(ids) == count else None)

    def check_name(self, name: str) -> None:
        """See `moving.writing.ForeignWriter`."""
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                f"{name!r} cannot be the name of a collection of Chroma, which has 3 signs or more "
                "and begins and ends with a letter or a digit"
            )

    def existing(self, name: str) -> ExistingIndex | None:
        """See `moving.writing.ForeignWriter`.

        Raises:
            InvalidInput: no copy has made it, and it is empty, so that its dimensions are not
                known.
        """
        try:
            collection = self._collection(name)
        except _NotThere:
            return None
        note = _note(collection)
        count = self.count(name)
        if note is not None:
            return ExistingIndex(
                f"{collection.id} {note.id}", note.dimensions, note.metric.value, count
            )
        config = self.describe(name).config
        return ExistingIndex(str(collection.id), config.dimensions, config.metric.value, count)

    def create(self, name: str, note: CollectionNote) -> None:
        """See `moving.writing.ForeignWriter`."""
        self._collections[name] = self._called(
            self._client.create_collection,
            name,
            metadata={NOTE: note.text},
            configuration={"hnsw": {"space": _SPELLINGS[note.metric]}},
            embedding_function=None,
        )

    def delete(self, name: str) -> None:
        """See `moving.writing.ForeignWriter`."""
        self._collections.pop(name, None)
        self._called(self._client.delete_collection, name)

    def upsert(self, name: str, batch: VectorBatch) -> None:
        """See `moving.writing.ForeignWriter`; its own upsert would keep older properties."""
        collection = self._collection(name)
        step = self._called(self._client.get_max_batch_size)
        for start in range(0, len(batch), step):
            rows = range(start, min(start + step, len(batch)))
            ids = [batch.ids[row] for row in rows]
            there = self._called(collection.get, ids=ids, include=[])["ids"]
            if there:
                self._called(collection.delete, ids=there)
            self._called(
                collection.add,
                ids=ids,
                embeddings=batch.values[rows.start : rows.stop],
                metadatas=[_properties(batch, row) for row in rows],
            )

    def create_metadata_index(self, name: str, metadata_index: MetadataIndex) -> None:
        """See `moving.writing.ForeignWriter`; filters need none, but a copy back may."""
        collection = self._collection(name)
        note = _note(collection)
        if note is not None:
            changed = {NOTE: note.with_index(metadata_index).text}
            self._called(collection.modify, metadata=changed)
            self._collections.pop(name)

    def count(self, name: str) -> int:
        """See `moving.writing.ForeignWriter`."""
        return int(self._called(self._collection(name).count))

    def close(self) -> None:
        """See `moving.foreign.ForeignClient`."""
        self._collections.clear()

    def _called(self, method: Callable[..., Any], *arguments: object, **options: object) -> Any:
        """Call the client; its errors become ours."""
        try:
            return method(*arguments, **options)
        except httpx.TransportError as error:
            raise Unavailable(f"{self.label}: {reason_of(error)}", retry_after=1.0) from error
        except self._module.errors.NotFoundError as error:
            raise _NotThere(f"{self.label}: {error}") from error
        except self._module.errors.ChromaError as error:
            if error.code() in (429, 500, 502, 503, 504):
                raise Unavailable(f"{self.label}: {error}", retry_after=1.0) from error
            raise InvalidInput(f"{self.label}: {error}") from error

    def _collection(self, name: str) -> Any:
        if name not in self._collections:
            self._collections[name] = self._called(
                self._client.get_collection, name, embedding_function=None
            )
        return self._collections[name]


class _NotThere(InvalidInput):
    """There is no collection of a name."""


def _note(collection: Any) -> CollectionNote | None:
    return CollectionNote.in_text((collection.metadata or {}).get(NOTE))


def _space(collection: Any) -> str:
    config = collection.configuration_json
    space: str = (config.get("hnsw") or config.get("spann") or {}).get("space", "l2")
    return space


def _properties(batch: VectorBatch, row: int) -> dict[str, Any] | None:
    """Return the metadata of a vector as Chroma takes it; None where there is none."""
    document = document_of(batch.metadata[row])
    flat = {name: value for name, value in document.items() if _is_flat(name, value)}
    ours: dict[str, Any] = {}
    # Chroma reads fractions back with another last bit.
    has_fractions = any(isinstance(value, float) for value in flat.values())
    if len(flat) < len(document) or has_fractions:
        ours[METADATA] = batch.metadata[row].decode()
    if batch.namespaces[row]:
        ours[NAMESPACE] = batch.namespaces[row]
    return with_ours(flat, ours, batch.ids[row]) or None


def _is_flat(name: str, value: object) -> bool:
    if not _KEY.fullmatch(name) or name.startswith("chroma:"):
        return False
    if isinstance(value, int) and not isinstance(value, bool):
        return value in _INTEGERS
    return isinstance(value, str | bool | float)


def _metadata(metadata: Any, document: str | None, id_: str) -> dict[str, Any]:
    properties = dict(metadata or {})
    if document is not None:
        if DOCUMENT in properties:
            raise InvalidInput(
                f"record {id_!r} has a document and a property {DOCUMENT!r}: both cannot be kept"
            )
        properties[DOCUMENT] = document
    return properties
