"""A data folder and a PostgreSQL database as stores, both by their engines.

A folder is opened by this process alone, so nothing changes in it during a copy. A database may be
written to by its servers meanwhile; each index is read as of one moment.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from vicinal.d1 import Databases
from vicinal.engine import catalog
from vicinal.engine.contents import Contents, HasContents
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.engine.options import EngineOptions
from vicinal.errors import IndexNotFound, InvalidInput, Unavailable
from vicinal.limits import PROFILES
from vicinal.model import CreateMetadataIndex, IndexAddress, Seqno, Upsert
from vicinal.moving.base import ExistingIndex, SourceIndex
from vicinal.moving.postgresql import dsn_without_secret
from vicinal.settings import TOKENS_FILE
from vicinal.storage import folder_lock
from vicinal.tokens import Tokens, TokenStore

_LIMITS = PROFILES["open"]  # those of the wire are for requests
_NEVER_S = 1e8  # three years: nothing is compacted in a folder that is read
_WAIT_S = 86_400.0  # for what is written to be applied, which takes seconds


class EngineStore:
    """The indexes of an engine. Implements `moving.base.SourceStore` and `DestinationStore`.

    Args:
        engine: Keeps them.
        label: Its name in messages.
        identity: See `moving.base.SourceStore`.
        opened: Closed by `close`, the engine with it.
        tokens: The tokens beside the engine.
        left_behind: Returns the names of what is beside it and is not copied.
    """

    promise = "of one moment"

    def __init__(
        self,
        engine: HasContents,
        label: str,
        identity: str,
        opened: ExitStack,
        tokens: TokenStore | None,
        left_behind: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self.label = label
        self.identity = identity
        self.tokens = tokens
        self._engine = engine
        self._opened = opened
        self._left_behind = left_behind
        self._seqnos: dict[IndexAddress, Seqno] = {}

    def addresses(self, accounts: Sequence[str]) -> Sequence[IndexAddress]:
        """See `moving.base.SourceStore`."""
        addresses = self._engine.addresses()
        return [address for address in addresses if not accounts or address.account in accounts]

    def describe(self, address: IndexAddress) -> SourceIndex:
        """See `moving.base.SourceStore`."""
        index = self._engine.get_index(address)
        with self._engine.contents(address) as contents:
            return SourceIndex(address, index.config, index.description, contents.vector_count)

    def contents(
        self, address: IndexAddress, cursor: str | None
    ) -> AbstractContextManager[Contents]:
        """See `moving.base.SourceStore`."""
        return self._engine.contents(address, cursor)

    def left_behind(self) -> Sequence[str]:
        """See `moving.base.SourceStore`."""
        return self._left_behind()

    def existing(self, address: IndexAddress) -> ExistingIndex | None:
        """See `moving.base.DestinationStore`."""
        try:
            index = self._engine.get_index(address)
            count = self.settled_count(address)
        except IndexNotFound:
            return None
        return ExistingIndex(index.id, index.config.dimensions, index.config.metric.value, count)

    def homeless(self, index: SourceIndex) -> Sequence[str]:
        """See `moving.base.DestinationStore`: an engine keeps all of it."""
        return ()

    def create(self, address: IndexAddress, index: SourceIndex) -> str:
        """See `moving.base.DestinationStore`."""
        return self._engine.create_index(address, index.config, index.description).id

    def delete(self, address: IndexAddress) -> None:
        """See `moving.base.DestinationStore`."""
        self._seqnos.pop(address, None)
        self._engine.delete_index(address)

    def write(self, address: IndexAddress, mutation: Upsert | CreateMetadataIndex) -> None:
        """See `moving.base.DestinationStore`."""
        accepted = self._engine.append(address, mutation, wait_s=math.inf).result()
        self._seqnos[address] = accepted.seqno

    def settled_count(self, address: IndexAddress) -> int:
        """See `moving.base.DestinationStore`."""
        if self._engine.is_shared:  # counted in the database: no copy is made for it
            return self._engine.list(address, 1, None).total_count
        if address in self._seqnos:
            self._engine.wait_applied(address, self._seqnos[address], _WAIT_S)
        return self._engine.status(address).vector_count

    def close(self) -> None:
        """See `moving.base.SourceStore`."""
        self._opened.close()


def open_folder(folder: Path, *, is_source: bool, creates: bool = True) -> EngineStore:
    """Open a data folder; one to be written is made when it is not there.

    Args:
        folder: Its path.
        is_source: Whether it is read; then nothing in it is compacted.
        creates: Whether it may be made. If not, an empty one stands in for one that is not there.

    Raises:
        InvalidInput: a folder to be read is no data folder.
        Unavailable: a server has it open, or it cannot be used.
        Corruption: its catalog is damaged.
    """
    is_there = (folder / catalog.FILE_NAME).exists()
    if is_source and not is_there:
        raise InvalidInput(f"{folder} is no data folder: it has no {catalog.FILE_NAME}")
    label, identity = str(folder), f"folder {folder.resolve()}"
    if not is_there and not creates:
        return _stand_in(label, identity)
    options = EngineOptions(limits=_LIMITS)
    if is_source:
        options = EngineOptions(limits=_LIMITS, idle_s=_NEVER_S, merges=False)
    with ExitStack() as opened:
        try:
            engine = EmbeddedEngine.open(folder, options)
        except Unavailable as error:
            if not folder_lock.is_held(folder):
                raise
            raise Unavailable(
                f"{error}: stop its server, or name the server's URL instead of the folder"
            ) from error
        opened.callback(engine.close)
        tokens = None
        if not is_source or (folder / TOKENS_FILE).exists():
            tokens = Tokens(folder / TOKENS_FILE)
            opened.callback(tokens.close)
        sql_databases = partial(_sql_databases, folder)
        return EngineStore(engine, label, identity, opened.pop_all(), tokens, sql_databases)


def open_database(dsn: str, schema: str, *, is_source: bool, creates: bool = True) -> EngineStore:
    """Open a PostgreSQL database; one to be written gets its tables when they are not there.

    Args:
        dsn: Of the database.
        schema: Of the tables.
        is_source: Whether it is read.
        creates: Whether tables may be made. If not, an empty store stands in for them.

    Raises:
        InvalidInput: the driver is not installed, or a database to be read has no tables.
        Unavailable: it cannot be used.
    """
    label = f"{dsn_without_secret(dsn)} (schema {schema})"
    identity = f"database {label}"
    is_there = _shared("report").examine(dsn, schema).format is not None
    if is_source and not is_there:
        raise InvalidInput(f"{label} has no tables of Vicinal")
    if not is_there and not creates:
        return _stand_in(label, identity)
    with ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="vicinal-copy-"))
        shared = _shared("engine")
        options = shared.SharedOptions(dsn, schema, index=EngineOptions(limits=_LIMITS))
        engine = shared.SharedEngine.open(Path(folder) / "node", options)
        opened.callback(engine.close)
        tokens = _shared("tokens").SharedTokens(dsn, schema)
        opened.callback(tokens.close)
        return EngineStore(engine, label, identity, opened.pop_all(), tokens)


def _stand_in(label: str, identity: str) -> EngineStore:
    """Return an empty store, which a plan takes for one that is to be made."""
    with ExitStack() as opened:
        name = opened.enter_context(tempfile.TemporaryDirectory(prefix="vicinal-copy-"))
        engine = EmbeddedEngine.open(Path(name) / "data")
        opened.callback(engine.close)
        tokens = Tokens(Path(name) / TOKENS_FILE)
        opened.callback(tokens.close)
        return EngineStore(engine, label, identity, opened.pop_all(), tokens)


def _sql_databases(folder: Path) -> Sequence[str]:
    databases = Databases(folder / "d1")
    accounts = sorted(path.name for path in (folder / "d1").glob("*") if path.is_dir())
    return [
        f"SQL database {name} of account {account}"
        for account in accounts
        for name in databases.ids(account)
    ]


def _shared(name: str) -> Any:
    """Return a module of the shared engine, whose driver is not always installed."""
    try:
        return import_module(f"vicinal.engine.shared.{name}")
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise InvalidInput(
            "a postgresql:// store needs asyncpg; install it with: pip install 'vicinal[postgres]'"
        ) from error
