"""The seam between the copy and the stores that it reads and writes.

A store holds indexes at addresses. It is a source, a destination or both. All methods raise the
errors of `errors` and nothing else: `Unavailable` is tried again, any other ends the copy of one
index. One thread at a time.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from vicinal.engine.contents import Contents
from vicinal.model import (
    CreateMetadataIndex,
    IndexAddress,
    IndexConfig,
    Upsert,
)
from vicinal.tokens import TokenStore


@dataclass(frozen=True, slots=True)
class SourceIndex:
    """An index to be copied.

    Attributes:
        address: Its address.
        config: Its settings.
        description: Its description.
        vector_count: Number of its vectors at this moment.
        homeless: Things that have no home in a Vectorize index, each the end of a sentence.
    """

    address: IndexAddress
    config: IndexConfig
    description: str | None
    vector_count: int
    homeless: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ExistingIndex:
    """An index that a destination has.

    Attributes:
        id: Text that no other index has, also of those that had or will have its name.
        dimensions: Length of its vectors.
        metric: Its metric, as `model.Metric` spells it.
        vector_count: Number of its vectors.
    """

    id: str
    dimensions: int
    metric: str
    vector_count: int


class SourceStore(Protocol):
    """A store that is read.

    Attributes:
        label: Its name in messages, without a secret.
        identity: Text that is the same only for the same store, without a secret.
        promise: State that a copy of one of its indexes is of, the end of a sentence.
        tokens: Its tokens, if it keeps digests of any.
    """

    label: str
    identity: str
    promise: str
    tokens: TokenStore | None

    def addresses(self, accounts: Sequence[str]) -> Sequence[IndexAddress]:
        """Return the addresses of all indexes of these accounts, none for all accounts."""
        ...

    def describe(self, address: IndexAddress) -> SourceIndex:
        """Return what is to be copied of an index.

        Raises:
            IndexNotFound: there is none at this address.
        """
        ...

    def contents(
        self, address: IndexAddress, cursor: str | None
    ) -> AbstractContextManager[Contents]:
        """See `engine.contents.HasContents`."""
        ...

    def left_behind(self) -> Sequence[str]:
        """Return the names of what this store keeps and no copy takes along."""
        ...

    def close(self) -> None:
        """Release what is open."""
        ...


class DestinationStore(Protocol):
    """A store that is written.

    Attributes:
        label: Its name in messages, without a secret.
        identity: Text that is the same only for the same store, without a secret.
        tokens: Its tokens, if it keeps digests of any.
    """

    label: str
    identity: str
    tokens: TokenStore | None

    def existing(self, address: IndexAddress) -> ExistingIndex | None:
        """Return the index at an address, None if there is none."""
        ...

    def homeless(self, index: SourceIndex) -> Sequence[str]:
        """Return what of an index cannot be had here, a sentence's end for each thing."""
        ...

    def create(self, address: IndexAddress, index: SourceIndex) -> str:
        """Create an empty index like this one at an address; return its id.

        Raises:
            IndexExists: there is one at this address.
        """
        ...

    def delete(self, address: IndexAddress) -> None:
        """Delete the index at an address."""
        ...

    def write(self, address: IndexAddress, mutation: Upsert | CreateMetadataIndex) -> None:
        """Make a mutation durable. The same may come again, and changes nothing then."""
        ...

    def settled_count(self, address: IndexAddress) -> int:
        """Wait until all that was written is counted; return the number of vectors."""
        ...

    def close(self) -> None:
        """Release what is open."""
        ...
