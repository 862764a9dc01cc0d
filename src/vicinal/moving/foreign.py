"""Other products as sources: one adapter, and for every product a client that reads pages of it.

A client (`ForeignClient`) tells collections, what of them has no home in a Vectorize index, and
pages of records. The adapter turns a page into a batch by the reader of request bodies, so that all
rules on ids and metadata hold for it.

These stores have no snapshots, but where their module says so. A collection is read page by page;
its moment is text that changes with it, so that an interrupted copy is begun anew when it has
changed.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import msgspec
import numpy as np

from vicinal.engine.contents import Contents, rows_at_once
from vicinal.errors import InvalidInput
from vicinal.limits import PROFILES
from vicinal.model import (
    CreateMetadataIndex,
    Floats,
    IndexAddress,
    IndexConfig,
    MetadataIndex,
    Metric,
    Upsert,
    VectorBatch,
)
from vicinal.moving.base import SourceIndex
from vicinal.tokens import TokenStore
from vicinal.wire import documents, vectors

_LIMITS = PROFILES["open"]
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class ForeignRecord:
    """A record of another product as a vector; `values` is of any kind of numbers."""

    id: str
    values: Sequence[float] | Floats
    metadata: Mapping[str, Any]
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class ForeignPage:
    """Records, and the cursor of the next page, None at the end."""

    records: Sequence[ForeignRecord]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class ForeignCollection:
    """A collection of another product.

    Attributes:
        config: The settings that an index of it has.
        vector_count: Number of its records.
        moment: Text that changes when it does, as far as that can be told.
        metadata_indexes: Its own indexes of fields, as an index has them.
        homeless: Things of it that a Vectorize index cannot have, each the end of a sentence.
        description: The description of the index whose copy it is.
    """

    config: IndexConfig
    vector_count: int
    moment: str
    metadata_indexes: Sequence[MetadataIndex] = ()
    homeless: Sequence[str] = ()
    description: str | None = None


class ForeignClient(Protocol):
    """A reader of another product.

    Raises:
        Unavailable: it cannot be reached; it is tried again when the error says when.
        InvalidInput: a collection cannot be an index at all.
    """

    label: str

    def names(self) -> Sequence[str]:
        """Return the names of the collections."""
        ...

    def describe(self, name: str) -> ForeignCollection:
        """Return what is known of a collection."""
        ...

    def page(self, name: str, cursor: str | None, count: int) -> ForeignPage:
        """Return at most `count` records after a cursor; None is the beginning."""
        ...

    def close(self) -> None:
        """Release what is open."""
        ...


class _Position(msgspec.Struct, array_like=True, frozen=True):
    """A cursor of `ForeignContents`; a product's cursor of None is its end."""

    cursor: str | None


class ForeignContents:
    """The contents of a collection. Implements `engine.contents.Contents`."""

    def __init__(self, client: ForeignClient, name: str, cursor: str | None) -> None:
        self._client = client
        self._name = name
        self._collection = client.describe(name)
        self._start = None if cursor is None else msgspec.json.decode(cursor, type=_Position)
        self.moment = self._collection.moment
        self.vector_count = self._collection.vector_count

    def mutations(self) -> Iterator[tuple[Upsert | CreateMetadataIndex, str | None]]:
        """See `engine.contents.Contents`."""
        for metadata_index in self._collection.metadata_indexes:
            yield CreateMetadataIndex(metadata_index), None
        if self._start is not None and self._start.cursor is None:
            return
        dimensions = self._collection.config.dimensions
        cursor = None if self._start is None else self._start.cursor
        while True:
            page = self._client.page(self._name, cursor, rows_at_once(dimensions))
            cursor = page.cursor
            if page.records:
                position = msgspec.json.encode(_Position(cursor)).decode()
                yield Upsert(batch_of(page.records, dimensions)), position
            if cursor is None:
                return


class ForeignStore:
    """The collections of another product. Implements `moving.base.SourceStore`.

    Args:
        client: Closed by `close`.
        account: Of all its indexes.
    """

    promise = "as its records are when they are read, page by page"
    tokens: TokenStore | None = None

    def __init__(self, client: ForeignClient, account: str) -> None:
        self.label = client.label
        self.identity = client.label
        self._client = client
        self._account = account

    def addresses(self, accounts: Sequence[str]) -> Sequence[IndexAddress]:
        """See `moving.base.SourceStore`."""
        return [IndexAddress(self._account, name) for name in sorted(self._client.names())]

    def describe(self, address: IndexAddress) -> SourceIndex:
        """See `moving.base.SourceStore`.

        Raises:
            InvalidInput: the collection cannot be an index at all.
        """
        if not _NAME.fullmatch(address.name):
            raise InvalidInput(
                f"{address.name!r} cannot be the name of an index, which is of 1 to 64 letters, "
                "digits, '_' and '-'"
            )
        collection = self._client.describe(address.name)
        return SourceIndex(
            address,
            collection.config,
            collection.description,
            collection.vector_count,
            collection.homeless,
        )

    @contextmanager
    def contents(self, address: IndexAddress, cursor: str | None) -> Iterator[Contents]:
        """See `moving.base.SourceStore`."""
        yield ForeignContents(self._client, address.name, cursor)

    def left_behind(self) -> Sequence[str]:
        """See `moving.base.SourceStore`."""
        return ()

    def close(self) -> None:
        """See `moving.base.SourceStore`."""
        self._client.close()


def metric_of(spelling: str, metrics: Mapping[str, Metric], name: str) -> Metric:
    """Return the metric that a product spells so.

    Raises:
        InvalidInput: a Vectorize index has none like it.
    """
    metric = metrics.get(spelling)
    if metric is None:
        raise InvalidInput(f"{name!r} has the metric {spelling}, which no index has")
    return metric


def checked_dimensions(dimensions: int, name: str) -> int:
    """Return a number of dimensions that an index may have.

    Raises:
        InvalidInput: none may have this.
    """
    if not 1 <= dimensions <= _LIMITS.dimensions_max:
        raise InvalidInput(
            f"{name!r} has {dimensions} dimensions, an index has 1 to {_LIMITS.dimensions_max}"
        )
    return dimensions


def first_of(
    metadata_indexes: Sequence[MetadataIndex],
) -> tuple[Sequence[MetadataIndex], list[str]]:
    """Return the metadata indexes that one index may have, and complaints about the others."""
    kept = metadata_indexes[: _LIMITS.metadata_indexes_max]
    others = metadata_indexes[_LIMITS.metadata_indexes_max :]
    return kept, [
        f"the index of {other.property_name!r}, as an index has at most "
        f"{_LIMITS.metadata_indexes_max} metadata indexes"
        for other in others
    ]


def homeless_columns(columns: Sequence[tuple[str, str | None]]) -> list[str]:
    """Return what of the columns of a table can be no property, each the end of a sentence.

    Args:
        columns: The name of every column, and its type if values of that are no JSON.
    """
    things = [f"column {name!r} of type {kind}" for name, kind in columns if kind is not None]
    rules = [(name, documents.broken_key_rule(name)) for name, kind in columns if kind is None]
    return things + [f"column {name!r}, as {rule}" for name, rule in rules if rule is not None]


def import_client(module: str, extra: str) -> Any:
    """Import the client of a product.

    Raises:
        InvalidInput: it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise InvalidInput(
            f"{extra} needs {module}; install it with: pip install 'vicinal[{extra}]'"
        ) from error


def without_secret(location: str) -> str:
    """Return a URL without user, password and parameters; a folder as it is."""
    scheme, separator, rest = location.partition("://")
    if not separator:
        return location
    before = re.split("[?#]", rest, maxsplit=1)[0]
    if "@" in rest and "@" not in before:  # in a parameter, or behind a password's question mark
        return f"{scheme}://..."
    return f"{scheme}://{before.rpartition('@')[2]}"


def _as_json(value: Any, record_id: str) -> Any:
    """Return metadata as JSON has it: a member that is NaN is missing.

    Raises:
        InvalidInput: a number has no form in JSON.
    """
    match value:
        case float() if not math.isfinite(value):
            raise InvalidInput(
                f"the metadata of {record_id!r} has {value}, which has no form in JSON"
            )
        case Mapping():
            return {
                name: _as_json(member, record_id)
                for name, member in value.items()
                if not (isinstance(member, float) and math.isnan(member))
            }
        case list() | tuple():
            return [_as_json(item, record_id) for item in value]
    return value


def batch_of(records: Sequence[ForeignRecord], dimensions: int) -> VectorBatch:
    """Return records as a batch.

    Raises:
        InvalidInput: one of them cannot be a vector; the message names it.
    """
    lines = [
        msgspec.json.encode(
            {
                "id": record.id,
                "values": np.asarray(record.values, np.float32).tolist(),
                "namespace": record.namespace,
                "metadata": _as_json(record.metadata, record.id) or None,
            }
        )
        for record in records
    ]
    body = b"[" + b",".join(lines) + b"]"
    return vectors.read(body, "application/json", dimensions, _LIMITS)
