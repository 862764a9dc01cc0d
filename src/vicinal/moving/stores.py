"""A store by its name on the command line."""

from dataclasses import dataclass
from pathlib import Path

from vicinal.errors import InvalidInput
from vicinal.moving.engines import EngineStore, open_database, open_folder
from vicinal.moving.servers import ServerStore, open_server

Store = EngineStore | ServerStore


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How a store is reached.

    Attributes:
        schema: Of the tables in a database.
        token: For a server.
        account: Of a server's indexes, where none is given.
    """

    schema: str
    token: str
    account: str


def open_store(name: str, options: StoreOptions, *, is_source: bool, creates: bool = True) -> Store:
    """Open a data folder, a ``postgresql://`` database or an ``http(s)://`` server.

    Args:
        name: The folder's path, the database's or the server's URL.
        options: How it is reached.
        is_source: Whether it is read.
        creates: Whether a folder or tables may be made; else empty ones stand in for them.

    Raises:
        InvalidInput: there is no such store, or the name cannot be one.
        Unavailable: it cannot be used now.
        Corruption: it is damaged.
    """
    scheme, separator, _ = name.partition("://")
    if separator and scheme in ("postgresql", "postgres"):
        return open_database(name, options.schema, is_source=is_source, creates=creates)
    if separator and scheme in ("http", "https"):
        return open_server(name, options.token, options.account)
    if separator:
        raise InvalidInput(
            f"{scheme}:// is no store: name a data folder, a postgresql:// database or the "
            "http(s):// URL of a server"
        )
    return open_folder(Path(name), is_source=is_source, creates=creates)
