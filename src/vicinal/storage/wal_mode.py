"""How a SQLite database that several processes open comes to have a write-ahead log.

This module knows one pragma, and imports nothing of the package: processes for SQL are small.
"""

import sqlite3
import time

_PAUSE_S = 0.005


def enter(connection: sqlite3.Connection, seconds_max: float) -> None:
    """Have a database write ahead, which it does from then on.

    Of two that do so to a new database at the same moment SQLite refuses one, without waiting for
    the time-out of its connection.

    Raises:
        sqlite3.OperationalError: it is locked for `seconds_max`, or cannot be written.
    """
    end_s = time.monotonic() + seconds_max
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > end_s:
                raise
        time.sleep(_PAUSE_S)
