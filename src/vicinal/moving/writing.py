"""Other products as destinations: one adapter, and for every product a writer.

Nothing of a vector is lost: an id, a namespace or metadata that a product has no type for is kept
under a property of ours (`ID`, `NAMESPACE`, `METADATA`). A collection that is made here has a note
(`CollectionNote`) with what else an index is, by which `foreign` reads it back as it was.

A product has no accounts: an index's collection has its name.
"""

import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import msgspec

from vicinal.errors import IndexNotFound, InvalidInput
from vicinal.model import (
    CreateMetadataIndex,
    Effort,
    IndexAddress,
    IndexConfig,
    IndexType,
    MetadataIndex,
    Metric,
    Upsert,
    VectorBatch,
)
from vicinal.moving.base import ExistingIndex, SourceIndex
from vicinal.tokens import TokenStore

ID = "_id"
NAMESPACE = "_namespace"
METADATA = "_metadata"
NOTE = "vicinal"
"""The name under which a collection's note is kept."""


class CollectionNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """The settings of an index whose copy a collection is.

    Attributes:
        id: Text that no other collection has.
        dimensions: The length of its vectors.
        metric: As `model.Metric` spells it.
        metadata_indexes: The properties that have a metadata index, and its type.
    """

    id: str
    dimensions: int
    metric: Metric
    preset: str | None = None
    effort: Effort = Effort.STANDARD
    model: str | None = None
    description: str | None = None
    metadata_indexes: tuple[tuple[str, IndexType], ...] = ()

    @classmethod
    def of(cls, index: SourceIndex) -> "CollectionNote":
        """Return a new note for a copy of an index."""
        config = index.config
        return cls(
            str(uuid.uuid4()), config.dimensions, config.metric, config.preset, config.effort,
            config.model, index.description,
        )  # fmt: skip

    @classmethod
    def in_text(cls, text: object) -> "CollectionNote | None":
        """Return the note in a text; None where it is none."""
        if not isinstance(text, str):
            return None
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, UnicodeEncodeError):
            return None

    @property
    def text(self) -> str:
        """The note as text."""
        return msgspec.json.encode(self).decode()

    @property
    def indexes(self) -> Sequence[MetadataIndex]:
        """The metadata indexes."""
        return [MetadataIndex(name, kind) for name, kind in self.metadata_indexes]

    def with_index(self, metadata_index: MetadataIndex) -> "CollectionNote":
        """Return the note with a metadata index more, if it has it not yet."""
        added = (metadata_index.property_name, metadata_index.index_type)
        kept = tuple(index for index in self.metadata_indexes if index[0] != added[0])
        return msgspec.structs.replace(self, metadata_indexes=(*kept, added))

    @property
    def config(self) -> IndexConfig:
        """The settings of the index."""
        return IndexConfig(self.dimensions, self.metric, self.preset, self.effort, self.model)


class ForeignWriter(Protocol):
    """A writer of another product.

    Raises:
        Unavailable: it cannot be reached; it is tried again when the error says when.
        InvalidInput: it refuses; the message says what.
    """

    label: str

    def check_name(self, name: str) -> None:
        """Refuse a name that no collection can have."""
        ...

    def existing(self, name: str) -> ExistingIndex | None:
        """Return what is known of a collection, None where there is none."""
        ...

    def create(self, name: str, note: CollectionNote) -> None:
        """Make an empty collection."""
        ...

    def delete(self, name: str) -> None:
        """Delete a collection."""
        ...

    def upsert(self, name: str, batch: VectorBatch) -> None:
        """Make vectors durable, in the place of those with the same ids."""
        ...

    def create_metadata_index(self, name: str, metadata_index: MetadataIndex) -> None:
        """Have filters by a property be fast, where the product has a way; again does nothing."""
        ...

    def count(self, name: str) -> int:
        """Return the number of vectors."""
        ...

    def close(self) -> None:
        """Release what is open."""
        ...


class ForeignDestination:
    """The collections of another product. Implements `moving.base.DestinationStore`.

    Args:
        writer: Closed by `close`.
        label: Its name in messages; None for that of the writer.
        opened: Closed after the writer.
    """

    tokens: TokenStore | None = None

    def __init__(self, writer: ForeignWriter, label: str | None, opened: ExitStack) -> None:
        self.label = label or writer.label
        self.identity = self.label
        self._writer = writer
        self._opened = opened
        self._accounts: dict[str, str] = {}  # of the indexes that want a name

    def existing(self, address: IndexAddress) -> ExistingIndex | None:
        """See `moving.base.DestinationStore`.

        Raises:
            InvalidInput: no collection can have the name, or two accounts have an index of it.
        """
        self._writer.check_name(address.name)
        account = self._accounts.setdefault(address.name, address.account)
        if account != address.account:
            raise InvalidInput(
                f"the accounts {account} and {address.account} both have an index "
                f"{address.name!r}, and {self.label} has no accounts; --account chooses one"
            )
        return self._writer.existing(address.name)

    def homeless(self, index: SourceIndex) -> Sequence[str]:
        """See `moving.base.DestinationStore`: what a product lacks is kept beside the rest."""
        return ()

    def create(self, address: IndexAddress, index: SourceIndex) -> str:
        """See `moving.base.DestinationStore`."""
        note = CollectionNote.of(index)
        self._writer.create(address.name, note)
        made = self._writer.existing(address.name)
        if made is None:
            raise IndexNotFound(address.name)
        return made.id

    def delete(self, address: IndexAddress) -> None:
        """See `moving.base.DestinationStore`."""
        self._writer.delete(address.name)

    def write(self, address: IndexAddress, mutation: Upsert | CreateMetadataIndex) -> None:
        """See `moving.base.DestinationStore`."""
        if isinstance(mutation, CreateMetadataIndex):
            self._writer.create_metadata_index(address.name, mutation.metadata_index)
        else:
            self._writer.upsert(address.name, mutation.batch)

    def settled_count(self, address: IndexAddress) -> int:
        """See `moving.base.DestinationStore`."""
        return self._writer.count(address.name)

    def close(self) -> None:
        """See `moving.base.DestinationStore`."""
        self._writer.close()
        self._opened.close()


def document_of(metadata: bytes) -> dict[str, Any]:
    """Return metadata as an object; an empty one where there is none."""
    document: dict[str, Any] = msgspec.json.decode(metadata) if metadata else {}
    return document


def with_ours(document: dict[str, Any], ours: dict[str, Any], vector_id: str) -> dict[str, Any]:
    """Return metadata with properties of ours beside its own.

    Raises:
        InvalidInput: it has a property of such a name itself.
    """
    for name in ours:
        if name in document:
            raise InvalidInput(
                f"vector {vector_id!r} has a property {name!r}, the name under which its own id, "
                "namespace or metadata would be kept"
            )
    return document | ours
