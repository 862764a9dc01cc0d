"""The bodies of insert and upsert: bytes in any of their forms to one batch of vectors."""

from vicinal.limits import Limits
from vicinal.model import VectorBatch


def read(
    body: bytes | bytearray | memoryview,
    content_type: str | None,
    dimensions: int,
    limits: Limits,
    *,
    discard: bool = False,
) -> VectorBatch:
    """Read a whole batch or raise; nothing of a refused batch is returned.

    Args:
        body: NDJSON, JSON, a JSON string of NDJSON, or multipart holding one of these.
        content_type: The header, consulted only when the bytes are in no known form.
        dimensions: The length every vector must have.
        limits: Bounds on ids, namespaces, metadata and the number of vectors.
        discard: Drop what does not parse as a vector record instead of refusing the batch.

    Raises:
        BadRecord: a record does not parse as a vector; the message names line, id and rule.
        WrongDimensions, IdTooLong, NamespaceTooLong, MetadataTooLarge: a record breaks a bound.
        TooManyVectors: there are more records than the limit.
        BadContentType: the body is in no known form.
    """
    raise NotImplementedError
