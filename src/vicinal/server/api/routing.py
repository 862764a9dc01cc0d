"""From a method and a path to a route.

Paths are split before they are decoded, so an encoded slash inside an index name does not
make it two segments; a route that takes the rest of the path (model names have slashes)
takes it decoded either way. A slash at the end makes no difference.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from vicinal.errors import RouteNotFound
from vicinal.server.api.calls import Route


@dataclass(slots=True)
class _Node:
    literals: dict[str, "_Node"] = field(default_factory=dict)
    parameter: "tuple[str, _Node] | None" = None
    rest: "tuple[str, _Node] | None" = None
    routes: dict[str, Route] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """What answers at a path: a route for each method, and the path's parameters."""

    routes: Mapping[str, Route]
    parameters: Mapping[str, str]

    @property
    def allowed(self) -> str:
        """The methods that are answered here, as the ``Allow`` header has them."""
        methods = set(self.routes) | {"OPTIONS"} | ({"HEAD"} if "GET" in self.routes else set())
        return ", ".join(sorted(methods))


class Router:
    """Finds routes by their paths, one dictionary look-up a segment."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for route in routes:
            self._add(route)

    def find(self, raw_path: bytes) -> Place:
        """Return what answers at a path, which is percent-encoded as it was sent.

        Raises:
            RouteNotFound: nothing does.
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
        return Place(node.routes, parameters)

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
            segments = [unquote_to_bytes(each).decode() for each in raw_path.split(b"/")]
    except UnicodeDecodeError:
        raise RouteNotFound(raw_path.decode("latin-1")) from None
    # The path begins with a slash, so the first segment is empty.
    return segments[1:-1] if segments[-1] == "" else segments[1:]
