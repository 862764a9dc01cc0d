"""A request as its handler has it: let in, its body read, its index looked up.

A handler is an async function from `ApiRequest` to `Response`. It runs after its caller has been
let in and the body has been read, or the first part of a long one, and raises the errors of
``errors``; status codes, envelopes and headers are put around it by `app`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vicinal.model import Index, IndexAddress
from vicinal.server.api.services import Services
from vicinal.server.http.asgi import Headers, Receive
from vicinal.server.http.bodies import Body
from vicinal.server.offload import Client
from vicinal.tokens import Token

INDEX_NAME = "index_name"
"""The parameter of a path that names an index."""


@dataclass(slots=True)
class ApiRequest:
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
    def named_index(self) -> Index:
        """The index, on a route that names one."""
        assert self.index is not None
        return self.index

    @property
    def address(self) -> IndexAddress:
        """The address of this index alone."""
        return IndexAddress(self.account, self.named_index.name, self.named_index.id)
