"""The OpenAPI 3.1 document, generated from the types that read and write the wire.

The server describes each of its routes by one `Operation`; shapes come from the structs of
`shapes`, errors from `codes`. No shape is written down a second time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vicinal.errors import Error


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter of the URL. `schema` is a type that msgspec describes."""

    name: str
    schema: Any
    description: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: a method on a path, what it takes and what it returns.

    Path parameters are the ``{names}`` in `path`. `request` and `response` are structs of
    `shapes` (or any type that msgspec describes), None for no body or a null result.
    `request_types` are the media types the body is accepted in. `is_enveloped` tells whether
    the result comes in the REST envelope. `errors` are classes of ``vicinal.errors``.
    """

    method: str
    path: str
    operation_id: str
    summary: str
    request: Any = None
    response: Any = None
    errors: tuple[type[Error], ...] = ()
    parameters: tuple[Parameter, ...] = ()
    request_types: tuple[str, ...] = ("application/json",)
    is_enveloped: bool = True


def document(
    operations: Sequence[Operation], *, title: str, version: str, server_url: str
) -> bytes:
    """Return the document as JSON."""
    raise NotImplementedError
