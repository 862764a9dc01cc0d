"""API tokens: who may read and who may write.

A token is 256 random bits, so it is stored as its plain SHA-256: nobody can search for a
preimage, and a slow hash, which protects guessable passwords, would only be paid on every
request. Tokens are looked up by digest; the time that takes depends on digests, which a
guesser cannot steer. The secret is returned once, by `create`, and kept nowhere.

`tokens.db` is one SQLite table in write-ahead mode with ``synchronous=FULL``. It is shared:
``vicinal token`` writes it while a server reads. The server keeps the table in memory and
reads it again when SQLite's ``data_version`` says that another process has changed it, or when
there is another file in its place. It asks SQLite once in `UNCHANGED_S` at most; who changes the
table returns that much later, when no process knows the old one any more. Each change goes from
SQLite's log into the file at once: the file alone is a whole copy, and no log is left that SQLite
would apply to another file of this name.

Once there has been a token, one is needed from then on, even when all have been revoked or the
database is lost: an empty file `tokens-required` is made next to it before the first token. Only
`disable` removes that file, and only a process that opens the tokens afterwards notices.

Tokens can also be given in the settings; these allow everything and are never stored.

This module does not know how a token travels in a request.
"""

import hashlib
import os
import secrets
import sqlite3
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from vicinal.errors import Corruption, InvalidInput, NotFound, Unavailable
from vicinal.limits import ACCOUNT_ID
from vicinal.storage import private, wal_mode
from vicinal.storage.files import sync, sync_directory

PREFIX = "vcnl_"
"""Beginning of every token, so that people and scanners of leaked secrets recognise one."""

NAME_CHARS_MAX = 100
LOCK_TIMEOUT_S = 5.0

UNCHANGED_S = 0.005
"""Ours: seconds for which what has been read holds (docs/decisions.md)."""

REQUIRED_FILE = "tokens-required"
"""Empty file next to the database, made before the first token."""

_SCHEMA = """CREATE TABLE IF NOT EXISTS token(
    id TEXT PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    permission TEXT NOT NULL,
    account TEXT,
    created_at TEXT NOT NULL
) STRICT"""


class Permission(StrEnum):
    """Permission of a token; writing includes reading."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret.

    Attributes:
        account: The only account that the token is good for; None for all accounts.
    """

    id: str
    name: str
    permission: Permission
    account: str | None
    created_at: datetime

    def allows(self, permission: Permission) -> bool:
        """Tell whether this token may do what needs `permission`."""
        return self.permission is Permission.WRITE or permission is Permission.READ

    def reaches(self, account: str) -> bool:
        """Tell whether this token is good for `account`."""
        return self.account in (None, account)


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token with the digest of its secret, as it is kept."""

    token: Token
    digest: bytes


class TokenStore(Protocol):
    """A keeper of tokens: the database of one data folder, or one that servers share.

    Its methods do what those of `Tokens` do, and raise the same.
    """

    def accept(self, secret: str) -> None:
        """Let a secret allow everything until `close`; it is not stored."""

    def create(
        self, name: str, permission: Permission, account: str | None = None
    ) -> tuple[Token, str]:
        """Make a token; return it and its secret."""

    def list(self) -> Sequence[Token]:
        """Return the stored tokens, oldest first."""

    def stored(self) -> Sequence[StoredToken]:
        """Return the stored tokens with their digests, oldest first."""

    def add(self, stored: StoredToken) -> None:
        """Keep a token of another store; its secret is good here, too. Again changes nothing."""

    def revoke(self, token_id: str) -> None:
        """Delete a token."""

    def disable(self) -> None:
        """Revoke all stored tokens, and need none from the next start on."""

    def has_tokens(self) -> bool:
        """Tell whether there is at least one token, stored or of the settings."""

    def are_needed(self) -> bool:
        """Tell whether a token is needed: there is one, or has been."""

    def authenticate(self, secret: str | None) -> tuple[Token | None, bool]:
        """Return the token with this secret, None if there is none, and whether one is needed.

        For an event loop: it waits for nothing but this machine.
        """

    def close(self) -> None:
        """Release what is open."""


def new_token(name: str, permission: Permission, account: str | None) -> tuple[Token, str]:
    """Return a token that is not stored yet, and its secret.

    Raises:
        InvalidInput: the name is empty or too long, or the account id malformed.
    """
    if not 0 < len(name) <= NAME_CHARS_MAX:
        raise InvalidInput(f"a token's name has 1 to {NAME_CHARS_MAX} characters, not {len(name)}")
    if account is not None and not ACCOUNT_ID.fullmatch(account):
        raise InvalidInput(f"account id {account!r} is not 1 to 32 letters, digits, '_' or '-'")
    secret = PREFIX + secrets.token_urlsafe(32)
    return Token(secrets.token_hex(8), name, permission, account, now()), secret


def fixed_token(number: int) -> Token:
    """Return the token of a secret in the settings, which allows everything."""
    return Token(f"settings-{number}", "from the settings", Permission.WRITE, None, now())


class Tokens:
    """The tokens of one data folder, and those of the settings.

    Args:
        path: The database; created when it does not exist. Its folder must.
        fixed: Secrets of further tokens, which allow everything.
        renews: Whether to create also a database that is lost although there have been tokens.

    Raises:
        Corruption: the file is not a token database, or it is lost.
        Unavailable: the disk does not answer.
    """

    def __init__(self, path: Path, fixed: Iterable[str] = (), *, renews: bool = False) -> None:
        self._path = path
        self._required_file = path.with_name(REQUIRED_FILE)
        self._lock = threading.Lock()
        self._fixed: dict[bytes, Token] = {}
        for secret in fixed:
            self.accept(secret)
        self._known: dict[bytes, Token] = {}
        self._version = -1
        self._asked_s = -UNCHANGED_S  # by the monotonic clock: when SQLite was asked last
        self._file: tuple[int, int] | None = None  # device and number
        self._has_had_tokens = False  # never false again once it is true
        with self._translating():
            self._connection = self._open(renews=renews)
            try:
                self._load()
                if self._known and not self._required_file.exists():  # made by an older version
                    self._require_tokens()
            except BaseException:
                self._connection.close()
                raise

    def accept(self, secret: str) -> None:
        """Let a secret allow everything, as those of the settings do, until `close`."""
        self._fixed[digest_of(secret)] = fixed_token(len(self._fixed) + 1)

    def create(
        self, name: str, permission: Permission, account: str | None = None
    ) -> tuple[Token, str]:
        """Make a token; return it and its secret, which is kept nowhere.

        Raises:
            InvalidInput: the name is empty or too long, or the account id malformed.
        """
        token, secret = new_token(name, permission, account)
        self.add(StoredToken(token, digest_of(secret)))
        return token, secret

    def add(self, stored: StoredToken) -> None:
        """Keep a token of another store, unless it is here already."""
        token = stored.token
        permission, created_at = token.permission.value, token.created_at.isoformat()
        with self._lock, self._translating():
            self._refresh()
            self._require_tokens()
            self._connection.execute(
                "INSERT OR IGNORE INTO token VALUES (?, ?, ?, ?, ?, ?)",
                (token.id, stored.digest, token.name, permission, token.account, created_at),
            )
            self._written()
        _wait_for_others()

    def stored(self) -> Sequence[StoredToken]:
        """Return the stored tokens with their digests, oldest first."""
        with self._lock, self._translating():
            self._refresh()
            stored = [StoredToken(token, digest) for digest, token in self._known.items()]
        return sorted(stored, key=lambda entry: (entry.token.created_at, entry.token.id))

    def list(self) -> Sequence[Token]:
        """Return the stored tokens, oldest first."""
        with self._lock, self._translating():
            self._refresh()
            return sorted(self._known.values(), key=lambda token: (token.created_at, token.id))

    def revoke(self, token_id: str) -> None:
        """Delete a token, for all processes at once. After the last one a token is still needed.

        Raises:
            NotFound: no stored token has this id.
        """
        with self._lock, self._translating():
            self._refresh()
            deleted = self._connection.execute("DELETE FROM token WHERE id = ?", (token_id,))
            self._written()
        if deleted.rowcount == 0:
            raise NotFound(f"no token has the id {token_id!r}")
        _wait_for_others()

    def disable(self) -> None:
        """Revoke all stored tokens; a process that opens them from now on needs no token.

        Raises:
            Unavailable: the disk does not answer.
        """
        with self._lock, self._translating():
            self._refresh()
            self._connection.execute("DELETE FROM token")
            self._written()
            self._required_file.unlink(missing_ok=True)
            sync_directory(self._required_file.parent)
        _wait_for_others()

    def has_tokens(self) -> bool:
        """Tell whether there is at least one token, stored or of the settings."""
        with self._lock, self._translating():
            self._refresh()
            return bool(self._known or self._fixed)

    def are_needed(self) -> bool:
        """Tell whether a token is needed: there is one, or has been."""
        return self.authenticate(None)[1]

    def authenticate(self, secret: str | None) -> tuple[Token | None, bool]:
        """Return the token with this secret, None if there is none, and whether one is needed.

        Raises:
            Corruption: the database is damaged, or gone although there have been tokens.
            Unavailable: the disk does not answer.
        """
        digest = b"" if secret is None else digest_of(secret)
        if digest in self._fixed:
            return self._fixed[digest], True
        with self._lock:
            try:
                self._refresh(UNCHANGED_S)
            except (sqlite3.DatabaseError, OSError, ValueError) as error:
                raise self._translated(error) from error
            return self._known.get(digest), self._has_had_tokens or bool(self._fixed)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def _open(self, *, renews: bool) -> sqlite3.Connection:
        is_there = self._path.exists() and self._path.stat().st_size > 0
        if not is_there and not renews and (self._has_had_tokens or self._required_file.exists()):
            raise Corruption(
                f"{self._path} is missing or empty, but there have been tokens: restore it, make "
                "new ones with 'vicinal token create', or do without with 'vicinal token disable'"
            )
        # The digests are safe to read, but the names are nobody else's business.
        private.make_file(self._path, 0o600)
        status = self._path.stat()
        if not stat.S_ISREG(status.st_mode):  # a link to a device, whose mode is not ours to change
            raise Corruption(f"{self._path} is no file")
        if status.st_mode & 0o077:
            self._path.chmod(0o600)
        self._file = status.st_dev, status.st_ino
        connection = sqlite3.connect(
            self._path, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            wal_mode.enter(connection, LOCK_TIMEOUT_S)
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(_SCHEMA)
            _empty_log(connection)
            return connection
        except BaseException:
            connection.close()
            raise

    def _refresh(self, unchanged_s: float = 0.0) -> None:
        """Read the table again if it has changed; SQLite is asked after `unchanged_s` seconds."""
        if not self._is_same():
            # No token is known until the new file has been read.
            self._known, self._version, self._file = {}, -1, None
            self._connection.close()
            self._connection = self._open(renews=False)
        now_s = time.monotonic()
        if self._version >= 0 and now_s - self._asked_s < unchanged_s:
            return  # `revoke` in another process returns when this is over
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._load()
            self._version = version
        self._asked_s = now_s

    def _written(self) -> None:
        """Know what this process has written."""
        _empty_log(self._connection)
        self._load()

    def _load(self) -> None:
        self._known = {}
        rows = self._connection.execute(
            "SELECT digest, id, name, permission, account, created_at FROM token"
        )
        known = {
            digest: Token(
                id_, name, Permission(permission), account, datetime.fromisoformat(created_at)
            )
            for digest, id_, name, permission, account, created_at in rows
        }
        self._has_had_tokens = self._has_had_tokens or bool(known) or self._required_file.exists()
        self._known = known

    def _is_same(self) -> bool:
        """Tell whether the database is the file that was opened, and something is in it."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        return status.st_size > 0 and (status.st_dev, status.st_ino) == self._file

    def _require_tokens(self) -> None:
        """Say durably that a token is needed."""
        descriptor = os.open(self._required_file, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            sync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(self._required_file.parent)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, OSError, ValueError) as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> Unavailable | Corruption:
        if isinstance(error, sqlite3.OperationalError | OSError):
            return Unavailable(f"cannot use {self._path}: {error}", retry_after=1.0)
        return Corruption(f"{self._path} is damaged: {error}")


def _empty_log(connection: sqlite3.Connection) -> None:
    """Write what is in SQLite's log into the database, unless another process reads for long: a log
    outlasts a database that is replaced or deleted."""
    with suppress(sqlite3.OperationalError):  # it is written to the log, and so not lost
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _wait_for_others() -> None:
    """Wait until no process takes the table for what it was."""
    time.sleep(UNCHANGED_S)


def digest_of(secret: str) -> bytes:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()


def now() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)
