"""The remote bindings of Miniflare: one URL for all bindings, unwrapped to `binding`'s paths.

    POST /miniflare/ACCOUNT?token=TOKEN&index.VECTORIZE=docs&index.FAQ=faq
    MF-Binding: VECTORIZE
    MF-URL: http://vector-search/query
    MF-Header-Content-Type: application/json

Method and body are those of the binding's own request; its URL and headers are wrapped.
Miniflare knows the name of a binding but not of its index, so the connection string has to
map them. A session of `remote_session` has the same mapping under a token.

Before a call Miniflare may try to open a WebSocket, to speak RPC. Nothing here does, and
its bindings for indexes and AI do without; `websocket` refuses the attempt.
"""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from vicinal.errors import BadParameter, RouteNotFound
from vicinal.server.api import auth
from vicinal.server.http.asgi import Headers
from vicinal.server.workers import binding
from vicinal.server.workers.sessions import Bindings

_PREFIX = b"/miniflare/"
_WRAPPED = b"mf-header-"
_INDEX = "index."
_PARAMETERS_MAX = 256
_FRAMING = (b"content-length", b"transfer-encoding", b"expect")
_INDEX_PATHS = frozenset(route.operation.path for route in binding.INDEX_ROUTES)
_AI_PATHS = frozenset(route.operation.path for route in binding.AI_ROUTES)


def is_connection(raw_path: bytes) -> bool:
    """Tell whether a path is that of a connection string."""
    return raw_path.startswith(_PREFIX)


def connection(raw_path: bytes, query_string: bytes) -> Bindings:
    """Read a connection string.

    Raises:
        RouteNotFound: there is more in the path than an account.
        BadParameter: the query string cannot be read.
    """
    account = unquote(raw_path.removeprefix(_PREFIX).decode("latin-1")).removesuffix("/")
    if not account or "/" in account:
        raise RouteNotFound(raw_path.decode("latin-1"))
    try:
        parameters = dict(parse_qsl(query_string.decode("latin-1"), max_num_fields=_PARAMETERS_MAX))
    except ValueError as error:
        raise BadParameter(f"the connection string cannot be read: {error}") from None
    token = parameters.get("token")
    return Bindings(
        account,
        None if token is None else b"Bearer " + token.encode(),
        {
            name.removeprefix(_INDEX): index
            for name, index in parameters.items()
            if name.startswith(_INDEX)
        },
    )


def unwrap(headers: Headers, bindings: Bindings) -> tuple[bytes, bytes, Headers]:
    """Return path, query string and headers of the request wrapped in one to a remote binding.

    Raises:
        BadParameter: nothing is wrapped in it, or its binding is not mapped to an index.
        RouteNotFound: the binding asks for something that neither an index nor AI has.
    """
    url = headers.get(b"mf-url", b"").decode("latin-1")
    if not url:
        raise BadParameter(
            "this is a URL for the remote bindings of Miniflare, which send the header MF-URL; "
            "it is not in this request"
        )
    try:
        target = urlsplit(url)
    except ValueError as error:
        raise BadParameter(f"the header MF-URL, {url[:100]!r}, is no URL: {error}") from None
    name = headers.get(b"mf-binding", b"").decode("latin-1")
    if target.path not in _INDEX_PATHS | _AI_PATHS:
        raise RouteNotFound(f"{target.path}, asked for by the binding {name!r}")
    inner = {
        header.removeprefix(_WRAPPED): value
        for header, value in headers.items()
        if header.startswith(_WRAPPED)
    }
    # How the body is sent is said by the outer request, and who may send it by us.
    for header in (*_FRAMING, *auth.HEADERS, binding.INDEX_HEADER):
        inner.pop(header, None)
    inner |= {header: headers[header] for header in _FRAMING if header in headers}
    inner[binding.ACCOUNT_HEADER] = bindings.account.encode()
    if bindings.authorization is not None:
        inner[b"authorization"] = bindings.authorization
    else:
        inner |= {header: headers[header] for header in auth.HEADERS if header in headers}
    if target.path in _INDEX_PATHS:
        inner[binding.INDEX_HEADER] = _index_of(name, bindings.indexes).encode()
    return target.path.encode(), target.query.encode(), inner


def _index_of(name: str, indexes: Mapping[str, str]) -> str:
    if name not in indexes:
        mapped = ", ".join(indexes) or "no binding"
        raise BadParameter(
            f"the connection string does not say which index the binding {name!r} is for: "
            f"it maps {mapped}; add index.{_shown(name)}=INDEX"
        )
    return indexes[name]


def _shown(name: str) -> str:
    return name if re.fullmatch(r"\w{1,64}", name) else "BINDING"
