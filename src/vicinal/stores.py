"""Where tokens are kept: the data folder, or the database that servers share.

Apart from `app`, so that what needs tokens alone imports no server and no engine.
"""

import importlib
from typing import Any

from vicinal.errors import InvalidInput
from vicinal.settings import TOKENS_FILE, Settings
from vicinal.tokens import Tokens, TokenStore


def open_tokens(settings: Settings, *, renews: bool = False) -> TokenStore:
    """Open the tokens of the data folder, or of the database that servers share.

    `renews` is that of `tokens.Tokens`.

    Raises:
        InvalidInput, Unavailable, Corruption: they cannot be opened.
    """
    if settings.database is None:
        return Tokens(settings.data / TOKENS_FILE, settings.token, renews=renews)
    shared = shared_module("tokens")
    store: TokenStore = shared.SharedTokens(
        settings.database, settings.database_schema, settings.token
    )
    return store


def shared_module(name: str) -> Any:
    """Return a module of the shared engine, whose driver is not always installed.

    Raises:
        InvalidInput: it is not.
    """
    try:
        return importlib.import_module(f"vicinal.engine.shared.{name}")
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise InvalidInput(
            "the setting 'database' needs asyncpg; install it with: pip install 'vicinal[postgres]'"
        ) from error
