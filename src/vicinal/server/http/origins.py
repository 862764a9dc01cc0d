"""Origins: which web pages may use the server, and by which names it may be called.

A browser on this machine is a way around the loopback address: any page that it shows can send
requests here, many of them without asking first (a form, an image, ``fetch`` with a text body),
and a page whose own name is made to point at 127.0.0.1 can read the answers, too. Two headers
give them away, as no page can change them: ``Origin`` and ``Sec-Fetch-Site`` say which site
asks, ``Host`` says by which name it found the server.

While no token is needed, a request of another site, or by a name that is not this machine's, is
refused on every route before anything else of it is read. Where a token is needed the token
protects: a page has none that it was not given. Other programs (curl, the SDKs, Workers) send no
``Origin``.

An allowed origin gets the headers of CORS, also with errors; any other gets none.

This module does not know the operations, only whether a binding of a Worker asks.
"""

import re
from collections.abc import Iterable, Sequence

from vicinal.errors import Denied, ForeignHost, ForeignOrigin
from vicinal.server.http.asgi import Scope
from vicinal.server.http.framing import Headers, values
from vicinal.sites import is_loopback, name_in

PREFLIGHT_S_MAX = 600  # ours: how long a browser may remember the answer to a preflight
REQUESTED_BYTES_MAX = 4_096  # ours: of the names of headers that a preflight asks for

BINDING_HOSTS = frozenset((b"vector-search", b"workers-binding.ai"))
"""Names that the Workers runtime gives to the server behind its bindings. A browser would put the
port behind them, unless that is 80."""

TOOL_HOSTS = frozenset(("host.docker.internal", "host.containers.internal"))
"""Names that containers give to the machine that they run on. Other networks may give them to
anybody, so no page is taken for the server's own because it has such a name."""

_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")

_SAME = (b"same-origin", b"none")  # "none" is a person's own doing, like an address typed in
_METHODS = b"GET, HEAD, POST, PUT, DELETE, OPTIONS"
_ASKED_FOR = (
    b"Authorization, Content-Type, Prefer, Vicinal-Effort, Vicinal-Explain, "
    b"Vicinal-Filter, X-Auth-Email, "
    b"X-Auth-Key"
)
_EXPOSED = b"Allow, CF-Ray, Preference-Applied, Retry-After, WWW-Authenticate"
_VARY = (b"vary", b"Origin")
_LOCAL_NETWORK = (
    (b"access-control-request-private-network", b"access-control-allow-private-network"),
    (b"access-control-request-local-network", b"access-control-allow-local-network"),
)
"""Asked by browsers before a page of the internet may reach a private address."""


class Origins:
    """The origins and names that a server was told of.

    Args:
        origins: Like ``https://app.example``, as browsers write them.
        hosts: Names and addresses without a port, IPv6 without brackets, in lower case.
    """

    def __init__(self, origins: Iterable[str] = (), hosts: Iterable[str] = ()) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._hosts = frozenset(hosts)

    def problem(self, scope: Scope, *, is_binding: bool) -> Denied | None:
        """Return why a request is another site's, or by another's name; None when it is neither.

        `is_binding` tells whether a binding of a Worker may have sent it. A `ForeignHost` calls
        the server by a name that is not known; a `ForeignOrigin` is no allowed one.
        """
        headers: Headers = scope["headers"]
        # Only very old programs send none, and never a browser.
        hosts = values(headers, b"host")
        if not all(self._is_known(host, is_binding=is_binding) for host in hosts):
            return ForeignHost(
                f"the server is not known by the name {_shown(hosts)}; where it is meant, add the "
                "name to the setting allowed_hosts, or create a token with: vicinal token create"
            )
        origins = values(headers, b"origin")
        sites = values(headers, b"sec-fetch-site")
        if self._is_allowed(origins):
            return None
        if origins:
            if self._is_own(scope["scheme"], origins, hosts):
                return None
            asker = f"the origin {_shown(origins)}"
        elif all(site in _SAME for site in sites):
            return None
        else:
            asker = f"another site (Sec-Fetch-Site: {_shown(sites)})"
        return ForeignOrigin(
            f"a web page of {asker} asks, which may not use this server; where it is meant, add "
            "its origin to the setting allowed_origins"
        )

    def headers(self, headers: Headers) -> tuple[tuple[bytes, bytes], ...]:
        """Return the headers of any response, so that pages of allowed origins can read it."""
        if not self._origins:
            return ()
        origins = values(headers, b"origin")
        if not self._is_allowed(origins):
            return (_VARY,)
        return (
            _VARY,
            (b"access-control-allow-origin", origins[0]),
            (b"access-control-expose-headers", _EXPOSED),
        )

    def preflight(self, method: str, headers: Headers) -> tuple[tuple[bytes, bytes], ...] | None:
        """Return the headers, in addition to `headers`, for a browser that asks first.

        None when this is no preflight, or not of an allowed origin. The path plays no part: a
        page can read its 404 once it has asked.
        """
        if method != "OPTIONS" or not self._is_allowed(values(headers, b"origin")):
            return None
        if not values(headers, b"access-control-request-method"):
            return None
        names = [_ASKED_FOR]
        names += [
            requested
            for requested in values(headers, b"access-control-request-headers")
            if len(requested) <= REQUESTED_BYTES_MAX and _NAMES.fullmatch(requested)
        ]
        return (
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", b", ".join(names)),
            (b"access-control-max-age", b"%d" % PREFLIGHT_S_MAX),
            *(
                (allow, b"true")
                for ask, allow in _LOCAL_NETWORK
                if values(headers, ask) == [b"true"]
            ),
        )

    def _is_allowed(self, origins: Sequence[bytes]) -> bool:
        return len(origins) == 1 and origins[0].lower() in self._origins

    def _is_own(self, scheme: str, origins: Sequence[bytes], hosts: Sequence[bytes]) -> bool:
        """Tell whether a page's origin is this server, by a name that pages may have."""
        if len(set(hosts)) != 1 or len(origins) != 1:
            return False
        name = name_in(hosts[0])
        is_page_name = name is not None and (is_loopback(name) or name in self._hosts)
        own = b"%b://%b" % (scheme.encode(), hosts[0].lower())
        return is_page_name and origins[0].lower() == own

    def _is_known(self, host: bytes, *, is_binding: bool) -> bool:
        if is_binding and host in BINDING_HOSTS:
            return True
        name = name_in(host)
        if name is None:
            return False
        return is_loopback(name) or name in self._hosts or name in TOOL_HOSTS


def _shown(sent: Sequence[bytes]) -> str:
    text = ", ".join(value.decode("latin-1") for value in sent)
    return repr(text if len(text) <= 100 else f"{text[:100]}...")
