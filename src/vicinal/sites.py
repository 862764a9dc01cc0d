"""Origins of web pages and names of hosts: their spelling, and the test for this machine's.

An origin is the site of a page as a browser sends it, ``https://app.example:8443``; a host is
the name in a URL. Both are read strictly: a spelling that no browser writes is refused.
"""

import ipaddress
import re
from contextlib import suppress
from functools import lru_cache

_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_-][a-z0-9._-]*)"
    r"(:(?P<port>[0-9]{1,5}))?"
)
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{0,5}))?")
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_PORT_MAX = 65_535
_PORTS = {"http": "80", "https": "443"}
_REMEMBERED = 16  # a server is called by few names; a header may have 64 KiB


def origin(text: str) -> str:
    """Return an origin as browsers write it: in lower case, without the scheme's own port.

    Raises:
        ValueError: the text is no origin. Pages of any origin may send ``null``, and ``*`` means
            all.
    """
    match = _ORIGIN.fullmatch(text.lower())
    if match is None or int(match["port"] or 0) > _PORT_MAX:
        raise ValueError(
            f"holds {text!r}, which is not the origin of a web page: SCHEME://HOST or "
            "SCHEME://HOST:PORT, without a path, and neither null nor *"
        )
    scheme, host, port = match["scheme"], match["host"], match["port"]
    return f"{scheme}://{host}" + (f":{port}" if port and port != _PORTS.get(scheme) else "")


def host(text: str) -> str:
    """Return a host name or an address as `name_in` does.

    Raises:
        ValueError: the text is neither.
    """
    name = text.lower().removesuffix(".")
    with suppress(ValueError):
        return str(ipaddress.ip_address(name.removeprefix("[").removesuffix("]")))
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"holds {text!r}, which is neither a host name nor an address: without scheme, port "
            "and path, and without *"
        )
    return name


@lru_cache(_REMEMBERED)
def name_in(host: bytes) -> str | None:
    """Return the name or address in a ``Host`` header, None when the header has neither.

    In lower case, without port, brackets and the dot at the end of a name.
    """
    match = _HOST.fullmatch(host)
    if match is None or int(match[2] or b"0") > _PORT_MAX:
        return None
    name = match[1].decode().lower()
    if name.startswith("["):
        try:
            return str(ipaddress.IPv6Address(name[1:-1]))
        except ValueError:
            return None
    name = name.removesuffix(".")
    return name if all(name.split(".")) else None


@lru_cache(_REMEMBERED)
def is_loopback(name: str) -> bool:
    """Tell whether a name, as `name_in` returns it, is this machine's on any network.

    ``127.1`` and ``0x7f.1`` are not: browsers write addresses out, and others can.
    """
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    # An IPv4 address within an IPv6 one is not looked for: nobody needs to write it so.
    return str(address) == "::1" or (address.version == 4 and address.is_loopback)
