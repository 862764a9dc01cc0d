"""What each error looks like on the wire: status, code and text.

The only place that knows HTTP statuses and the platform's numeric codes. Codes and texts
are those seen from the live service; the ones marked `ours` fill gaps, and are taken from
the upper end of the 400xx family, where no live code is known. A subclass without a row of
its own gets its parent's; a test fails when a class of ``errors`` has none at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vicinal import errors
from vicinal.model import QueryResult


@dataclass(frozen=True, slots=True)
class Answer:
    """An error as the wire shows it. `retry_after` is in seconds."""

    status: int
    code: int
    message: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """An item of the ``messages`` of a successful answer."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Row:
    """How one class of errors is answered; its message goes where `text` says."""

    status: int
    code: int
    text: str = "%s"


ROWS: Mapping[type[errors.Error], Row] = MappingProxyType(
    {
        errors.Error: Row(500, 40099),  # ours
        errors.InvalidInput: Row(400, 40026),
        errors.BadRecord: Row(400, 40023),
        errors.WrongDimensions: Row(400, 40012),
        errors.BadQueryVector: Row(400, 40006),
        errors.IdTooLong: Row(400, 40008),
        errors.NamespaceTooLong: Row(400, 40009),
        errors.MetadataTooLarge: Row(400, 40016),
        errors.BadMetadataKey: Row(400, 40018),
        errors.TooManyIds: Row(400, 40007),
        errors.TooManyVectors: Row(400, 40091),  # ours
        errors.BadTopK: Row(400, 40025),
        errors.BadBody: Row(400, 40026),
        errors.BadParameter: Row(400, 40092),  # ours
        errors.BadContentType: Row(400, 1005, "vectorize.unknown_content_type - %s"),
        errors.BodyTooLarge: Row(413, 40093),  # ours
        errors.BadIndexConfig: Row(400, 40090, "vectorize.index.invalid_config - %s"),  # ours
        errors.BadFilter: Row(400, 40094),  # ours
        errors.EmptyFilterValue: Row(400, 40030),
        # Clients list again when they read these words.
        errors.BadCursor: Row(400, 40052, "List vectors cursor appears to be corrupted - %s"),
        errors.LimitExceeded: Row(400, 40096),  # ours
        errors.BadStatement: Row(400, 7500),
        # wrangler begins a new session when it reads these words.
        errors.UnknownSession: Row(400, 10049, "Invalid Workers Preview configuration: %s"),
        errors.BadEmbeddingInput: Row(400, 5006, "AiError: Bad input: %s"),
        errors.BadEmbeddingBody: Row(400, 5004, "AiError: Invalid data: %s"),
        errors.BadGenerationInput: Row(400, 5006, "AiError: Bad input: %s"),
        errors.BadGenerationBody: Row(400, 5004, "AiError: Invalid data: %s"),
        errors.NotFound: Row(404, 7003),
        errors.IndexNotFound: Row(404, 3000, 'vectorize.index.not_found - Index name "%s"'),
        errors.MetadataIndexNotFound: Row(400, 40005),
        errors.ModelNotFound: Row(400, 5007),
        errors.DatabaseNotFound: Row(404, 7404),
        errors.RouteNotFound: Row(
            404, 7003, "Could not route to %s, perhaps your object identifier is invalid?"
        ),
        errors.MethodNotAllowed: Row(405, 7001, "Method %s not available for that URI."),
        errors.AlreadyExists: Row(400, 3002),
        errors.IndexExists: Row(400, 3002, 'vectorize.index.duplicate_name - Index name "%s"'),
        errors.Denied: Row(403, 10000, "Authentication error: %s"),
        errors.Unauthenticated: Row(401, 9106, "Authentication error: %s"),
        # wrangler asks both when a call was refused, and expects these codes and no others.
        errors.InvalidToken: Row(401, 1000, "Invalid API Token: %s"),
        errors.UnknownUser: Row(401, 9109, "Invalid access token: %s"),
        errors.Forbidden: Row(403, 10000, "Authentication error: %s"),
        errors.ForeignHost: Row(403, 40087),  # ours
        errors.ForeignOrigin: Row(403, 40088),  # ours
        errors.Unavailable: Row(503, 40097),  # ours
        errors.ResourceExhausted: Row(503, 40089),  # ours
        errors.Overloaded: Row(429, 40041, "Too Many Requests: %s"),
        errors.GenerationFailed: Row(502, 3043, "AiError: %s"),  # the platform's status is 500
        errors.Corruption: Row(500, 40098),  # ours
    }
)
"""Every class of ``errors`` and its answer."""

_MESSAGE_CHARS_MAX = 2_000  # what is quoted in a message may be as long as a body

INTERNAL = Answer(500, ROWS[errors.Error].code, "internal error")
"""The answer to an exception that is not ours: a defect, whose trace belongs in the log."""


def answer_for(error: errors.Error) -> Answer:
    """Return what the wire shows for `error`."""
    row = next(ROWS[each] for each in type(error).__mro__ if each in ROWS)
    has_name = (errors.IndexNotFound, errors.IndexExists)
    message = row.text % (error.name if isinstance(error, has_name) else str(error),)
    if len(message) > _MESSAGE_CHARS_MAX:
        message = f"{message[:_MESSAGE_CHARS_MAX]}..."
    retry_after = error.retry_after if isinstance(error, errors.Unavailable) else None
    return Answer(row.status, row.code, message, retry_after)


def notices_for(result: QueryResult) -> tuple[Message, ...]:
    """Return what a caller should be told about a query that was answered."""
    return tuple(
        Message(
            ROWS[errors.BadFilter].code,
            f"the filter on {name!r} matches nothing: the property has no metadata index",
        )
        for name in result.unindexed
    )
