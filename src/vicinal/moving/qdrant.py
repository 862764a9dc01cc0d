"""Qdrant as a source: a server's URL, or a folder of the client's local mode.

A point's id is written as text; its payload is the metadata. Payload indexes of keywords, numbers
and booleans become metadata indexes. Qdrant keeps vectors of cosine collections at length 1, so
they come like that. Of several named vectors of a point the first by name is taken.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from vicinal.errors import InvalidInput, Unavailable
from vicinal.model import IndexConfig, IndexType, MetadataIndex, Metric
from vicinal.moving.foreign import (
    ForeignCollection,
    ForeignPage,
    ForeignRecord,
    checked_dimensions,
    first_of,
    import_client,
    metric_of,
)

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


class QdrantClient:
    """Implements `moving.foreign.ForeignClient`.

    Args:
        location: A URL, or the folder of a local database.
        key: For the server.
    """

    def __init__(self, location: str, key: str) -> None:
        self._module = import_client("qdrant_client", "qdrant")
        self.label = f"qdrant:{location}"
        if "://" in location:
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
        count = self._called("count", name, exact=True).count
        config = IndexConfig(
            checked_dimensions(vector.size, name), metric_of(vector.distance.value, _METRICS, name)
        )
        moment = f"{count} points"
        return ForeignCollection(config, count, moment, kept, homeless + complaints + surplus)

    def page(self, name: str, cursor: str | None, count: int) -> ForeignPage:
        """See `moving.foreign.ForeignClient`."""
        params = self._called("get_collection", name).config.params
        chosen, _, _ = _vector(params.vectors, name)
        points, following = self._called(
            "scroll",
            name,
            limit=count,
            offset=None if cursor is None else msgspec.json.decode(cursor),
            with_payload=True,
            with_vectors=True if chosen is None else [chosen],
        )
        records = [_record(point, chosen, name) for point in points]
        encoded = None if following is None else msgspec.json.encode(following).decode()
        return ForeignPage(records, encoded)

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


def _record(point: Any, chosen: str | None, name: str) -> ForeignRecord:
    vector = point.vector if chosen is None else (point.vector or {}).get(chosen)
    if vector is None:
        raise InvalidInput(f"point {point.id} of {name!r} has no vector {chosen or ''}".rstrip())
    return ForeignRecord(str(point.id), vector, point.payload or {})


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
