"""One connection to a PostgreSQL by its driver, which is asynchronous, for callers that are not.

The connection is made when it is first needed, and again after it was lost: then `Unavailable`
tells to try again.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

from vicinal.errors import InvalidInput, Unavailable, reason_of
from vicinal.moving.foreign import import_client

_CONNECT_S = 30.0  # ours, as the others
_COMMAND_S = 3_600.0
_AGAIN_S = 1.0
_PASSING = ("08", "40", "53", "57", "58")
"""Classes of errors that may pass: connections, serialization, resources, operators, the system."""
_DENIED = ("28", "3D")
"""Classes that only a person can mend: passwords and names of databases."""

T = TypeVar("T")


class Connection:
    """A connection. One thread at a time.

    Args:
        dsn: Of the database.

    Attributes:
        label: The DSN without user, password and parameters.

    All methods but `close` may raise:

    Raises:
        Unavailable: the database cannot be reached.
        InvalidInput: it refuses.
    """

    def __init__(self, dsn: str) -> None:
        self.label = dsn_without_secret(dsn)
        self._dsn = dsn
        self._driver = import_client("asyncpg", "postgres")
        self._runner = asyncio.Runner()
        self._connection: Any = None
        self._has_snapshot = False

    def rows(self, query: str, *arguments: object) -> Sequence[Any]:
        """Run a query; return its rows, whose columns have names and places."""
        rows: Sequence[Any] = self._called("fetch", query, *arguments)
        return rows

    def execute(self, statements: str) -> None:
        """Run statements, all or none."""
        self._called("execute", statements)

    def begin_snapshot(self) -> None:
        """Have queries from now on see the database as it is at the first of them."""
        if self._has_snapshot:
            self._called("execute", "ROLLBACK")
            self._has_snapshot = False
        self._called("execute", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        self._has_snapshot = True

    def close(self) -> None:
        """Close it."""
        self._lose()
        self._runner.close()

    def _called(self, method: str, *arguments: object) -> Any:
        driver = self._driver
        try:
            if self._connection is None:
                self._connection = self._finished(
                    driver.connect(self._dsn, timeout=_CONNECT_S, command_timeout=_COMMAND_S)
                )
            return self._finished(getattr(self._connection, method)(*arguments))
        except driver.PostgresError as error:
            kind = (error.sqlstate or "")[:2]
            if kind in _PASSING or kind in _DENIED:
                self._lose()
                again = _AGAIN_S if kind in _PASSING else None
                raise Unavailable(f"{self.label}: {error}", retry_after=again) from error
            raise InvalidInput(f"{self.label}: {error}") from error
        except ValueError as error:  # of what it was given: a DSN, an argument
            raise InvalidInput(f"{self.label}: {error}") from error
        except (OSError, TimeoutError, driver.InterfaceError) as error:
            self._lose()
            reason = reason_of(error)
            raise Unavailable(f"{self.label}: {reason}", retry_after=_AGAIN_S) from error

    def _finished(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    def _lose(self) -> None:
        connection, self._connection, self._has_snapshot = self._connection, None, False
        if connection is not None:
            with suppress(OSError, self._driver.PostgresError, self._driver.InterfaceError):
                connection.terminate()


def dsn_without_secret(dsn: str) -> str:
    """Return a DSN without user, password and parameters.

    Raises:
        InvalidInput: it is none, or not to be understood; it is not repeated, as it may have a
            password.
    """
    if not dsn.startswith(("postgresql://", "postgres://")):
        raise InvalidInput("the DSN of a database is a URL that begins with postgresql://")
    try:
        parts = urlsplit(dsn)
        hosts = parts.netloc.rpartition("@")[2]
        is_clear = "@" not in parts.path + parts.fragment
        for host in hosts.split(","):
            port = host.rpartition("]")[2].partition(":")[2]
            is_clear = is_clear and (not port or port.isdigit())
    except ValueError:
        is_clear = False
    if not is_clear:
        raise InvalidInput(
            "the DSN of a database cannot be read: in a user or password the characters / ? # @ : "
            "[ ] are written with percent signs, like %2F"
        )
    return f"postgresql://{hosts}{parts.path}"


def quoted(name: str) -> str:
    """Return a name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'
