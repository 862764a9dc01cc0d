"""Pinecone as a source, by its HTTP API, which needs no client of it.

Every namespace of an index is read, the default one last; they become namespaces of the vectors.
Ids of an index are unique over its namespaces: of an id in two the later vector stays, and the
counts at the end differ, which is an error. Only indexes that can list their ids (serverless ones)
can be read, and there is no snapshot.
"""

from collections.abc import Sequence
from typing import Any

import httpx
import msgspec

from vicinal import trust
from vicinal.errors import Forbidden, InvalidInput, Unavailable, reason_of
from vicinal.model import IndexConfig, Metric
from vicinal.moving.foreign import (
    ForeignCollection,
    ForeignPage,
    ForeignRecord,
    checked_dimensions,
    metric_of,
)
from vicinal.moving.patience import patiently

CONTROL_URL = "https://api.pinecone.io"
_VERSION = "2025-04"
_LIST_IDS = 100  # the most that one listing returns, and one fetch takes in a URL
_METRICS = {
    "cosine": Metric.COSINE,
    "euclidean": Metric.EUCLIDEAN,
    "dotproduct": Metric.DOT_PRODUCT,
}
_RETRY_STATUSES = (429, 500, 502, 503, 504)


class _IndexDescription(msgspec.Struct):
    name: str
    metric: str
    host: str
    dimension: int | None = None
    vector_type: str = "dense"


class _IndexNames(msgspec.Struct):
    indexes: list[_IndexDescription]


class _NamespaceStats(msgspec.Struct):
    count: int = msgspec.field(default=0, name="vectorCount")


class _Stats(msgspec.Struct):
    namespaces: dict[str, _NamespaceStats] = {}
    count: int = msgspec.field(default=0, name="totalVectorCount")


class _ListedId(msgspec.Struct):
    id: str


class _Pagination(msgspec.Struct):
    next: str | None = None


class _Listed(msgspec.Struct):
    vectors: list[_ListedId] = []
    pagination: _Pagination | None = None


class _Vector(msgspec.Struct):
    id: str
    values: list[float] = []
    metadata: dict[str, Any] | None = None
    sparse: dict[str, Any] | None = msgspec.field(default=None, name="sparseValues")


class _Fetched(msgspec.Struct):
    vectors: dict[str, _Vector] = {}


class _NamespacePosition(msgspec.Struct, array_like=True, frozen=True):
    """A cursor: which namespace, and the token of its next page."""

    namespace: str
    token: str | None


class PineconeClient:
    """Implements `moving.foreign.ForeignClient`.

    Args:
        location: The URL of the API that lists indexes; `CONTROL_URL` if empty.
        key: Of the project.
    """

    def __init__(self, location: str, key: str) -> None:
        self._url = location.rstrip("/") or CONTROL_URL
        self.label = f"pinecone:{self._url}"
        self._http = httpx.Client(
            headers={"api-key": key, "x-pinecone-api-version": _VERSION},
            timeout=120.0,
            verify=trust.verification(None),
        )
        self._indexes: dict[str, _IndexDescription] = {}
        self._namespaces: dict[str, list[str]] = {}

    def names(self) -> Sequence[str]:
        """See `moving.foreign.ForeignClient`."""
        listed = self._get(f"{self._url}/indexes", {}, _IndexNames)
        self._indexes = {index.name: index for index in listed.indexes}
        return list(self._indexes)

    def describe(self, name: str) -> ForeignCollection:
        """See `moving.foreign.ForeignClient`."""
        if name not in self._indexes:
            self.names()
        index = self._indexes[name]
        if index.vector_type != "dense" or index.dimension is None:
            raise InvalidInput(f"{name!r} has {index.vector_type} vectors")
        stats = self._get(f"{self._host(name)}/describe_index_stats", {}, _Stats)
        # The default namespace is the empty one, and last.
        self._namespaces[name] = sorted(
            stats.namespaces, key=lambda namespace: (not namespace, namespace)
        )
        counts = sorted((key, part.count) for key, part in stats.namespaces.items())
        return ForeignCollection(
            IndexConfig(
                checked_dimensions(index.dimension, name), metric_of(index.metric, _METRICS, name)
            ),
            stats.count,
            f"{index.host} with {counts}",
        )

    def page(self, name: str, cursor: str | None, count: int) -> ForeignPage:
        """See `moving.foreign.ForeignClient`; a page is of one namespace."""
        namespaces = self._namespaces[name]
        if not namespaces:
            return ForeignPage((), None)
        position = _NamespacePosition(namespaces[0], None)
        if cursor is not None:
            position = msgspec.json.decode(cursor, type=_NamespacePosition)
        parameters: list[tuple[str, str]] = [
            ("namespace", position.namespace),
            ("limit", str(min(count, _LIST_IDS))),
        ]
        if position.token is not None:
            parameters.append(("paginationToken", position.token))
        listed = self._get(f"{self._host(name)}/vectors/list", parameters, _Listed)
        records = self._records(name, position.namespace, [row.id for row in listed.vectors])
        return ForeignPage(records, self._following(position, listed, namespaces))

    def close(self) -> None:
        """See `moving.foreign.ForeignClient`."""
        self._http.close()

    def _records(self, name: str, namespace: str, ids: Sequence[str]) -> list[ForeignRecord]:
        if not ids:
            return []
        parameters = [("namespace", namespace), *(("ids", id_) for id_ in ids)]
        fetched = self._get(f"{self._host(name)}/vectors/fetch", parameters, _Fetched)
        vectors = [fetched.vectors[id_] for id_ in ids if id_ in fetched.vectors]
        for vector in vectors:
            if vector.sparse:
                raise InvalidInput(f"{vector.id!r} of {name!r} has sparse values, too")
        return [
            ForeignRecord(vector.id, vector.values, vector.metadata or {}, namespace)
            for vector in vectors
        ]

    @staticmethod
    def _following(
        position: _NamespacePosition, listed: _Listed, namespaces: Sequence[str]
    ) -> str | None:
        token = None if listed.pagination is None else listed.pagination.next
        if token:
            return msgspec.json.encode(_NamespacePosition(position.namespace, token)).decode()
        number = namespaces.index(position.namespace) + 1
        if number == len(namespaces):
            return None
        return msgspec.json.encode(_NamespacePosition(namespaces[number], None)).decode()

    def _host(self, name: str) -> str:
        host = self._indexes[name].host
        return host if "://" in host else f"https://{host}"

    def _get(self, url: str, parameters: Any, shape: type[Any]) -> Any:
        return patiently(lambda: self._got(url, parameters, shape))

    def _got(self, url: str, parameters: Any, shape: type[Any]) -> Any:
        try:
            response = self._http.get(url, params=parameters)
        except httpx.TransportError as error:
            problem = f"no answer from {url}: {reason_of(error)}"
            raise Unavailable(problem, retry_after=1.0) from error
        text = f"{url} answered HTTP {response.status_code}: {response.text[:500]}"
        if response.status_code in _RETRY_STATUSES:
            after = response.headers.get("retry-after", "")
            raise Unavailable(text, retry_after=float(after) if after.isdecimal() else 1.0)
        if response.status_code in (401, 403):
            raise Forbidden(f"{text}; is the key good?")
        if not response.is_success:
            raise InvalidInput(text)
        try:
            return msgspec.json.decode(response.content, type=shape)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{url} does not answer as this API does: {error}") from error
