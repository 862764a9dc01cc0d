"""Qdrant: a server's URL, or a folder of the client's local mode.

A point's id is written as text; its payload is the metadata. Payload indexes of keywords, numbers
and booleans become metadata indexes. Qdrant keeps vectors of cosine collections at length 1, so
they come like that. Of several named vectors of a point the first by name is taken.

As a destination it takes an id that is an integer or a UUID as it is. Of any other the UUID that it
always leads to is the point's, and the id itself is in the payload, as a namespace is.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from vicinal.errors import InvalidInput, Unavailable
from vicinal.model import IndexConfig, IndexType, MetadataIndex, Metric, VectorBatch
from vicinal.moving.base import ExistingIndex
from vicinal.moving.foreign import (
    ForeignCollection,
    ForeignPage,
    ForeignRecord,
    checked_dimensions,
    first_of,
    import_client,
    metric_of,
    without_secret,
)
from vicinal.moving.writing import ID, NAMESPACE, NOTE, CollectionNote, document_of, with_ours

_METRICS = {
    "Cosine": Metric.COSINE,
    "Euclid": Metric.EUCLIDEAN,
    "Dot": Metric.DOT_PRODUCT,
}
_TYPES = {
    "keyword": IndexType.STRING,
    "uuid": IndexType.STRING,
    "integer": IndexType.NUMBER,
    "float": IndexType.NUMBER,
    "bool": IndexType.BOOLEAN,
}


_WRITTEN_TYPES = {
    IndexType.STRING: "keyword", IndexType.NUMBER: "float", IndexType.BOOLEAN: "bool",
}  # fmt: skip
_SPELLINGS = {metric: spelling for spelling, metric in _METRICS.items()}
_NUMBERS_PER_CALL = 500_000  # ours: about 10 MB of JSON; a server takes 32
_INTEGER_MAX = (1 << 64) - 1
_IDS = uuid.UUID("6a1d6f0c-6f0b-5c53-9b6e-0d3f1f6d2b11")  # ours: of UUIDs made of ids


class QdrantClient:
    """Implements `moving.foreign.ForeignClient` and `moving.writing.ForeignWriter`.

    Args:
        location: A URL, or the folder of a local database.
        key: For the server.
    """

    def __init__(self, location: str, key: str) -> None:
        self._module = import_client("qdrant_client", "qdrant")
        self.label = f"qdrant:{without_secret(location)}"
        self._is_server = "://" in location
        if self._is_server:
            self._client = self._module.QdrantClient(url=location, api_key=key, timeout=120)
        else:
            self._client = self._module.QdrantClient(path=location)

    def names(self) -> Sequence[str]:
        """See `moving.foreign.ForeignClient`."""
        collections = self._called("get_collections").collections
        return [collection.name for collection in collections]

    def describe(self, name: str) -> ForeignCollection:
        """See `moving.foreign.ForeignClient`."""
        info = self._called("get_collection", name)
        params = info.config.params
        chosen, vector, homeless = _vector(params.vectors, name)
        homeless += [f"sparse vector {sparse!r}" for sparse in sorted(params.sparse_vectors or {})]
        if vector.multivector_config is not None:
            raise InvalidInput(f"{name!r} has several vectors in a point for {chosen or 'one'}")
        indexes, complaints = metadata_indexes(info.payload_schema or {})
        kept, surplus = first_of(indexes)
        count = self.count(name)
        config = IndexConfig(
            checked_dimensions(vector.size, name), metric_of(vector.distance.value, _METRICS, name)
        )
        note = _note(info)
        if note is not None and not kept:
            kept = note.indexes
        return ForeignCollection(
            config if note is None else note.config, count, f"{count} points", kept,
            homeless + complaints + surplus, None if note is None else note.description,
        )  # fmt: skip

    def page(self, name: str, cursor: str | None, count: int) -> ForeignPage:
        """See `moving.foreign.ForeignClient`."""
        info = self._called("get_collection", name)
        chosen, _, _ = _vector(info.config.params.vectors, name)
        points, following = self._called(
            "scroll",
            name,
            limit=count,
            offset=None if cursor is None else msgspec.json.decode(cursor),
            with_payload=True,
            with_vectors=True if chosen is None else [chosen],
        )
        is_ours = _note(info) is not None
        records = [_record(point, chosen, name, is_ours=is_ours) for point in points]
        encoded = None if following is None else msgspec.json.encode(following).decode()
        return ForeignPage(records, encoded)

    def check_name(self, name: str) -> None:
        """See `moving.writing.ForeignWriter`: all names of indexes will do."""

    def existing(self, name: str) -> ExistingIndex | None:
        """See `moving.writing.ForeignWriter`."""
        if not self._called("collection_exists", name):
            return None
        info = self._called("get_collection", name)
        note = _note(info)
        _, vector, others = _vector(info.config.params.vectors, name)
        if others:
            raise InvalidInput(f"{name!r} in {self.label} has several vectors in a point")
        return ExistingIndex(
            note.id if note is not None else f"collection {name}", vector.size,
            metric_of(vector.distance.value, _METRICS, name).value, self.count(name),
        )  # fmt: skip

    def create(self, name: str, note: CollectionNote) -> None:
        """See `moving.writing.ForeignWriter`."""
        models = self._module.models
        vectors = models.VectorParams(
            size=note.dimensions, distance=models.Distance(_SPELLINGS[note.metric])
        )
        self._called("create_collection", name, vectors_config=vectors, metadata={NOTE: note.text})

    def delete(self, name: str) -> None:
        """See `moving.writing.ForeignWriter`."""
        self._called("delete_collection", name)

    def upsert(self, name: str, batch: VectorBatch) -> None:
        """See `moving.writing.ForeignWriter`."""
        models = self._module.models
        step = max(1, _NUMBERS_PER_CALL // batch.values.shape[1])
        for start in range(0, len(batch), step):
            rows = range(start, min(start + step, len(batch)))
            points = [
                models.PointStruct(
                    id=point_id(batch.ids[row]),
                    vector=batch.values[row].tolist(),
                    payload=_payload(batch, row),
                )
                for row in rows
            ]
            self._called("upsert", name, points=points, wait=True)

    def create_metadata_index(self, name: str, metadata_index: MetadataIndex) -> None:
        """See `moving.writing.ForeignWriter`; a local database has none, but keeps the wish."""
        note = _note(self._called("get_collection", name))
        if note is not None:
            changed = {NOTE: note.with_index(metadata_index).text}
            self._called("update_collection", name, metadata=changed)
        if self._is_server:
            schema = _WRITTEN_TYPES[metadata_index.index_type]
            self._called("create_payload_index", name, metadata_index.property_name, schema)

    def count(self, name: str) -> int:
        """See `moving.writing.ForeignWriter`."""
        return int(self._called("count", name, exact=True).count)

    def close(self) -> None:
        """See `moving.foreign.ForeignClient`."""
        self._client.close()

    def _called(self, method: str, *arguments: object, **options: object) -> Any:
        """Call the client; its errors of many kinds become ours."""
        try:
            return getattr(self._client, method)(*arguments, **options)
        except self._module.http.exceptions.ResponseHandlingException as error:
            raise Unavailable(f"{self.label}: {error}", retry_after=1.0) from error
        except self._module.http.exceptions.UnexpectedResponse as error:
            is_passing = error.status_code in (429, 500, 502, 503, 504)
            if is_passing:
                raise Unavailable(f"{self.label}: {error}", retry_after=1.0) from error
            raise InvalidInput(f"{self.label}: {error}") from error
        except ValueError as error:  # the local mode's for what a server answers with 4xx
            raise InvalidInput(f"{self.label}: {error}") from error


def point_id(vector_id: str) -> int | str:
    """Return the id of the point for a vector: its own where a point can have it."""
    if vector_id.isdecimal() and len(vector_id) <= 20 and vector_id.isascii():
        number = int(vector_id)
        if number <= _INTEGER_MAX and str(number) == vector_id:
            return number
    try:
        if str(uuid.UUID(vector_id)) == vector_id:
            return vector_id
    except ValueError:
        pass
    return str(uuid.uuid5(_IDS, vector_id))


def _payload(batch: VectorBatch, row: int) -> dict[str, Any]:
    ours: dict[str, Any] = {}
    vector_id = batch.ids[row]
    if str(point_id(vector_id)) != vector_id:
        ours[ID] = vector_id
    if batch.namespaces[row]:
        ours[NAMESPACE] = batch.namespaces[row]
    return with_ours(document_of(batch.metadata[row]), ours, vector_id)


def _note(info: Any) -> CollectionNote | None:
    return CollectionNote.in_text((getattr(info.config, "metadata", None) or {}).get(NOTE))


def _vector(vectors: Any, name: str) -> tuple[str | None, Any, list[str]]:
    """Return the name of the vector to take, its parameters, and complaints about the others."""
    if not isinstance(vectors, Mapping):
        if vectors is None:
            raise InvalidInput(f"{name!r} has no dense vectors")
        return None, vectors, []
    if not vectors:
        raise InvalidInput(f"{name!r} has no dense vectors")
    chosen, *others = sorted(vectors)
    return chosen, vectors[chosen], [f"named vector {other!r}" for other in others]


def _record(point: Any, chosen: str | None, name: str, *, is_ours: bool) -> ForeignRecord:
    vector = point.vector if chosen is None else (point.vector or {}).get(chosen)
    if vector is None:
        raise InvalidInput(f"point {point.id} of {name!r} has no vector {chosen or ''}".rstrip())
    properties = dict(point.payload or {})
    if not is_ours:
        return ForeignRecord(str(point.id), vector, properties)
    vector_id, namespace = properties.pop(ID, str(point.id)), properties.pop(NAMESPACE, "")
    return ForeignRecord(vector_id, vector, properties, namespace)


def metadata_indexes(schema: Mapping[str, Any]) -> tuple[list[MetadataIndex], list[str]]:
    """Return the metadata indexes for payload indexes, and complaints about those without."""
    indexes: list[MetadataIndex] = []
    complaints: list[str] = []
    for property_name, info in sorted(schema.items()):
        index_type = _TYPES.get(info.data_type.value)
        if index_type is None:
            complaints.append(f"the {info.data_type.value} index of {property_name!r}")
        else:
            indexes.append(MetadataIndex(property_name, index_type))
    return indexes, complaints
