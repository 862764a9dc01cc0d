"""The bodies of a remote session: the requests of ``wrangler dev`` that begin one, and the answers.

Before it runs a Worker with remote bindings, wrangler uploads a small Worker of its own that
has these bindings. Its metadata is the only place where the names of the bindings and of the
indexes meet.
"""

from collections.abc import Mapping

import msgspec

from vicinal.errors import BadBody
from vicinal.limits import Limits
from vicinal.wire import multipart
from vicinal.wire.members import Malformed, Text

_encode = msgspec.json.Encoder().encode


class _Binding(msgspec.Struct):
    name: str
    type: str
    index_name: str | None = None


class _Metadata(msgspec.Struct):
    bindings: list[_Binding] = []


class SessionSchema(msgspec.Struct):
    """The permission to upload; it has no address to be exchanged at."""

    token: str


class SubdomainSchema(msgspec.Struct):
    """The subdomain of the uploaded Workers of an account."""

    subdomain: str


class PreviewSchema(msgspec.Struct):
    """The token that is sent with every call of the uploaded Worker."""

    preview_token: str


def index_bindings(body: Text, limits: Limits) -> Mapping[str, str]:
    """Return binding -> index of an uploaded Worker.

    Bindings of other types are left out.

    Raises:
        BadBody: there is no metadata of the expected shape in the body.
    """
    try:
        part = multipart.part(body, "metadata", limits.multipart_parts_max)
        metadata = msgspec.json.decode(part, type=_Metadata)
    except UnicodeDecodeError as error:
        raise BadBody(
            f"the uploaded Worker's metadata is not UTF-8 at byte {error.start}"
        ) from None
    except RecursionError:
        raise BadBody("the uploaded Worker's metadata is nested too deeply") from None
    except (Malformed, msgspec.DecodeError) as error:
        raise BadBody(f"the uploaded Worker's metadata cannot be read: {error}") from None
    return {
        binding.name: binding.index_name
        for binding in metadata.bindings
        if binding.type == "vectorize" and binding.index_name
    }


def session(token: str) -> bytes:
    """Write the permission to upload."""
    return _encode(SessionSchema(token))


def subdomain(name: str) -> bytes:
    """Write the subdomain of uploaded Workers."""
    return _encode(SubdomainSchema(name))


def preview(token: str) -> bytes:
    """Write the token that calls have to carry."""
    return _encode(PreviewSchema(token))
