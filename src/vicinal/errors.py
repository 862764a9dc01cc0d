"""Every error this package raises, as one tree.

Errors say what happened, with the value, the bound and the place; never which HTTP
status that deserves: only ``wire/codes.py`` knows, and its test fails when a class has
no answer. A failed ``assert`` is not in this tree on purpose: it means our own code is
wrong, and must reach the top and be logged with its trace.
"""


class Error(Exception):
    """The root: anything this package raises on purpose."""


def untraced(error: Error) -> Error:
    """Return the same error without its traceback and its causes, to be kept or raised again.

    A traceback keeps the variables of all its frames, and each raising adds to it: what a kept
    error was raised with would stay in memory, and files of a closed index open.
    """
    copied = type(error).__new__(type(error), *error.args)
    copied.__dict__.update(error.__dict__)
    return copied


def reason_of(error: Exception) -> str:
    """Return what an error says, or its kind where that is nothing, as of a broken connection."""
    return str(error) or type(error).__name__


class InvalidInput(Error):
    """The request can never succeed as written.

    Raised before anything is logged: every mutation of the log has been accepted, so replay
    never has to refuse one.
    """


class BadRecord(InvalidInput):
    """A record of an insert or upsert body does not parse as a vector."""


class WrongDimensions(InvalidInput):
    """A vector to be stored has another length than the index's dimensions."""


class BadQueryVector(InvalidInput):
    """The vector of a query has another length than the index's dimensions."""


class IdTooLong(InvalidInput):
    """A vector id is longer than the limit, in UTF-8 bytes."""


class NamespaceTooLong(InvalidInput):
    """A namespace is longer than the limit, in UTF-8 bytes."""


class MetadataTooLarge(InvalidInput):
    """A vector's metadata is larger than the limit, in bytes of compact JSON."""


class BadMetadataKey(InvalidInput):
    """A key in a vector's metadata is empty, or has characters that paths of filters need."""


class TooManyIds(InvalidInput):
    """One call names more ids than the limit."""


class TooManyVectors(InvalidInput):
    """One batch holds more vectors than the limit."""


class BadTopK(InvalidInput):
    """topK is over what the options of the query allow."""


class BadBody(InvalidInput):
    """A JSON body does not parse, or a member of it is missing or of the wrong type."""


class BadParameter(InvalidInput):
    """A query parameter of the URL is not what the operation takes."""


class BadContentType(InvalidInput):
    """A vectors body is in none of the forms that are understood."""


class BodyTooLarge(InvalidInput):
    """The body has more bytes than one request may carry."""


class BadIndexConfig(InvalidInput):
    """An index cannot be created with this name, dimensions, metric or preset."""


class BadFilter(InvalidInput):
    """A filter is outside the grammar; the message names the key and the rule."""


class EmptyFilterValue(BadFilter):
    """A key of a filter has no value: an empty object or array stands where one should."""


class BadRanking(InvalidInput):
    """A query wants a ranking that the index cannot give: it lacks a text index, or a property."""


class BadCursor(InvalidInput):
    """A list cursor is unknown, belongs to another index or has expired."""


class LimitExceeded(InvalidInput):
    """An index or account would hold one more of something than it may."""


class BadStatement(InvalidInput):
    """A SQL statement that SQLite refuses, or that exceeds a bound."""


class UnknownSession(InvalidInput):
    """A remote session is over, or was begun before the server was restarted."""


class BadEmbeddingInput(InvalidInput):
    """An embedding request does not match what the model takes."""


class BadEmbeddingBody(InvalidInput):
    """The body of an embedding request does not parse as JSON."""


class BadGenerationInput(InvalidInput):
    """A request for text does not match what can be passed on, or the service refuses it."""


class BadGenerationBody(InvalidInput):
    """The body of a request for text does not parse as JSON."""


class BadFile(InvalidInput):
    """A file to import is in no form that is read, is cut off, or has changed meanwhile."""


class NotFound(Error):
    """A named thing does not exist."""


class IndexNotFound(NotFound):
    """No index has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no index is named {name!r}")
        self.name = name


class MetadataIndexNotFound(NotFound):
    """The index has no metadata index on this property."""


class ModelNotFound(NotFound):
    """No model of this name can be run here."""


class DatabaseNotFound(NotFound):
    """No SQL database has this id, or none can have it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no database has the id {name[:80]!r}")


class RouteNotFound(NotFound):
    """Nothing answers at this path. The message is the path."""


class MethodNotAllowed(NotFound):
    """Something answers at this path, but not with this method. The message is the method."""


class AlreadyExists(Error):
    """A name is taken."""


class IndexExists(AlreadyExists):
    """An index of this name exists already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"an index is already named {name!r}")
        self.name = name


class Denied(Error):
    """The credentials do not allow this."""


class Unauthenticated(Denied):
    """There is no token, or it is not one of ours."""


class InvalidToken(Unauthenticated):
    """The token that a caller asks about is not one of ours."""


class UnknownUser(Unauthenticated):
    """The token of a caller who asks whose it is, is not one of ours."""


class Forbidden(Denied):
    """The token is known but lacks the permission."""


class ForeignHost(Denied):
    """The request calls the server by a name that is not known to be its own."""


class ForeignOrigin(Denied):
    """A web page of another site has sent the request, and that site is not allowed to."""


class Unavailable(Error):
    """Nothing is wrong with the request; it may succeed later.

    Args:
        message: The reason.
        retry_after: Seconds after which to try again, or None when only a person can help.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


MEMTABLES = "memtables"
"""The `Overloaded.queue` of vectors that wait to be sealed, which lasts tenths of a second."""


class Overloaded(Unavailable):
    """More work is queued than memory is reserved for.

    Args:
        queue: A word for the bound that is met, for metrics; never a caller's text.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, queue: str = "") -> None:
        super().__init__(message, retry_after=retry_after)
        self.queue = queue


class GenerationFailed(Unavailable):
    """The service that generates text cannot be reached, fails, or answers with nonsense."""


class ResourceExhausted(Unavailable):
    """Disk space or file handles have run out; work goes on by itself when some are free again."""


class Corruption(Error):
    """Bytes on disk are not what was written. Nothing is removed; a person has to decide."""
