"""The catalog in the database: which indexes there are; and what a node remembers of it.

An index is what its UUID says, which no other ever has. A node remembers those it was asked for,
so that asking again is free; a name that it does not remember is asked for in the database. It
hears of indexes that others dropped by `follow`, after each change of ``cluster.catalog_version``;
until then it answers from what it has. Creating is tried again with the same UUID when its answer
is lost, so it is done once.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec

from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.session import Session
from vicinal.errors import Corruption, IndexExists, IndexNotFound, LimitExceeded
from vicinal.model import Index, IndexAddress, IndexConfig

FETCHES_MAX = 3  # of an entry, while others make or drop indexes; ours
REMEMBERED_MAX = 100_000  # indexes, about 1 KB each; ours


@dataclass(frozen=True, slots=True)
class SharedCatalogEntry:
    """An index and whose it is."""

    account: str
    index: Index

    @property
    def key(self) -> UUID:
        """The index's id, as the tables have it."""
        return UUID(self.index.id)


class _CatalogDocument(msgspec.Struct, frozen=True):
    """The content of an index's row, without its name and its id."""

    description: str | None
    config: IndexConfig
    created_at: datetime


class SharedCatalog:
    """The catalog as one node sees it. Thread-safe.

    Args:
        database: Where it is.
        write_deadline_s: After how many seconds a change is given up.
        on_dropped: Called with each index that is found to be gone and its name, in any thread.

    Every method that asks the database may raise `Unavailable`.
    """

    def __init__(
        self,
        database: PostgresDatabase,
        write_deadline_s: float,
        on_dropped: Callable[[UUID, str], None],
    ) -> None:
        self._database = database
        self._write_deadline_s = write_deadline_s
        self._on_dropped = on_dropped
        self._lock = threading.Lock()
        self._remembered: OrderedDict[tuple[str, str], SharedCatalogEntry] = OrderedDict()
        self._names: dict[UUID, tuple[str, str]] = {}
        self._version = -1
        self._follow_count = 0  # times that dropped indexes have been asked for
        self.index_count = 0
        """Indexes of all accounts, as of the last look."""

    def remembered(self, address: IndexAddress) -> SharedCatalogEntry | None:
        """Return the entry of an index without waiting; None when only the database knows.

        Raises:
            IndexNotFound: the index of this name is not the one of the address's id.
        """
        with self._lock:
            entry = self._remembered.get((address.account, address.name))
            if entry is not None:
                self._remembered.move_to_end((address.account, address.name))
        if entry is None:
            return None
        if address.id is not None and address.id != entry.index.id:
            raise IndexNotFound(address.name)
        return entry

    def get(self, address: IndexAddress) -> SharedCatalogEntry:
        """Return the entry of an index.

        Raises:
            IndexNotFound: there is none, or the one of this name is not the one meant.
            Corruption: its row cannot be read.
        """
        return self.remembered(address) or self._database.run_coroutine(self.fetch_entry(address))

    async def fetch_entry(self, address: IndexAddress) -> SharedCatalogEntry:
        """See `get`; in the loop of the database."""
        for _ in range(FETCHES_MAX):
            follow_count = self._follow_count
            row = await self._database.read(
                lambda session: session.fetchrow(
                    "SELECT index_id, document FROM vicinal.catalog"
                    " WHERE account = $1 AND name = $2",
                    address.account,
                    address.name,
                )
            )
            if row is None:
                raise IndexNotFound(address.name)
            entry = _entry(row["index_id"], address.account, address.name, row["document"])
            if follow_count == self._follow_count:
                self._remember(entry)
                break  # else it may have been evicted meanwhile, and is read again
        if address.id is not None and address.id != entry.index.id:
            raise IndexNotFound(address.name)
        return entry

    def add(
        self,
        address: IndexAddress,
        config: IndexConfig,
        description: str | None,
        count_max: int | None,
    ) -> Index:
        """Make an index exist.

        Raises:
            IndexExists: the account has one of this name.
            LimitExceeded: the account has `count_max` indexes.
        """
        now = datetime.now(UTC)
        index = Index(str(uuid4()), address.name, description, config, now)
        entry = SharedCatalogEntry(address.account, index)

        async def add(session: Session, _may_be_done: bool) -> int:
            return await _add(session, entry, count_max)

        until = time.monotonic() + self._write_deadline_s
        count = self._database.run_coroutine(self._database.persist(add, Use.APPEND, until))
        self._remember(entry)
        self.index_count = count
        return index

    def remove(self, address: IndexAddress) -> UUID:
        """Make an index not exist, and return its id; its rows stay to be removed.

        Raises:
            IndexNotFound: there is none.
        """
        entry = self.get(address)
        until = time.monotonic() + self._write_deadline_s
        try:
            count = self._database.run_coroutine(
                self._database.persist(_removing(entry), Use.APPEND, until)
            )
        except IndexNotFound:
            # Another node was faster; the name may be that of its successor.
            self.evict(entry.key)
            if address.id is not None:
                raise
            return self.remove(address)
        self.evict(entry.key)
        self.index_count = count
        return entry.key

    def of_account(self, account: str) -> Sequence[Index]:
        """Return an account's indexes, oldest first."""
        return self._database.run_coroutine(self._of_account(account))

    def address_of(self, index_id: UUID) -> IndexAddress | None:
        """Return the address of an index that is remembered."""
        with self._lock:
            key = self._names.get(index_id)
        return None if key is None else IndexAddress(*key)

    def evict(self, index_id: UUID) -> None:
        """Remember an index no more: it is gone."""
        with self._lock:
            key = self._names.pop(index_id, None)
            if key is not None:
                del self._remembered[key]
        self._on_dropped(index_id, str(index_id) if key is None else key[1])

    async def follow(self, version: int, index_count: int) -> None:
        """Evict what has been dropped since the last poll, told the version there is now."""
        if version == self._version:
            return
        self._follow_count += 1
        async with self._database.session(Use.POLL) as session:
            # Before the catalog is read, which lacks what is made after that.
            known = list(self._names)
            if self._version < 0 or version < self._version:  # the first; or changes were lost
                rows = await session.fetch("SELECT index_id FROM vicinal.catalog")
                there = {row["index_id"] for row in rows}
                gone = [index_id for index_id in known if index_id not in there]
            else:
                rows = await session.fetch(
                    "SELECT index_id FROM vicinal.dropped WHERE catalog_version > $1", self._version
                )
                gone = [row["index_id"] for row in rows]
        for index_id in gone:
            self.evict(index_id)
        self._version, self.index_count = version, index_count

    def addresses(self) -> Sequence[IndexAddress]:
        """Return the addresses of all indexes of all accounts, oldest first, as of now."""
        rows = self._database.run_coroutine(
            self._database.read(
                lambda session: session.fetch(
                    "SELECT account, name FROM vicinal.catalog ORDER BY place"
                )
            )
        )
        return [IndexAddress(row["account"], row["name"]) for row in rows]

    def _remember(self, entry: SharedCatalogEntry) -> None:
        key = (entry.account, entry.index.name)
        with self._lock:
            before = self._remembered.pop(key, None)
            if before is not None:
                self._names.pop(before.key, None)
            self._remembered[key] = entry
            self._names[entry.key] = key
            while len(self._remembered) > REMEMBERED_MAX:
                _, oldest = self._remembered.popitem(last=False)
                self._names.pop(oldest.key, None)
        if before is not None and before.key != entry.key:
            self._on_dropped(before.key, before.index.name)

    async def _of_account(self, account: str) -> list[Index]:
        rows = await self._database.read(
            lambda session: session.fetch(
                "SELECT index_id, name, document FROM vicinal.catalog WHERE account = $1"
                " ORDER BY place",
                account,
            )
        )
        return [
            _entry(row["index_id"], account, row["name"], row["document"]).index for row in rows
        ]


async def _add(session: Session, entry: SharedCatalogEntry, count_max: int | None) -> int:
    """Add an index unless it is there; return how many there are."""
    index = entry.index
    (count,) = await session.fetchrow("SELECT index_count FROM vicinal.cluster FOR UPDATE")
    there = await session.fetchrow(
        "SELECT index_id FROM vicinal.catalog WHERE account = $1 AND name = $2",
        entry.account,
        index.name,
    )
    if there is not None and there["index_id"] != entry.key:
        raise IndexExists(index.name)
    if there is not None:  # an earlier attempt: its answer was lost
        count -= 1
    else:
        if count_max is not None:
            (held,) = await session.fetchrow(
                "SELECT count(*) FROM vicinal.catalog WHERE account = $1", entry.account
            )
            if held >= count_max:
                raise LimitExceeded(
                    f"account {entry.account!r} has {held} indexes, the maximum is {count_max}"
                )
        document = msgspec.json.encode(
            _CatalogDocument(index.description, index.config, index.created_at)
        )
        await session.execute(
            "INSERT INTO vicinal.catalog (index_id, account, name, document)"
            " VALUES ($1, $2, $3, $4)",
            entry.key,
            entry.account,
            index.name,
            document,
        )
        await session.execute(
            "INSERT INTO vicinal.head VALUES ($1, 0, 0, NULL, 0, 0, 0)", entry.key
        )
        await session.execute(
            "INSERT INTO vicinal.folded VALUES ($1, 0, NULL, NULL, 0, 0)", entry.key
        )
    # Also when all is there already: COMMIT then waits until standbys have what was done before.
    await session.execute(
        "UPDATE vicinal.cluster SET catalog_version = catalog_version + 1, index_count = $1",
        count + 1,
    )
    return int(count) + 1


def _removing(entry: SharedCatalogEntry) -> Callable[[Session, bool], Awaitable[int]]:
    async def remove(session: Session, may_be_done: bool) -> int:
        (count,) = await session.fetchrow("SELECT index_count FROM vicinal.cluster FOR UPDATE")
        tag = await session.execute("DELETE FROM vicinal.catalog WHERE index_id = $1", entry.key)
        is_there = tag != "DELETE 0"
        if not is_there and not may_be_done:
            raise IndexNotFound(entry.index.name)
        count -= is_there
        await session.execute(
            "UPDATE vicinal.cluster SET catalog_version = catalog_version + 1, index_count = $1",
            count,
        )
        if is_there:
            # A node that appends holds this row: what it logs now is logged before the index goes.
            await session.execute("DELETE FROM vicinal.head WHERE index_id = $1", entry.key)
            await session.execute(
                "INSERT INTO vicinal.dropped"
                " SELECT $1, catalog_version, now(), false FROM vicinal.cluster",
                entry.key,
            )
        return int(count)

    return remove


def _entry(index_id: UUID, account: str, name: str, document: bytes) -> SharedCatalogEntry:
    try:
        content = msgspec.json.decode(document, type=_CatalogDocument)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Corruption(f"the entry of index {name!r} cannot be read: {error}") from error
    created_at = content.created_at.astimezone(UTC)
    return SharedCatalogEntry(
        account, Index(str(index_id), name, content.description, content.config, created_at)
    )
