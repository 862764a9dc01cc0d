"""Vicinal: a self-hosted implementation of the Vectorize V2 API.

``vicinal serve`` runs the server. Without one, `open` gives a data folder's indexes to this
process:

>>> import vicinal
>>> with vicinal.open("data") as database:
...     docs = database.create_index("docs", dimensions=2, metric="euclidean")
...     _ = docs.upsert([{"id": "a", "values": [3, 4]}], wait=True)
...     nearest = docs.query([0, 0])
>>> nearest.matches[0].id, nearest.matches[0].score
('a', 5.0)
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vicinal.binding import Columns, Database, Match, Matches, Vector, Vectorize

__all__ = ["open", "Database", "Vectorize", "Vector", "Columns", "Match", "Matches"]


def __getattr__(name: str) -> object:
    """Import what is in process when it is first named: commands and pytest seldom need it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vicinal import binding

    return getattr(binding, name)


def open(
    path: str | os.PathLike[str], *, account: str = "local", limits: str = "open"
) -> "Database":
    """Open a data folder, creating a missing one.

    Args:
        path: The folder; that of ``vicinal serve --data`` as well, while no server has it open.
        account: The account of the indexes: 1 to 32 letters, digits, dashes and underscores.
        limits: The profile of limits; ``cloudflare`` has those of the hosted service.

    Raises:
        Unavailable: another process has the folder open.
        Corruption: its catalog is damaged.
        InvalidInput: there is no such profile, or path or account is invalid.
    """
    from vicinal.binding import Database, arguments
    from vicinal.engine.embedded import EmbeddedEngine
    from vicinal.engine.options import EngineOptions
    from vicinal.limits import PROFILES

    bounds, owner = PROFILES[arguments.profile(limits)], arguments.account(account)
    engine = EmbeddedEngine.open(arguments.folder(path), EngineOptions(limits=bounds))
    return Database(engine, owner, bounds)
