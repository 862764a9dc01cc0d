"""Errors on the wire: the status, the code and the text of every class of ``errors``.

The only module that knows HTTP statuses and the platform's numeric codes. Codes and texts
are those seen from the live service; the ones marked `ours` fill gaps, and are taken from
the upper end of the 400xx family, where no live code is known. A subclass without a row of
its own gets its parent's; a test fails when a class of ``errors`` has none at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vicinal import errors
from vicinal.model import IndexCoverage, IndexType, QueryResult


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """The answer to an error. `retry_after` is in seconds."""

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
class ErrorCode:
    """The answer to one class of errors; the message of the error replaces ``%s`` in `text`."""

    status: int
    code: int
    text: str = "%s"


CODES: Mapping[type[errors.Error], ErrorCode] = MappingProxyType(
    {
        errors.Error: ErrorCode(500, 40099),  # ours
        errors.InvalidInput: ErrorCode(400, 40026),
        errors.BadFile: ErrorCode(400, 40026),  # of imports, which answer no request
        errors.BadRecord: ErrorCode(400, 40023),
        errors.WrongDimensions: ErrorCode(400, 40012),
        errors.BadQueryVector: ErrorCode(400, 40006),
        errors.IdTooLong: ErrorCode(400, 40008),
        errors.NamespaceTooLong: ErrorCode(400, 40009),
        errors.MetadataTooLarge: ErrorCode(400, 40016),
        errors.BadMetadataKey: ErrorCode(400, 40018),
        errors.TooManyIds: ErrorCode(400, 40007),
        errors.TooManyVectors: ErrorCode(400, 40091),  # ours
        errors.BadTopK: ErrorCode(400, 40025),
        errors.BadBody: ErrorCode(400, 40026),
        errors.BadParameter: ErrorCode(400, 40092),  # ours
        errors.BadContentType: ErrorCode(400, 1005, "vectorize.unknown_content_type - %s"),
        errors.BodyTooLarge: ErrorCode(413, 40093),  # ours
        errors.BadIndexConfig: ErrorCode(400, 40090, "vectorize.index.invalid_config - %s"),  # ours
        errors.BadFilter: ErrorCode(400, 40094),  # ours
        errors.BadRanking: ErrorCode(400, 40085),  # ours
        errors.EmptyFilterValue: ErrorCode(400, 40030),
        # Clients list again when they read these words.
        errors.BadCursor: ErrorCode(400, 40052, "List vectors cursor appears to be corrupted - %s"),
        errors.LimitExceeded: ErrorCode(400, 40096),  # ours
        errors.BadStatement: ErrorCode(400, 7500),
        # wrangler begins a new session when it reads these words.
        errors.UnknownSession: ErrorCode(400, 10049, "Invalid Workers Preview configuration: %s"),
        errors.BadEmbeddingInput: ErrorCode(400, 5006, "AiError: Bad input: %s"),
        errors.BadEmbeddingBody: ErrorCode(400, 5004, "AiError: Invalid data: %s"),
        errors.BadGenerationInput: ErrorCode(400, 5006, "AiError: Bad input: %s"),
        errors.BadGenerationBody: ErrorCode(400, 5004, "AiError: Invalid data: %s"),
        errors.NotFound: ErrorCode(404, 7003),
        errors.IndexNotFound: ErrorCode(404, 3000, 'vectorize.index.not_found - Index name "%s"'),
        errors.MetadataIndexNotFound: ErrorCode(400, 40005),
        errors.ModelNotFound: ErrorCode(400, 5007),
        errors.DatabaseNotFound: ErrorCode(404, 7404),
        errors.RouteNotFound: ErrorCode(
            404, 7003, "Could not route to %s, perhaps your object identifier is invalid?"
        ),
        errors.MethodNotAllowed: ErrorCode(405, 7001, "Method %s not available for that URI."),
        errors.AlreadyExists: ErrorCode(400, 3002),
        errors.IndexExists: ErrorCode(
            400, 3002, 'vectorize.index.duplicate_name - Index name "%s"'
        ),
        errors.Denied: ErrorCode(403, 10000, "Authentication error: %s"),
        errors.Unauthenticated: ErrorCode(401, 9106, "Authentication error: %s"),
        # wrangler asks both when a call was refused, and expects these codes and no others.
        errors.InvalidToken: ErrorCode(401, 1000, "Invalid API Token: %s"),
        errors.UnknownUser: ErrorCode(401, 9109, "Invalid access token: %s"),
        errors.Forbidden: ErrorCode(403, 10000, "Authentication error: %s"),
        errors.ForeignHost: ErrorCode(403, 40087),  # ours
        errors.ForeignOrigin: ErrorCode(403, 40088),  # ours
        errors.Unavailable: ErrorCode(503, 40097),  # ours
        errors.ResourceExhausted: ErrorCode(503, 40089),  # ours
        errors.Overloaded: ErrorCode(429, 40041, "Too Many Requests: %s"),
        errors.GenerationFailed: ErrorCode(
            502, 3043, "AiError: %s"
        ),  # the platform's status is 500
        errors.Corruption: ErrorCode(500, 40098),  # ours
    }
)
"""Class of ``errors`` -> its answer."""

_MESSAGE_CHARS_MAX = 2_000  # a message may quote a text as long as a body

INTERNAL = ErrorResponse(500, CODES[errors.Error].code, "internal error")
"""The answer to an exception of any other kind: a defect, whose trace belongs in the log."""


def response_for(error: errors.Error) -> ErrorResponse:
    """Return the answer to `error`."""
    row = next(CODES[class_] for class_ in type(error).__mro__ if class_ in CODES)
    has_name = (errors.IndexNotFound, errors.IndexExists)
    message = row.text % (error.name if isinstance(error, has_name) else str(error),)
    if len(message) > _MESSAGE_CHARS_MAX:
        message = f"{message[:_MESSAGE_CHARS_MAX]}..."
    retry_after = error.retry_after if isinstance(error, errors.Unavailable) else None
    return ErrorResponse(row.status, row.code, message, retry_after)


def notices_for(result: QueryResult) -> tuple[Message, ...]:
    """Return the messages beside the result of a query."""
    unindexed = [
        Message(
            CODES[errors.BadFilter].code,
            f"the filter on {name!r} matches nothing: the property has no metadata index",
        )
        for name in result.unindexed
    ]
    partial = [
        Message(
            CODES[errors.BadFilter].code,
            f"{_reader_of(coverage)} {coverage.metadata_index.property_name!r} knows "
            f"{coverage.covered_count} of {coverage.vector_count} vectors: the others are older "
            "than the metadata index; create it again with backfill",
        )
        for coverage in result.partial
    ]
    ignored = [_TEXT_IGNORED] if result.is_text_ignored else []
    return (*unindexed, *partial, *ignored)


_TEXT_IGNORED = Message(
    CODES[errors.BadRanking].code,
    "the text of the query was not searched for: the index has no text index",
)


def _reader_of(coverage: IndexCoverage) -> str:
    is_text = coverage.metadata_index.index_type is IndexType.TEXT
    return "the search for words in" if is_text else "the filter on"
