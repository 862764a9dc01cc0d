"""Chroma as a source: a server's URL, or the folder of a persistent client.

Metadata comes as it is; a record's document becomes the property `DOCUMENT` of it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from vicinal.errors import InvalidInput, Unavailable
from vicinal.model import IndexConfig, Metric
from vicinal.moving.foreign import (
    ForeignCollection,
    ForeignPage,
    ForeignRecord,
    checked_dimensions,
    import_client,
    metric_of,
)

DOCUMENT = "document"

_METRICS = {"cosine": Metric.COSINE, "l2": Metric.EUCLIDEAN, "ip": Metric.DOT_PRODUCT}


class ChromaClient:
    """Implements `moving.foreign.ForeignClient`.

    Args:
        location: A URL, or the folder of a persistent client.
        key: For the server.
    """

    def __init__(self, location: str, key: str) -> None:
        self._module = import_client("chromadb", "chroma")
        self.label = f"chroma:{location}"
        try:
            self._client = self._connected(location, key)
        except ValueError as error:  # the client's for all that it cannot reach
            raise Unavailable(f"{self.label}: {error}") from error
        self._collections: dict[str, Any] = {}

    def _connected(self, location: str, key: str) -> Any:
        if "://" not in location:
            if not (Path(location) / "chroma.sqlite3").exists():
                raise InvalidInput(f"{location} is no folder of Chroma")
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
        config = collection.configuration_json
        space = (config.get("hnsw") or config.get("spann") or {}).get("space", "l2")
        count = self._called(collection.count)
        return ForeignCollection(
            IndexConfig(checked_dimensions(len(first[0]), name), metric_of(space, _METRICS, name)),
            count,
            f"{collection.id} with {count} records",
        )

    def page(self, name: str, cursor: str | None, count: int) -> ForeignPage:
        """See `moving.foreign.ForeignClient`; a cursor is an offset."""
        offset = int(cursor or 0)
        page = self._called(
            self._collection(name).get,
            limit=count,
            offset=offset,
            include=["embeddings", "metadatas", "documents"],
        )
        ids = page["ids"]
        records = [
            ForeignRecord(
                id_,
                page["embeddings"][row],
                _metadata(page["metadatas"][row], page["documents"][row], id_),
            )
            for row, id_ in enumerate(ids)
        ]
        return ForeignPage(records, str(offset + len(ids)) if len(ids) == count else None)

    def close(self) -> None:
        """See `moving.foreign.ForeignClient`."""
        self._collections.clear()

    def _called(self, method: Callable[..., Any], *arguments: object, **options: object) -> Any:
        """Call the client; its errors become ours."""
        try:
            return method(*arguments, **options)
        except httpx.TransportError as error:
            raise Unavailable(f"{self.label}: {error}", retry_after=1.0) from error
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


def _metadata(metadata: Any, document: str | None, id_: str) -> dict[str, Any]:
    properties = dict(metadata or {})
    if document is not None:
        if DOCUMENT in properties:
            raise InvalidInput(
                f"record {id_!r} has a document and a property {DOCUMENT!r}: both cannot be kept"
            )
        properties[DOCUMENT] = document
    return properties
