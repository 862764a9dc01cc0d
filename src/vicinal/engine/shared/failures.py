"""Failures as the driver and the server tell them, as errors of this package.

An error tells whether the same transaction may succeed on another connection (`Lost`),
and, when time is up, whether what was to be done may have been done.
"""

import logging

import asyncpg

from vicinal.errors import Corruption, Error, ResourceExhausted, Unavailable, reason_of

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 1.0  # what clients are told; ours


class Lost(Unavailable):
    """The connection, or the server's will to go on, is lost; on another connection the same
    transaction may succeed. Whether a COMMIT that was under way took place is not known."""


def given_up(error: Error, *, may_be_done: bool) -> Unavailable:
    """Return what to tell a caller when time is up.

    Args:
        error: The last obstacle.
        may_be_done: Whether a COMMIT was sent whose answer is not known.
    """
    outcome = (
        "; whether the change was made is not known: it may appear, so make sure before "
        "you make it again"
        if may_be_done
        else "; nothing was changed"
    )
    return Unavailable(f"{error}{outcome}", retry_after=RETRY_AFTER_S)


DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # Of a connection that the server has ended, before the driver has seen its end.
    asyncpg.InternalClientError,
    OSError,
)


def translated(error: Exception, where: str = "it") -> Error:
    """Return one of `DRIVER_ERRORS` as an error of this package."""
    if isinstance(error, asyncpg.InternalClientError):
        return Lost(f"the database has ended the connection: {error}", retry_after=RETRY_AFTER_S)
    if not isinstance(error, asyncpg.PostgresError):
        reason = reason_of(error)
        return Lost(f"the database cannot be reached ({where}): {reason}", retry_after=1.0)
    state = error.sqlstate or ""
    if state == "53100":
        return ResourceExhausted(f"the database's disk is full: {error}", retry_after=1.0)
    if state in ("XX001", "XX002"):
        return Corruption(f"the database has found damage: {error}")
    if state in _PASSING or state[:2] in _PASSING:
        return Lost(f"the database gave up: {error}", retry_after=RETRY_AFTER_S)
    known = _REASONS.get(state) or _REASONS.get(state[:2])
    if known is None:
        logger.error("the database refused a statement", exc_info=error)
    return Unavailable(f"{known or 'the database refused a statement'}: {error}")


_PASSING = frozenset(
    (
        "08",  # the connection failed
        "25006",  # read-only: no longer, or not yet, the primary
        "25P03",  # the node paused too long in a transaction
        "40",  # a deadlock, or a serialization failure
        "53200",  # out of memory
        "53300",  # too many connections
        "55P03",  # a lock was not to be had in time
        "57",  # stopped, starting, or a statement ran out of time
        "58",  # the server's own system failed
    )
)
"""SQLSTATEs and their classes after which the same transaction may succeed."""

_REASONS = {
    "28": "the database refuses the user or password of the setting 'database'",
    "3D000": "the database of the setting 'database' does not exist",
    "3F000": "the schema of the setting 'database_schema' does not exist",
    "42501": "the database's user lacks a right",
    "42P01": "the tables of the setting 'database_schema' are missing",
}
