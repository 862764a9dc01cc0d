"""The copy of indexes from one store to another.

Everything that can be refused is refused before anything is written (`Copy.plan`). Then one index
after the other is made, filled in the order of its contents, and counted. The journal keeps how far
a run has come, so that another run goes on:

* A batch is in the journal once the destination has it. One that was cut off comes again, and
  replaces itself.
* An index whose source is in another state than the part that was copied is begun anew: its
  unfinished copy is deleted. If the destination has more than was written, somebody else writes
  there, and it is refused.
* An index that was there before the copy began is written to only when it is empty, or by leave
  (`Choice.into`); it is never deleted.

A source or destination that is away is tried again for `patience.PATIENCE_S`. Any other
error of an index ends the copy of that one alone.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial

from vicinal.engine.contents import BATCH_ROWS, Contents
from vicinal.errors import (
    BadCursor,
    Corruption,
    Error,
    IndexExists,
    IndexNotFound,
    InvalidInput,
    Unavailable,
)
from vicinal.model import CreateMetadataIndex, IndexAddress, Upsert
from vicinal.moving.base import DestinationStore, ExistingIndex, SourceIndex, SourceStore
from vicinal.moving.journal import IndexProgress, Journal
from vicinal.moving.patience import Patience, patiently
from vicinal.tokens import StoredToken

_NAMED_MAX = 20  # in one message


@dataclass(frozen=True, slots=True)
class Choice:
    """The choice of indexes, and of what is accepted.

    Attributes:
        accounts: Only indexes of these accounts; all if empty.
        names: Only indexes of these names; all if empty.
        account: The account of all copies; None leaves every index in its own.
        into: Whether to write to indexes that hold vectors already.
        leaves_out: Whether to leave out what has no home in the destination.
        with_tokens: Whether to copy tokens where both sides keep them.
    """

    accounts: Sequence[str] = ()
    names: Sequence[str] = ()
    account: str | None = None
    into: bool = False
    leaves_out: bool = False
    with_tokens: bool = True

    @property
    def is_all(self) -> bool:
        """Whether everything is to be copied."""
        return not self.accounts and not self.names


class Intent(Enum):
    """The treatment of an index."""

    NEW = "new"
    CONTINUED = "continued"
    INTO = "into"
    DONE = "done before"


@dataclass(frozen=True, slots=True)
class PlannedIndex:
    """An index with what is done with it, and where its copy is to be."""

    index: SourceIndex
    target: IndexAddress
    intent: Intent
    copied_count: int = 0
    """Vectors that were copied before."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An index that is not copied, and the reason."""

    address: IndexAddress
    reason: Error


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """The indexes and tokens that are going to be copied.

    Attributes:
        indexes: The indexes to copy.
        failures: Indexes that cannot be read.
        left_out: Names of what has no home in the destination.
        token_count: Number of tokens that the destination lacks.
    """

    indexes: Sequence[PlannedIndex]
    failures: Sequence[Failure]
    left_out: Sequence[str]
    token_count: int

    @property
    def vector_count(self) -> int:
        """Number of vectors that are to be in the copies."""
        return sum(planned.index.vector_count for planned in self.indexes)


@dataclass(slots=True)
class Outcome:
    """The result of a run: its vectors, and the indexes that are whole."""

    vector_count: int = 0
    token_count: int = 0
    finished: list[IndexAddress] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


@dataclass(slots=True)
class Copy:
    """A copy from `source` to `destination`.

    Attributes:
        report: Called with an index and the vectors that were copied, of all indexes.
        warn: Called with a sentence for a person.
    """

    source: SourceStore
    destination: DestinationStore
    journal: Journal
    choice: Choice = field(default_factory=Choice)
    report: Callable[[IndexAddress, int], None] = lambda _address, _count: None
    warn: Callable[[str], None] = lambda _text: None

    def plan(self) -> CopyPlan:
        """Find out what is to be done; nothing is written.

        Raises:
            InvalidInput: something is refused: indexes that are there already, things without a
                home, names that no index has.
        """
        if self.source.identity == self.destination.identity and self.choice.account is None:
            raise InvalidInput(f"source and destination are both {self.source.label}")
        planned: list[PlannedIndex] = []
        failures: list[Failure] = []
        refusals: list[str] = []
        left_out = list(self.source.left_behind()) if self.choice.is_all else []
        for address in self._addresses():
            try:
                index = patiently(partial(self.source.describe, address))
            except InvalidInput as error:  # nothing of it can be had in any index
                left_out.append(f"index {_shown(address)}: {error}")
                continue
            except IndexNotFound:
                continue  # deleted since they were listed
            except Error as error:
                failures.append(Failure(address, error))
                continue
            try:
                planned.append(self._planned(index))
            except InvalidInput as error:
                refusals.append(str(error))
            except Error as error:
                failures.append(Failure(address, error))
            else:
                things = [*index.homeless, *self.destination.homeless(index)]
                left_out += [f"of index {_shown(address)}: {thing}" for thing in things]
        targets = Counter(index.target for index in planned)
        refusals += [
            f"{count} indexes would become {_shown(target)}"
            for target, count in targets.items()
            if count > 1
        ]
        if refusals:
            raise InvalidInput("nothing was copied: " + _joined(refusals))
        if left_out and not self.choice.leaves_out:
            raise InvalidInput(
                f"nothing was copied: these have no home in {self.destination.label}, and are left "
                f"out with --leave-out: {_joined(left_out)}"
            )
        return CopyPlan(planned, failures, left_out, len(self._tokens()))

    def execute(self, plan: CopyPlan) -> Outcome:
        """Do what was planned; an index that fails is named in the outcome."""
        outcome = Outcome(failures=list(plan.failures))
        before = 0
        for planned in plan.indexes:
            address = planned.index.address
            try:
                if planned.intent is not Intent.DONE:
                    self._copy(planned, before, outcome)
                outcome.finished.append(address)
            except Error as error:
                outcome.failures.append(Failure(address, error))
            before += planned.index.vector_count
            self.report(address, before)
        outcome.token_count = self._copy_tokens()
        return outcome

    def _addresses(self) -> Sequence[IndexAddress]:
        addresses = patiently(lambda: self.source.addresses(self.choice.accounts))
        if not self.choice.names:
            return addresses
        chosen = [address for address in addresses if address.name in self.choice.names]
        missing = sorted(set(self.choice.names) - {address.name for address in chosen})
        if missing:
            raise InvalidInput(f"{self.source.label} has no index named {_joined(missing)}")
        return chosen

    def _planned(self, index: SourceIndex) -> PlannedIndex:
        target = self._target(index.address)
        progress = self.journal.progress(target)
        existing = patiently(lambda: self.destination.existing(target))
        if existing is None:
            return PlannedIndex(index, target, Intent.NEW)
        if progress is not None and progress.destination_id == existing.id:
            intent = Intent.DONE if progress.is_done else Intent.CONTINUED
            return PlannedIndex(index, target, intent, progress.vector_count)
        self._check_fits(index, target, existing)
        if existing.vector_count and not self.choice.into:
            raise InvalidInput(
                f"index {_shown(target)} is in {self.destination.label} already, with "
                f"{existing.vector_count} vectors; --into writes to it all the same"
            )
        return PlannedIndex(index, target, Intent.INTO)

    def _target(self, address: IndexAddress) -> IndexAddress:
        return IndexAddress(self.choice.account or address.account, address.name)

    def _check_fits(
        self, index: SourceIndex, target: IndexAddress, existing: ExistingIndex
    ) -> None:
        wanted = (index.config.dimensions, index.config.metric.value)
        if wanted != (existing.dimensions, existing.metric):
            raise InvalidInput(
                f"index {_shown(index.address)} has {wanted[0]} dimensions and metric {wanted[1]}; "
                f"{_shown(target)} in {self.destination.label} has {existing.dimensions} and "
                f"{existing.metric}"
            )

    def _copy(self, planned: PlannedIndex, before: int, outcome: Outcome) -> None:
        """Copy one index, or the rest of it, and count it."""
        target = planned.target
        progress = self._begun(planned)
        patience = Patience()
        while True:
            written = progress.vector_count
            try:
                self._copy_from(planned, progress, before, outcome)
                break
            except BadCursor:
                # The same state in another layout, or a listing that has expired.
                if progress.cursor is None:
                    raise
                progress = replace(self._progress(target), cursor=None)
            except Unavailable as error:
                progress = self._progress(target)
                if progress.vector_count > written:
                    patience = Patience()
                patience.wait(error)
        self._verify(target)

    def _progress(self, target: IndexAddress) -> IndexProgress:
        progress = self.journal.progress(target)
        assert progress is not None  # `_begun` has saved it
        return progress

    def _begun(self, planned: PlannedIndex) -> IndexProgress:
        """Have the index in the destination and in the journal."""
        target = planned.target
        if planned.intent is Intent.CONTINUED:
            return self._progress(target)
        if planned.intent is Intent.NEW:
            return self._created(planned)
        existing = patiently(lambda: self.destination.existing(target))
        if existing is None:
            raise IndexNotFound(target.name)
        progress = IndexProgress(existing.id, is_into=existing.vector_count > 0)
        self.journal.save(target, progress)
        return progress

    def _created(self, planned: PlannedIndex) -> IndexProgress:
        target = planned.target
        try:
            id_ = patiently(lambda: self.destination.create(target, planned.index))
        except IndexExists:
            # By an attempt whose answer was lost, or by somebody else, who may have filled it.
            existing = patiently(lambda: self.destination.existing(target))
            if existing is None or existing.vector_count:
                raise
            self._check_fits(planned.index, target, existing)
            id_ = existing.id
        progress = IndexProgress(id_)
        self.journal.save(target, progress)
        return progress

    def _copy_from(
        self, planned: PlannedIndex, progress: IndexProgress, before: int, outcome: Outcome
    ) -> None:
        """Copy what is behind the journal's cursor."""
        address = planned.index.address
        with self.source.contents(address, progress.cursor) as contents:
            if progress.moment in (None, contents.moment):
                self._write_all(planned.target, contents, progress, before, outcome)
                return
        progress = self._begin_anew(planned, progress)
        with self.source.contents(address, None) as contents:
            self._write_all(planned.target, contents, progress, before, outcome)

    def _write_all(
        self,
        target: IndexAddress,
        contents: Contents,
        progress: IndexProgress,
        before: int,
        outcome: Outcome,
    ) -> None:
        if progress.cursor is None:
            progress = replace(progress, vector_count=0)
        progress = replace(progress, moment=contents.moment)
        self.journal.save(target, progress)
        self.report(target, before + progress.vector_count)
        for mutation, cursor in contents.mutations():
            self._write(target, mutation)
            if isinstance(mutation, Upsert):
                count = len(mutation.batch)
                outcome.vector_count += count
                progress = progress.advanced(cursor, count)
                self.journal.save(target, progress)
                self.report(target, before + progress.vector_count)
        if progress.vector_count != contents.vector_count:
            self.warn(
                f"index {_shown(target)}: the source said that it has {contents.vector_count} "
                f"vectors, and {progress.vector_count} were read; did others write to it?"
            )

    def _write(self, address: IndexAddress, mutation: Upsert | CreateMetadataIndex) -> None:
        patiently(lambda: self.destination.write(address, mutation))

    def _begin_anew(self, planned: PlannedIndex, progress: IndexProgress) -> IndexProgress:
        """Begin with another state of the source than the one that was copied in part."""
        target = planned.target
        shown = _shown(planned.index.address)
        self.warn(f"index {shown} has changed since its copy began: it is begun anew")
        if progress.is_into:
            progress = IndexProgress(progress.destination_id, is_into=True)
            self.journal.save(target, progress)
            return progress
        count = patiently(lambda: self.destination.settled_count(target))
        if count > progress.vector_count_max + BATCH_ROWS:
            raise InvalidInput(
                f"index {_shown(target)} in {self.destination.label} has {count} vectors, "
                f"{progress.vector_count_max} of them copied: it is written to by others, so it is "
                "not begun anew; delete it first"
            )
        patiently(lambda: self.destination.delete(target))
        return self._created(planned)

    def _verify(self, target: IndexAddress) -> None:
        """Compare counts: the destination's may come to what was written a little later."""
        progress = self._progress(target)
        expected, patience = progress.vector_count, Patience()
        while True:
            count = patiently(lambda: self.destination.settled_count(target))
            if count == expected or (progress.is_into and count > expected):
                break
            text = (
                f"{expected} vectors were copied and {count} are in index {_shown(target)} of "
                f"{self.destination.label}; did others write to it?"
            )
            if count > expected:
                raise Corruption(text)
            patience.wait(Unavailable(text, retry_after=0.25))
        self.journal.save(target, replace(progress, is_done=True))

    def _tokens(self) -> Sequence[StoredToken]:
        """Return the tokens that the destination lacks."""
        if not self.choice.with_tokens or not self.choice.is_all:
            return ()
        if self.source.tokens is None or self.destination.tokens is None:
            return ()
        there = {stored.token.id for stored in self.destination.tokens.stored()}
        return [stored for stored in self.source.tokens.stored() if stored.token.id not in there]

    def _copy_tokens(self) -> int:
        tokens = self._tokens()
        for stored in tokens:
            assert self.destination.tokens is not None
            self.destination.tokens.add(stored)
        return len(tokens)


def _shown(address: IndexAddress) -> str:
    return f"{address.account}/{address.name}"


def _joined(texts: Sequence[str]) -> str:
    rest = len(texts) - _NAMED_MAX
    return "; ".join(texts[:_NAMED_MAX]) + (f"; and {rest} more" if rest > 0 else "")
