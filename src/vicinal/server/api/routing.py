"""Routes, and the way from a method and a path to one.

Paths are split before they are decoded, so an encoded slash inside an index name does not
make it two segments; a route that takes the rest of the path (model names have slashes)
takes it decoded either way. A slash at the end makes no difference.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any
from urllib.parse import unquote_to_bytes

from vicinal.errors import Error, IndexNotFound, RouteNotFound, Unauthenticated
from vicinal.limits import Limits
from vicinal.server.api.request import INDEX_NAME, ApiRequest
from vicinal.server.api.services import ServerConfig
from vicinal.server.http.asgi import Headers
from vicinal.server.http.response import Response
from vicinal.tokens import Permission
from vicinal.wire import envelope, openapi
from vicinal.wire.openapi import Operation, Parameter

Handler = Callable[[ApiRequest], Awaitable[Response]]
BodyLimit = Callable[[Limits], int]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the route table.

    Attributes:
        operation: Method, path and schemas, as the OpenAPI document has them.
        handler: Answers requests.
        permission: Permission that a token must have, or None when no token is needed.
        body_bytes_max: Limit of the body, None when a body is not read.
        part_bytes: Bytes of a longer body that are received before the handler is called, None
            for all.
        takes_rest: Whether the last parameter of the path takes all that follows.
        addressed: Reads the parameters of the path from the headers, None for a route whose path
            has them.
        is_of_all: Whether the route is about all accounts, so that a token for one is refused.
        is_watching: Whether the route tells how the server does, and so is answered when as many
            requests are under way as may be.
        takes_ticket: Whether the caller's token is the one that a ticket in the address was given
            for. HEAD is refused, as it would use the ticket up.
        form: Envelope of results and errors for the clients of this route.
        unknown_token: Error for a token that is not known.
    """

    operation: Operation
    handler: Handler
    permission: Permission | None
    body_bytes_max: BodyLimit | None = None
    part_bytes: int | None = None
    takes_rest: bool = False
    is_of_all: bool = False
    is_watching: bool = False
    takes_ticket: bool = False
    form: envelope.Envelope = envelope.REST
    addressed: Callable[[Headers, ServerConfig], Mapping[str, str]] | None = None
    unknown_token: type[Unauthenticated] = Unauthenticated


json_body: BodyLimit = attrgetter("json_body_bytes_max")
"""The limit of bodies other than vectors and texts."""

large_body: BodyLimit = attrgetter("body_bytes_max")
"""The limit of bodies of vectors and texts."""


class RouteTable(list[Route]):
    """The routes of one module, in the order of their handlers."""

    def add(
        self,
        method: str,
        path: str,
        permission: Permission | None,
        body_bytes_max: BodyLimit | None = None,
        part_bytes: int | None = None,
        *,
        request: Any = None,
        response: Any = None,
        errors: tuple[type[Error], ...] = (),
        parameters: tuple[Parameter, ...] = (),
        request_types: tuple[str, ...] = ("application/json",),
        takes_rest: bool = False,
        is_of_all: bool = False,
        is_watching: bool = False,
        takes_ticket: bool = False,
        form: envelope.Envelope = envelope.REST,
        unknown_token: type[Unauthenticated] = Unauthenticated,
        operation_id: str = "",
        is_lines: bool = False,
        response_type: str = openapi.JSON,
    ) -> Callable[[Handler], Handler]:
        """Add the route of the handler below; the arguments are those of `Operation` and `Route`.

        The handler's name is the operation's id, unless one is given, and the first line of its
        docstring the summary.
        """

        def decorate(handler: Handler) -> Handler:
            summary = (handler.__doc__ or "").partition("\n")[0].removesuffix(".")
            # Of a path that names an index, which is found before the handler is called.
            of_index = (IndexNotFound,) if f"{{{INDEX_NAME}}}" in path else ()
            operation = Operation(
                method, path, operation_id or handler.__name__, summary, request, response,
                (*errors, *of_index), parameters, request_types,
                is_enveloped=form is envelope.REST, is_lines=is_lines,
                response_type=response_type,
            )  # fmt: skip
            route = Route(
                operation, handler, permission, body_bytes_max, part_bytes, takes_rest,
                is_of_all, is_watching, takes_ticket, form, unknown_token=unknown_token,
            )  # fmt: skip
            self.append(route)
            return handler

        return decorate


@dataclass(slots=True)
class _Node:
    literals: dict[str, "_Node"] = field(default_factory=dict)
    parameter: "tuple[str, _Node] | None" = None
    rest: "tuple[str, _Node] | None" = None
    routes: dict[str, Route] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """The routes of one path, by method, and the path's parameters."""

    routes: Mapping[str, Route]
    parameters: Mapping[str, str]

    @property
    def allowed(self) -> str:
        """The methods of the path, as the ``Allow`` header has them."""
        methods = set(self.routes) | {"OPTIONS"} | ({"HEAD"} if self.route("HEAD") else set())
        return ", ".join(sorted(methods))

    def route(self, method: str) -> Route | None:
        """Return the route of a method, None where there is none; HEAD has that of GET."""
        if method != "HEAD":
            return self.routes.get(method)
        route = self.routes.get("GET")
        return None if route is None or route.takes_ticket else route


class Router:
    """Finds routes by their paths, one dictionary look-up a segment."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for route in routes:
            self._add(route)

    def match(self, raw_path: bytes) -> RouteMatch:
        """Return the routes of a path, which is percent-encoded as it was sent.

        Raises:
            RouteNotFound: there is none.
        """
        node, parameters = self._root, {}
        segments = _segments(raw_path)
        for position, segment in enumerate(segments):
            if segment in node.literals:
                node = node.literals[segment]
            elif node.parameter is not None and segment:
                name, node = node.parameter
                parameters[name] = segment
            elif node.rest is not None:
                name, node = node.rest
                parameters[name] = "/".join(segments[position:])
                break
            else:
                raise RouteNotFound(raw_path.decode("latin-1"))
        if not node.routes:
            raise RouteNotFound(raw_path.decode("latin-1"))
        return RouteMatch(node.routes, parameters)

    def _add(self, route: Route) -> None:
        node = self._root
        segments = route.operation.path.strip("/").split("/")
        for position, segment in enumerate(segments, start=1):
            if not segment.startswith("{"):
                node = node.literals.setdefault(segment, _Node())
            elif route.takes_rest and position == len(segments):
                node.rest = node.rest or (segment[1:-1], _Node())
                node = node.rest[1]
            else:
                node.parameter = node.parameter or (segment[1:-1], _Node())
                assert node.parameter[0] == segment[1:-1], f"{segment} has another name elsewhere"
                node = node.parameter[1]
        assert route.operation.method not in node.routes, f"two routes for {route.operation.path}"
        node.routes[route.operation.method] = route


def _segments(raw_path: bytes) -> list[str]:
    try:
        if b"%" not in raw_path:
            segments = raw_path.decode().split("/")
        else:
            segments = [unquote_to_bytes(part).decode() for part in raw_path.split(b"/")]
    except UnicodeDecodeError:
        raise RouteNotFound(raw_path.decode("latin-1")) from None
    # The path begins with a slash, so the first segment is empty.
    return segments[1:-1] if segments[-1] == "" else segments[1:]
