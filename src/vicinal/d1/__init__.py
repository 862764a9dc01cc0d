"""SQL databases of one SQLite file each, as much of D1 as libraries that keep texts need.

    d1/ACCOUNT/DATABASE.sqlite      made when the database is first asked for

    server ─► databases ─► process ══ pipes ══ worker ─► statements ─► permissions ─► SQLite

SQL from the network never runs in the server's process: a fault of SQLite's, a statement that
does not end or one that takes all memory costs the call that sent it and no more.
"""

from vicinal.d1.bounds import Bounds
from vicinal.d1.databases import DatabaseInfo, Databases

__all__ = ["Bounds", "DatabaseInfo", "Databases"]
