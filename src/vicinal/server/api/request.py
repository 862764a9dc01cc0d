"""Requests as their handlers have them: let in, the body received, the index found.

A handler is an async function from `ApiRequest` to `Response`. It runs after its caller has been
let in and the body, or the first part of a long one, has been received, and raises the errors of
``errors``; status codes, envelopes and headers are put around it by `app`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from vicinal.model import Index, IndexAddress
from vicinal.server.api.services import Services
from vicinal.server.concurrency import SMALL_BODY_BYTES
from vicinal.server.http.asgi import Headers, Receive
from vicinal.server.http.bodies import Body
from vicinal.server.http.request_ids import NO_ID, RequestId
from vicinal.server.offload import Client
from vicinal.tokens import Token

T = TypeVar("T")

INDEX_NAME = "index_name"
"""The parameter of a path that names an index."""


@dataclass(slots=True)
class ApiRequest:
    """One request.

    Attributes:
        services: Engine, encoder and all else that handlers work with.
        account: ``""`` on routes outside any account.
        raw_path: The path, percent-encoded as it was sent; the inner one of a wrapped request.
        parameters: Parameters of the path, decoded.
        query: Parameters after the question mark; of one given twice, the last.
        headers: As sent.
        client: The other end of the connection.
        receive: The ASGI callable; handlers use it only to notice that the client has gone.
        request_id: Of this request.
        token: The caller's token, None when no token is needed.
        body: The whole body or, while `arriving` is given, its first part; empty when the route
            reads none.
        arriving: The rest of a long body, on routes that receive long bodies in parts.
        index: The index that the path names, found before the body was received; None on routes
            that name none. The request is for this index, also when another takes its name.
    """

    services: Services
    account: str
    raw_path: bytes
    parameters: Mapping[str, str]
    query: Mapping[str, str]
    headers: Headers
    client: Client
    receive: Receive
    request_id: RequestId = NO_ID
    token: Token | None = None
    body: bytes | bytearray = b""
    arriving: Body | None = None
    index: Index | None = None

    async def resolve_index(self) -> None:
        """Set `index`, where the path names one.

        Raises:
            IndexNotFound: no index has this name.
        """
        name = self.parameters.get(INDEX_NAME)
        if name is None:
            return
        engine, address = self.services.engine, IndexAddress(self.account, name)
        if self.is_answered_at_once(address):
            self.index = engine.get_index(address)
        else:
            self.index = await self.services.workers.run(lambda: engine.get_index(address))

    def is_answered_at_once(self, address: IndexAddress) -> bool:
        """See `engine.base.Engine.answers_at_once`."""
        engine = self.services.engine
        return not engine.is_shared or engine.answers_at_once(address)

    async def run_on_body(self, work: Callable[[], T]) -> T:
        """Run work on the body in the event loop if that is short, else in a thread."""
        is_short = len(self.body) <= SMALL_BODY_BYTES
        return work() if is_short else await self.services.workers.run(work)

    @property
    def named_index(self) -> Index:
        """The index, on a route that names one."""
        assert self.index is not None
        return self.index

    @property
    def address(self) -> IndexAddress:
        """The address of this index alone."""
        return IndexAddress(self.account, self.named_index.name, self.named_index.id)
