"""The seam between files and the import: readers yield batches of rows.

A reader knows one form of file, and neither indexes nor servers. It yields vectors, or texts that
are to be embedded, in the order of the file, with the place of each row, and the rows that it
refuses, with the rule that they break: nothing is left out in silence. It may begin anywhere that
an earlier batch ended. Memory is bounded by the rows of a batch.

Bounds here are those of the widest profile: a server may refuse more.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np

from vicinal.limits import PROFILES
from vicinal.model import VectorBatch

LIMITS = PROFILES["open"]

USUAL_IDS = ("id", "_id", "ids")
USUAL_VECTORS = ("values", "vector", "embedding", "vectors", "embeddings")
USUAL_NAMESPACES = ("namespace",)
ALL = "*"
"""Of `ColumnNames.metadata`: all columns that are nothing else."""


@dataclass(frozen=True, slots=True)
class ColumnNames:
    """The columns of a table, or members of a record, and their meaning.

    Attributes:
        id: None for the first of `USUAL_IDS` that is there.
        vector: None for the first of `USUAL_VECTORS` that is there. A name with ``*`` is a pattern
            of columns that hold one number each.
        namespace: None for ``namespace``, if it is there.
        metadata: Columns that become metadata, or `ALL`; None for the form's default, which is
            all columns of a table, and no more than ``metadata`` of a record of JSON.
        ignored: Columns that are left out.
        text: Text to embed instead of `vector`; None where there are vectors.
        keeps_text: Whether the text becomes metadata, too.
    """

    id: str | None = None
    vector: str | None = None
    namespace: str | None = None
    metadata: tuple[str, ...] | None = None
    ignored: tuple[str, ...] = ()
    text: str | None = None
    keeps_text: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file at which a batch ends: bytes and lines, or rows, before it."""

    offset: int = 0
    number: int = 0


START = Position()


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that breaks a rule.

    Attributes:
        location: Where it is in its file, like ``line 7``.
        rule: The reason, with field, value and bound.
        record: The row as JSON: what was read of it.
        id: None when it is not known.
    """

    location: str
    rule: str
    record: bytes
    id: str | None = None

    @property
    def complaint(self) -> str:
        """Place, id and rule as a sentence."""
        named = "" if self.id is None else f"id {shown(self.id)}, "
        return f"{self.location}: {named}{self.rule}"


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows of a file in order.

    Attributes:
        vectors: The good rows. Of texts the values have no dimensions.
        texts: One for every good row; empty where there are vectors.
        places: Where each good row is.
        rejected: The other rows.
        end: Where the next batch begins.
        fraction: How much of the file has been read, from 0 to 1.
        documents: By path of each document that ends in this batch, the number of its chunks.
        left_out: Columns of a table, or members of records, that are not kept as nobody named them.
    """

    vectors: VectorBatch
    texts: Sequence[str]
    places: "Places"
    rejected: tuple[RejectedRow, ...]
    end: Position
    fraction: float
    documents: tuple[tuple[str, int], ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def row_count(self) -> int:
        return len(self.vectors) + len(self.rejected)


class Places(Protocol):
    """The places of rows, made into words only for a message."""

    def __getitem__(self, row: int, /) -> str: ...
    def span(self) -> str:
        """Return the words for all of them, like ``lines 1 to 7``."""
        ...


@dataclass(frozen=True, slots=True)
class NumberedPlaces:
    """Places that are a number of a unit, like ``line``; numbers count from 1."""

    unit: str
    numbers: Sequence[int]

    def __getitem__(self, row: int, /) -> str:
        return f"{self.unit} {self.numbers[row]}"

    def span(self) -> str:
        """See `Places`."""
        return f"{self.unit}s {self.numbers[0]} to {self.numbers[-1]}"


@dataclass(frozen=True, slots=True)
class NamedPlaces:
    """Places with names of their own."""

    names: Sequence[str]

    def __getitem__(self, row: int, /) -> str:
        return self.names[row]

    def span(self) -> str:
        """See `Places`."""
        return f"{self.names[0]} to {self.names[-1]}"


class FileReader(Protocol):
    """A reader of one file."""

    unit: str
    """The unit that `Position.number` counts, like ``line``."""

    def batches(self, start: Position, rows_max: int) -> Iterator[RowBatch]:
        """Yield the rest of the file in batches of at most `rows_max` rows, bad ones included.

        Raises:
            BadFile: the file is not of this form, or ends too early. Batches before are good.
        """
        ...


def shown(text: str) -> str:
    """Return a text quoted for a message, cut where it is long."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def as_record(value: object) -> bytes:
    """Return what was read of a row as JSON; text where it has no form in JSON."""
    try:
        return msgspec.json.encode(_recorded(value), enc_hook=str)
    except (TypeError, ValueError, UnicodeEncodeError, OverflowError):
        return msgspec.json.encode(ascii(value))


def as_written(text: bytes) -> bytes:
    """Return a record of JSON as it was written, on one line; empty where it is no JSON."""
    try:
        raw = msgspec.json.decode(text, type=msgspec.Raw)
        return msgspec.json.format(bytes(raw), indent=-1)
    except (msgspec.MsgspecError, RecursionError):
        return b""


def _recorded(value: object) -> object:
    """Return what was read with every number in it as JSON has it; NaN and infinities by name."""
    match value:
        case float() if not math.isfinite(value):
            return json.dumps(value)
        case np.generic() | np.ndarray():
            return _recorded(value.tolist())
        case Mapping():
            return {str(key): _recorded(item) for key, item in value.items()}
        case list() | tuple():
            return [_recorded(item) for item in value]
    return value
