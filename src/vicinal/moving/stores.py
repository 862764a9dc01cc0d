"""A store by its name on the command line."""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vicinal.errors import InvalidInput
from vicinal.moving.base import DestinationStore, SourceStore
from vicinal.moving.engines import open_database, open_folder
from vicinal.moving.foreign import ForeignClient, ForeignStore
from vicinal.moving.servers import open_server
from vicinal.moving.writing import ForeignDestination, ForeignWriter

PRODUCTS = ("chroma", "lancedb", "pgvector", "pinecone", "qdrant")
"""Other products, as ``PRODUCT:URL-or-folder``."""

READ_ALONE = ("pinecone",)
"""The products that are not written."""

_FOLDERS = {
    "qdrant": ("Qdrant", "meta.json"),
    "chroma": ("Chroma", "chroma.sqlite3"),
    "lancedb": ("LanceDB", "*.lance"),
}
"""The name of each product that may be a folder, and a file that its folder has."""


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How a store is reached.

    Attributes:
        schema: Of the tables in a database.
        token: For a server, or the key of another product.
        account: Of a server's indexes, where none is given, and of another product's.
        cacert: For a server, as in `trust.verification`.
    """

    schema: str
    token: str
    account: str
    cacert: Path | None = None


def open_source(name: str, options: StoreOptions) -> SourceStore:
    """Open a data folder, a database, a server or another product to be read.

    Raises:
        InvalidInput: there is no such store, or the name cannot be one.
        Unavailable: it cannot be used now.
        Corruption: it is damaged.
    """
    product, separator, location = name.partition(":")
    if separator and product in PRODUCTS:
        _check_folder(name, product, location)
        return ForeignStore(_client(product, location, options.token), options.account)
    match _kind(name):
        case "database":
            return open_database(name, options.schema, is_source=True)
        case "server":
            return open_server(name, options.token, options.account, options.cacert)
        case _:
            return open_folder(Path(name), is_source=True)


def open_destination(name: str, options: StoreOptions, *, creates: bool = True) -> DestinationStore:
    """Open a data folder, a database or a server to be written.

    Args:
        name: The folder's path, the database's or the server's URL, or another product.
        options: How it is reached.
        creates: Whether a folder or tables may be made; else empty ones stand in for them.

    Raises:
        InvalidInput: the name cannot be that of a store, or of one that is only read.
        Unavailable: it cannot be used now.
        Corruption: it is damaged.
    """
    product, separator, location = name.partition(":")
    if separator and product in READ_ALONE:
        raise InvalidInput(f"{product} can be read, and is not written")
    if separator and product in PRODUCTS:
        is_there = "://" in location or Path(location).exists()
        if not is_there and not creates:
            return _stand_in(product, name)
        return ForeignDestination(_writer(product, location, options.token), None, ExitStack())
    match _kind(name):
        case "database":
            return open_database(name, options.schema, is_source=False, creates=creates)
        case "server":
            return open_server(name, options.token, options.account, options.cacert)
        case _:
            return open_folder(Path(name), is_source=False, creates=creates)


def _check_folder(name: str, product: str, location: str) -> None:
    """Refuse a folder that a product does not have, which its client would make instead."""
    if product not in _FOLDERS or "://" in location:
        return
    called, pattern = _FOLDERS[product]
    if not location or not any(Path(location).glob(pattern)):
        raise InvalidInput(f"{name}: there is no folder of {called} (it has no {pattern})")


def _stand_in(product: str, label: str) -> ForeignDestination:
    """Return an empty destination, which a plan takes for one that is to be made."""
    with ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="vicinal-copy-"))
        writer = _writer(product, str(Path(folder) / "empty"), "")
        return ForeignDestination(writer, label, opened.pop_all())


def _writer(product: str, location: str, key: str) -> ForeignWriter:
    if product == "pgvector":
        from vicinal.moving.pgvector import PgvectorWriter

        return PgvectorWriter(location)
    if product == "qdrant":
        from vicinal.moving.qdrant import QdrantClient

        return QdrantClient(location, key)
    if product == "chroma":
        from vicinal.moving.chroma import ChromaClient

        return ChromaClient(location, key)
    from vicinal.moving.lancedb import LanceClient

    return LanceClient(location, key)


def _kind(name: str) -> str:
    scheme, separator, _ = name.partition("://")
    if not separator:
        return "folder"
    if scheme in ("postgresql", "postgres"):
        return "database"
    if scheme in ("http", "https"):
        return "server"
    raise InvalidInput(
        f"{scheme}:// is no store: name a data folder, a postgresql:// database, the http(s):// "
        f"URL of a server, or one of {', '.join(f'{product}:...' for product in PRODUCTS)}"
    )


def _client(product: str, location: str, key: str) -> ForeignClient:
    if product == "pgvector":
        from vicinal.moving.pgvector import PgvectorClient

        return PgvectorClient(location)
    if product == "qdrant":
        from vicinal.moving.qdrant import QdrantClient

        return QdrantClient(location, key)
    if product == "chroma":
        from vicinal.moving.chroma import ChromaClient

        return ChromaClient(location, key)
    if product == "pinecone":
        from vicinal.moving.pinecone import PineconeClient

        return PineconeClient(location, key)
    from vicinal.moving.lancedb import LanceClient

    return LanceClient(location, key)
