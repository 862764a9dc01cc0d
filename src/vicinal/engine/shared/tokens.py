"""API tokens in the database that servers share, instead of in a data folder.

A server keeps them in memory and reads them again every `REFRESH_S`: a token that one revokes is
worthless everywhere within that time, but where the database does not answer. Once there has been a
token one is needed, as ``cluster`` says, until `SharedTokens.disable`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime

import msgspec

from vicinal.engine.shared import schema
from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.session import Session
from vicinal.errors import Corruption, Error, NotFound
from vicinal.tokens import Permission, StoredToken, Token, digest_of, fixed_token, new_token

logger = logging.getLogger(__name__)

REFRESH_S = 1.0  # ours
WRITE_DEADLINE_S = 30.0  # ours


class _TokenDocument(msgspec.Struct, frozen=True):
    digest: bytes
    name: str
    permission: Permission
    account: str | None
    created_at: datetime


class SharedTokens:
    """Implements `tokens.TokenStore` over a database.

    Args:
        dsn: Of the database.
        schema_name: Of the tables in it.
        fixed: Secrets of further tokens, which allow everything.

    Raises:
        Unavailable: the database cannot be used.
    """

    def __init__(self, dsn: str, schema_name: str, fixed: Iterable[str] = ()) -> None:
        self._fixed: dict[bytes, Token] = {}
        for secret in fixed:
            self.accept(secret)
        self._known: dict[bytes, Token] = {}
        self._needs_token = False
        self._database = PostgresDatabase(dsn, schema_name)
        try:
            schema.prepare(self._database)
            self._database.run_coroutine(self._load())
        except BaseException:
            self._database.close()
            raise
        self._refreshing = self._database.submit(self._refresh())

    def accept(self, secret: str) -> None:
        """See `tokens.TokenStore`."""
        self._fixed[digest_of(secret)] = fixed_token(len(self._fixed) + 1)

    def create(
        self, name: str, permission: Permission, account: str | None = None
    ) -> tuple[Token, str]:
        """See `tokens.TokenStore`."""
        token, secret = new_token(name, permission, account)
        self.add(StoredToken(token, digest_of(secret)))
        return token, secret

    def add(self, stored: StoredToken) -> None:
        """See `tokens.TokenStore`."""
        token = stored.token
        document = msgspec.json.encode(
            _TokenDocument(
                stored.digest, token.name, token.permission, token.account, token.created_at
            )
        )

        async def insert(session: Session, _may_be_done: bool) -> None:
            await session.execute("UPDATE vicinal.cluster SET needs_token = true")
            await session.execute(
                "INSERT INTO vicinal.token VALUES ($1, $2) ON CONFLICT DO NOTHING",
                token.id,
                document,
            )

        self._database.run_coroutine(self._change(insert))

    def stored(self) -> Sequence[StoredToken]:
        """See `tokens.TokenStore`."""
        self._database.run_coroutine(self._load())
        stored = [StoredToken(token, digest) for digest, token in self._known.items()]
        return sorted(stored, key=lambda entry: (entry.token.created_at, entry.token.id))

    def list(self) -> Sequence[Token]:
        """See `tokens.TokenStore`."""
        self._database.run_coroutine(self._load())
        return sorted(self._known.values(), key=lambda token: (token.created_at, token.id))

    def revoke(self, token_id: str) -> None:
        """See `tokens.TokenStore`; for all servers within `REFRESH_S`."""

        async def delete(session: Session, may_be_done: bool) -> None:
            tag = await session.execute("DELETE FROM vicinal.token WHERE token_id = $1", token_id)
            if tag == "DELETE 0" and not may_be_done:
                raise NotFound(f"no token has the id {token_id!r}")
            # Also when it was done before: COMMIT then waits until standbys have that.
            await session.execute("UPDATE vicinal.cluster SET needs_token = needs_token")

        self._database.run_coroutine(self._change(delete))

    def disable(self) -> None:
        """See `tokens.TokenStore`."""

        async def delete_all(session: Session, _may_be_done: bool) -> None:
            await session.execute("DELETE FROM vicinal.token")
            await session.execute("UPDATE vicinal.cluster SET needs_token = false")

        self._database.run_coroutine(self._change(delete_all))

    def has_tokens(self) -> bool:
        """See `tokens.TokenStore`."""
        return bool(self._known or self._fixed)

    def are_needed(self) -> bool:
        """See `tokens.TokenStore`."""
        return self._needs_token or bool(self._fixed)

    def authenticate(self, secret: str | None) -> tuple[Token | None, bool]:
        """See `tokens.TokenStore`."""
        digest = b"" if secret is None else digest_of(secret)
        return self._fixed.get(digest) or self._known.get(digest), self.are_needed()

    def close(self) -> None:
        """See `tokens.TokenStore`."""
        self._database.close()

    # In the database's thread.

    async def _change(self, change: Callable[[Session, bool], Awaitable[None]]) -> None:
        await self._database.persist(change, Use.APPEND, time.monotonic() + WRITE_DEADLINE_S)
        await self._load()

    async def _load(self) -> None:
        is_needed, rows = await self._database.read(_fetch)
        known: dict[bytes, Token] = {}
        for token_id, raw in rows:
            try:
                document = msgspec.json.decode(raw, type=_TokenDocument)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise Corruption(f"token {token_id!r} cannot be read: {error}") from error
            created_at = document.created_at.astimezone(UTC)
            known[document.digest] = Token(
                token_id, document.name, document.permission, document.account, created_at
            )
        # As with a data folder, only a start notices that no token is needed any more.
        self._needs_token = self._needs_token or is_needed
        self._known = known

    async def _refresh(self) -> None:
        is_away = False
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self._load()
                is_away = False
            except Error as error:
                if not is_away:
                    logger.warning("tokens are not read again for now: %s", error)
                is_away = True


async def _fetch(session: Session) -> tuple[bool, Sequence[tuple[str, bytes]]]:
    """Return whether a token is needed, and the rows of all tokens."""
    (is_needed,) = await session.fetchrow("SELECT needs_token FROM vicinal.cluster")
    rows = await session.fetch("SELECT token_id, document FROM vicinal.token")
    return is_needed, [(row["token_id"], row["document"]) for row in rows]
