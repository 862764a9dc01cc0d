"""What a request is to its handler: the call, the route it met, and what there is to answer with.

A handler is an async function from `Call` to `Reply`. It runs after its caller has been
let in and the body has been read, or the first part of a long one, and raises the errors of
``errors``; status codes, envelopes and headers are put around it by `app`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from vicinal.d1 import Databases
from vicinal.embeddings.base import Embedder
from vicinal.engine.base import Engine
from vicinal.errors import Unauthenticated
from vicinal.limits import Limits
from vicinal.model import Index, IndexAddress
from vicinal.server.api.generation import Generator
from vicinal.server.api.metrics import Metrics
from vicinal.server.api.turns import Turns
from vicinal.server.concurrency import CostEstimator, Workers
from vicinal.server.http.asgi import Headers, Receive
from vicinal.server.http.bodies import Body
from vicinal.server.http.response import Reply
from vicinal.server.offload import Client, ClientTracker, SearchOffload
from vicinal.server.workers.sessions import Sessions
from vicinal.tokens import Permission, Token, Tokens
from vicinal.wire import envelope
from vicinal.wire.openapi import Operation

INDEX_NAME = "index_name"
"""The parameter of a path that names an index."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What the server can be told; everything else it is given ready-made.

    Attributes:
        version: Shown in the OpenAPI document.
        limits: Bounds on requests.
        require_token: Refuse requests without a token even when there are no tokens.
        allowed_origins: Of web pages that may use the server, as browsers write them.
        allowed_hosts: Names and addresses that the server may be called by beside those of
            loopback, as `origins.name_in` returns them.
        account: The account that the account routes show to a token good for all.
        requests_max: Requests that may be under way; one more is answered 429.
        body_bytes_in_flight_max: Bytes of bodies that may be held at once, over all requests.
            One request may always hold as much as its own limit.
        body_idle_s: Seconds that a body may stop arriving.
        wait_s_max: The longest that ``Prefer: wait`` is followed.
        threads: Threads for queries and for parsing large bodies.
        embedding_threads: Threads that may wait for the embedder, which takes calls in turns
            and computes in threads of its own.
        embedding_queue_max: Embedding requests that may be under way; one more is answered 429.
    """

    version: str = "0"
    limits: Limits = field(default_factory=Limits)
    require_token: bool = False
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    account: str = "local"
    requests_max: int = 1_024
    body_bytes_in_flight_max: int = 512 * 1024 * 1024
    body_idle_s: float = 30.0
    wait_s_max: int = 60
    threads: int = 2
    embedding_threads: int = 16
    embedding_queue_max: int = 256


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers work with. Thread-safe, but for those of the event loop alone: cost estimators,
    offload, clients, turns and sessions."""

    config: ServerConfig
    engine: Engine
    embedder: Embedder
    tokens: Tokens
    workers: Workers
    embedding_workers: Workers
    databases: Databases
    database_workers: Workers
    database_turns: Turns
    query_cost: CostEstimator
    write_cost: CostEstimator
    offload: SearchOffload
    clients: ClientTracker
    sessions: Sessions
    metrics: Metrics
    generator: Generator | None

    @property
    def limits(self) -> Limits:
        """The bounds that requests are held to."""
        return self.config.limits


@dataclass(slots=True)
class Call:
    """One request.

    Attributes:
        services: What to answer with.
        account: ``""`` on routes outside any account.
        parameters: Those of the path, decoded.
        query: The parameters after the question mark; of one given twice, the last.
        headers: As sent.
        client: Who is at the other end of the connection.
        receive: The ASGI callable; handlers use it only to notice that the client has gone.
        token: Who is calling, None when nobody has to say.
        body: The whole of it, empty when the route reads none.
        arriving: What follows `body`, when the route wants long bodies in parts and this is one.
        index: The index that the path names, looked up before the body was read; None on routes
            that name none. The call is for this one, whatever takes its name meanwhile.
    """

    services: Services
    account: str
    parameters: Mapping[str, str]
    query: Mapping[str, str]
    headers: Headers
    client: Client
    receive: Receive
    token: Token | None = None
    body: bytes | bytearray = b""
    arriving: Body | None = None
    index: Index | None = None

    def look_up(self) -> None:
        """Set `index`, where the path names one.

        Raises:
            IndexNotFound: there is none of this name.
        """
        name = self.parameters.get(INDEX_NAME)
        if name is not None:
            self.index = self.services.engine.get_index(IndexAddress(self.account, name))

    @property
    def found(self) -> Index:
        """The index, on a route that names one."""
        assert self.index is not None
        return self.index

    @property
    def address(self) -> IndexAddress:
        """The address of this index alone."""
        return IndexAddress(self.account, self.found.name, self.found.id)


Handler = Callable[[Call], Awaitable[Reply]]
BodyLimit = Callable[[Limits], int]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the route table.

    Attributes:
        operation: Method, path and shapes, as the OpenAPI document tells them.
        handler: What answers.
        permission: What a token must allow, or None when no token is asked for.
        body_bytes_max: The limit that the body is held to, None when a body is not read.
        part_bytes: How much of a longer body is read before the handler is called, None for all.
        takes_rest: Whether the last parameter of the path takes all that follows.
        addressed: Reads out of the headers what other routes have in their path, None for a
            route whose path says it.
        form: How results and errors are written for the clients of this route.
        unknown_token: What a token that is not known is refused with.
    """

    operation: Operation
    handler: Handler
    permission: Permission | None
    body_bytes_max: BodyLimit | None = None
    part_bytes: int | None = None
    takes_rest: bool = False
    form: envelope.Form = envelope.REST
    addressed: Callable[[Headers, ServerConfig], Mapping[str, str]] | None = None
    unknown_token: type[Unauthenticated] = Unauthenticated


def json_body(limits: Limits) -> int:
    """The limit of bodies that are not vectors or texts."""
    return limits.json_body_bytes_max


def large_body(limits: Limits) -> int:
    """The limit of bodies of vectors and texts."""
    return limits.body_bytes_max


def worker_body(limits: Limits) -> int:
    """The limit of uploaded Workers, whose code comes with their metadata."""
    return limits.worker_body_bytes_max
