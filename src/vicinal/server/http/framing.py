"""Rules of RFC 9112 for a request's head that the parser does not check.

A server that reads a head differently from the proxy before it may take the body of one request
for another, so an ambiguous head is refused, and nothing behind it is read.

Rules: pure functions of a head. `connection` knows how a refusal ends a connection.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

Headers = Sequence[tuple[bytes, bytes]]
"""In the order in which they came, names in lower case; one that is sent twice is there twice."""

_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)([^#]*)")

_LENGTH_DIGITS_MAX = 20  # of 64 bits


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reason not to serve a request, and the status that says so."""

    status: HTTPStatus
    reason: str

    @property
    def body(self) -> bytes:
        """The reason, as a line of text."""
        return f"{self.reason}\n".encode()

    def written(self, further: bytes = b"") -> bytes:
        """Return the whole response, which ends the connection; `further` are lines of its head."""
        return (
            b"HTTP/1.1 %d %b\r\ncontent-type: text/plain; charset=utf-8\r\n"
            b"content-length: %d\r\n%bconnection: close\r\n\r\n%b"
            % (self.status, self.status.phrase.encode(), len(self.body), further, self.body)
        )


def refusal(method: bytes, version: str, target: bytes, headers: Headers) -> Refusal | None:
    """Return why a head that the parser took is refused, None when it is right."""
    if version not in ("1.0", "1.1"):
        return Refusal(
            HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.0 and HTTP/1.1 are spoken here"
        )
    if method == b"CONNECT":
        return Refusal(HTTPStatus.NOT_IMPLEMENTED, "this is no proxy")
    hosts = values(headers, b"host")
    if len(hosts) > 1 or (version == "1.1" and not hosts):
        return Refusal(HTTPStatus.BAD_REQUEST, f"one Host header is needed, there are {len(hosts)}")
    authority, _ = split_target(target)
    if any(_HOST.fullmatch(host) is None for host in (*hosts, authority or b"")):
        return Refusal(HTTPStatus.BAD_REQUEST, "the Host header, or the target, names no host")
    lengths, codings = values(headers, b"content-length"), values(headers, b"transfer-encoding")
    if any(len(length) > _LENGTH_DIGITS_MAX for length in lengths):
        return Refusal(HTTPStatus.BAD_REQUEST, f"a length of over {_LENGTH_DIGITS_MAX} digits")
    if not codings:
        return None
    if version == "1.0":
        return Refusal(HTTPStatus.BAD_REQUEST, "HTTP/1.0 has no Transfer-Encoding")
    if lengths:
        return Refusal(HTTPStatus.BAD_REQUEST, "Content-Length excludes Transfer-Encoding")
    if [coding.strip().lower() for coding in codings] != [b"chunked"]:
        return Refusal(HTTPStatus.NOT_IMPLEMENTED, "no Transfer-Encoding is understood but chunked")
    return None


def values(headers: Headers, name: bytes) -> list[bytes]:
    """Return the values of all headers of this name."""
    return [value for header, value in headers if header == name]


def split_target(target: bytes) -> tuple[bytes | None, bytes]:
    """Return the authority of a request's target, None if it has none, and its rest.

    Proxies are sent targets with an authority, which counts instead of the Host header.
    """
    absolute = _ABSOLUTE.fullmatch(target.partition(b"#")[0])
    if absolute is None:
        return None, target
    rest = absolute[2]
    return absolute[1].rpartition(b"@")[2], rest if rest.startswith(b"/") else b"/" + rest


def same_body(headers: Headers) -> bytes:
    """Return a head with the same framing of its body as these headers, and nothing else."""
    lengths = values(headers, b"content-length")
    framing = (
        b"transfer-encoding: chunked"
        if values(headers, b"transfer-encoding")
        else b"content-length: " + (lengths[0] if lengths else b"0")
    )
    return b"POST / HTTP/1.1\r\nhost: x\r\n" + framing + b"\r\n\r\n"
