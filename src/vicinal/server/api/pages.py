"""The dashboard: files of the package's folder `ui`, which browsers get as they are.

Nothing in them is secret, so no token is needed for them; what they show comes from the operations
of the API, with the token that a person gives the page.

All files are read once, by their names, and a request names one of these or gets 404: no path of a
caller reaches the disk. The first page names the others below a folder that is called by the
checksum of all of them. So a browser may keep them for ever, and never has files of two versions.

The headers forbid what the pages do not need: code that is not in these files, requests to other
origins, frames, forms.
"""

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable

from vicinal.errors import RouteNotFound
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import Handler, Route
from vicinal.server.http.asgi import Headers
from vicinal.server.http.response import Response
from vicinal.wire import envelope
from vicinal.wire.openapi import Operation

FIRST_PAGE = "index.html"

_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
}
"""Ending of a file that is served -> its content type. Other files, such as licences, are not."""

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_IMPORT = re.compile(r'^import\b[^;"]*?"(\.[^"]+)"', re.MULTILINE)
"""The address in an import that is made as a module is loaded."""
_ALWAYS_ASKED = (b"cache-control", b"no-cache")
_KEPT = (b"cache-control", b"public, max-age=31536000, immutable")


def _leading_to(address: bytes) -> Response:
    """Lead a browser to an address, which is relative, as it holds below a sub-path of a proxy."""
    headers = ((b"location", address), (b"vary", b"Accept"), _ALWAYS_ASKED)
    return Response(b"", 302, headers, content_type=b"text/plain")


ENTRANCE = _leading_to(b"ui/")
"""Leads a browser from the folder that it is in to the first page."""


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the dashboard, with the headers of its answers."""

    body: bytes
    content_type: bytes
    etag: bytes
    caching: tuple[bytes, bytes]

    def response(self, known: bytes) -> Response:
        """Return the answer to a browser that knows the files of these ETags."""
        headers = ((b"etag", self.etag), self.caching, *_HEADERS)
        tags = [tag.strip().removeprefix(b"W/") for tag in known.split(b",")]
        if self.etag in tags or tags == [b"*"]:
            return Response(b"", 304, headers)
        return Response(self.body, 200, headers, content_type=self.content_type)


def is_entrance(method: str, raw_path: bytes, headers: Headers) -> bool:
    """Tell whether a browser asks for the address of the server without more."""
    is_root = raw_path in (b"/", b"") and method in ("GET", "HEAD")
    return is_root and b"text/html" in headers.get(b"accept", b"")


async def page(request: ApiRequest) -> Response:
    """Return a file of the dashboard, the first page when none is named."""
    name = request.parameters.get("file_name")
    if name is None and not request.raw_path.endswith(b"/"):
        return ENTRANCE
    files = await request.services.workers.run(page_files)
    # Below `/ui//` the first page would not find its files.
    if name == "" or (file := files.get(name or "")) is None:
        raise RouteNotFound(request.raw_path.decode("latin-1"))
    return file.response(request.headers.get(b"if-none-match", b""))


async def api_page(request: ApiRequest) -> Response:
    """Lead to the page of the API from the address where other servers have theirs."""
    return _leading_to(b"%bui/#/api" % (b"../" if request.raw_path.endswith(b"/") else b""))


@cache
def page_files() -> Mapping[str, PageFile]:
    """Return all files that are served, by the path below ``/ui/``; the first page is ``""``."""
    sources = dict(sorted(_sources(resources.files("vicinal") / "ui", "")))
    whole = sha256()
    for name, body in sources.items():
        whole.update(b"%b %d\n%b" % (name.encode(), len(body), body))
    version = whole.hexdigest()[:16]
    first = _first_page(sources.pop(FIRST_PAGE).decode(), version, _imported(sources, "main.js"))
    files = {f"{version}/{name}": _page_file(name, body, _KEPT) for name, body in sources.items()}
    return files | {"": _page_file(FIRST_PAGE, first, _ALWAYS_ASKED)}


def _sources(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    sources: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            sources += _sources(entry, f"{prefix}{entry.name}/")
        elif _ending(entry.name) in _TYPES:
            sources.append((f"{prefix}{entry.name}", entry.read_bytes()))
    return sources


def _imported(sources: Mapping[str, bytes], module: str) -> list[str]:
    """Return the modules that one imports as it is loaded, with those that they import."""
    modules = [module]
    for name in modules:
        for address in _IMPORT.findall(sources[name].decode()):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), address))
            if path not in modules:
                modules.append(path)
    return modules


def _first_page(text: str, version: str, modules: Sequence[str]) -> bytes:
    """Fill in the first page: where the files are, and the modules to load at once."""
    preloads = "\n".join(f'<link rel="modulepreload" href="{version}/{name}">' for name in modules)
    return text.replace("{version}", version).replace("{preloads}", preloads).encode()


def _page_file(name: str, body: bytes, caching: tuple[bytes, bytes]) -> PageFile:
    etag = b'"%b"' % sha256(body).hexdigest()[:32].encode()
    return PageFile(body, _TYPES[_ending(name)], etag, caching)


def _ending(name: str) -> str:
    return f".{name.rpartition('.')[2]}"


def _route(path: str, operation_id: str, handler: Handler, *, takes_rest: bool = False) -> Route:
    operation = Operation("GET", path, operation_id, "Show the dashboard", is_enveloped=False)
    return Route(operation, handler, None, takes_rest=takes_rest, form=envelope.PLAIN)


ROUTES = (
    _route("/docs", "dashboard", api_page),
    _route("/ui", "dashboard", page),
    _route("/ui/{file_name}", "dashboard_file", page, takes_rest=True),
)
"""Not in the OpenAPI document, which is for programs."""
