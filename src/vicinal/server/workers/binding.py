"""Workers bindings: requests of workerd's own modules, and responses that they read.

A Worker's ``env.VECTORIZE`` and ``env.AI`` are JavaScript objects of the runtime that send fixed
paths to a fetcher. Neither index nor account is in the request, so the configuration of the fetcher
adds them as headers:

    Authorization: Bearer TOKEN     as everywhere
    X-Vectorize-Account: ACCOUNT    the account that the server is set to, if not said
    X-Vectorize-Index: INDEX        for the paths of an index

The handlers are those of REST. Only the envelope differs: none for results, and errors as
``{"error": text, "code": number}``, which the runtime turns into ``VECTOR_QUERY_ERROR (code =
40006): text``. It takes any status but 200 for an error.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from vicinal.errors import BadParameter
from vicinal.server.api import ai, indexes, vectors
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import Route
from vicinal.server.api.services import ServerConfig
from vicinal.server.http.asgi import Headers
from vicinal.server.http.response import Response
from vicinal.wire import envelope, generation, requests, reranking, schemas

ACCOUNT_HEADER = b"x-vectorize-account"
INDEX_HEADER = b"x-vectorize-index"
MODEL_HEADER = b"cf-consn-model-id"


_READERS = ai.Readers(
    requests.binding_embedding, generation.binding_request, reranking.binding_request
)


async def run_bound(request: ApiRequest) -> Response:
    """Run the model that a header names."""
    return await ai.run_with(request, _READERS)


def index_address(headers: Headers, config: ServerConfig) -> Mapping[str, str]:
    """Return the account and the index that the headers name.

    Raises:
        BadParameter: no header names an index.
    """
    name = headers.get(INDEX_HEADER, b"").decode("latin-1")
    if not name:
        raise BadParameter(
            "this binding names no index: add the header X-Vectorize-Index to what its fetcher "
            "sends (injectRequestHeaders of workerd's external service)"
        )
    return {**account_address(headers, config), "index_name": name}


def model_address(headers: Headers, config: ServerConfig) -> Mapping[str, str]:
    """Return the account and the model that the headers name.

    Raises:
        BadParameter: no header names a model.
    """
    name = headers.get(MODEL_HEADER, b"").decode("latin-1")
    if not name:
        raise BadParameter("the header cf-consn-model-id, which names the model, is missing")
    # A binding may be told to put a prefix and a colon before every model.
    _, _, after_prefix = name.partition(":")
    return {
        **account_address(headers, config),
        "model_name": after_prefix if after_prefix.startswith("@") else name,
    }


def account_address(headers: Headers, config: ServerConfig) -> Mapping[str, str]:
    """Return the account that the headers name, or the one that the server is set to."""
    account = headers.get(ACCOUNT_HEADER, b"").decode("latin-1")
    return {"account_id": account or config.account}


_REST: dict[str, Route] = {
    route.operation.operation_id: route for route in (*indexes.ROUTES, *vectors.ROUTES, *ai.ROUTES)
}


def _bound(
    operation_id: str, path: str, addressed: Callable[[Headers, ServerConfig], Mapping[str, str]]
) -> Route:
    """Return the route of a REST operation as a binding has it."""
    rest = _REST[operation_id]
    name = f"binding{path.replace('/', '_').replace('-', '_')}"
    operation = replace(rest.operation, path=path, operation_id=name, is_enveloped=False)
    return replace(
        rest, operation=operation, form=envelope.BINDING, addressed=addressed, takes_rest=False
    )


def _run(path: str) -> Route:
    route = _bound("run_model", path, model_address)
    operation = replace(route.operation, request=schemas.BindingEmbeddingRequest)
    return replace(route, operation=operation, handler=run_bound)


INDEX_ROUTES = (
    _bound("info", "/info", index_address),
    _bound("query", "/query", index_address),
    _bound("insert", "/insert", index_address),
    _bound("upsert", "/upsert", index_address),
    _bound("get_by_ids", "/getByIds", index_address),
    _bound("delete_by_ids", "/deleteByIds", index_address),
)
"""Routes of ``cloudflare-internal:vectorize-api``."""

AI_ROUTES = (
    _run("/run"),
    _run("/ai-gateway/run"),
    replace(
        _bound("search_models", "/ai-api/models/search", account_address),
        form=envelope.BINDING_MODELS,
    ),
)
"""Routes of ``cloudflare-internal:ai-api``."""
