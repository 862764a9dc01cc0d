"""The AI binding of wrangler up to 4.36: its requests come wrapped into one of REST.

    POST /accounts/ACCOUNT/ai/run/proxy
    X-Forwarded: http://workers-binding.ai/run?version=3
    cf-consn-model-id: MODEL

Method, body and headers are those of the binding's own request, and the response goes back to it
as it is. So it is answered as in `binding`, for the account that the path names.
"""

from dataclasses import replace
from urllib.parse import SplitResult, urlsplit

from vicinal.errors import BadParameter, RouteNotFound
from vicinal.server.api import ai
from vicinal.server.api.paths import AI, query_parameters
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import RouteTable, large_body
from vicinal.server.http.response import Response
from vicinal.server.workers import binding
from vicinal.tokens import Permission
from vicinal.wire import envelope

ROUTES = RouteTable()

FORWARDED_HEADER = b"x-forwarded"

_PATH = f"{AI}/run/proxy"
_PATHS = {
    method: frozenset(
        route.operation.path for route in binding.AI_ROUTES if route.operation.method == method
    )
    for method in ("GET", "POST")
}


@ROUTES.add("POST", _PATH, Permission.READ, large_body, form=envelope.BINDING)
async def proxied_run(request: ApiRequest) -> Response:
    """Run a model for an older wrangler's binding."""
    _wrapped(request, "POST")
    addressed = binding.model_address(request.headers, request.services.config)
    parameters = {**addressed, "account_id": request.account}
    return await binding.run_bound(replace(request, parameters=parameters))


@ROUTES.add("GET", _PATH, Permission.READ, form=envelope.BINDING_MODELS)
async def proxied_models(request: ApiRequest) -> Response:
    """List the models for an older wrangler's binding."""
    wrapped = _wrapped(request, "GET")
    return await ai.search_models(
        replace(request, query=query_parameters(wrapped.query.encode("latin-1")))
    )


def _wrapped(request: ApiRequest, method: str) -> SplitResult:
    """Return the URL of the binding's own request."""
    url = request.headers.get(FORWARDED_HEADER)
    if url is None:
        raise BadParameter(
            "the header X-Forwarded, which says what a binding of wrangler asked for, is missing"
        )
    try:
        wrapped = urlsplit(url.decode("latin-1"))
    except ValueError as error:
        raise BadParameter(f"the header X-Forwarded is not a URL: {error}") from None
    if wrapped.path not in _PATHS[method]:
        raise RouteNotFound(f"{wrapped.path}, asked for by the AI binding")
    return wrapped
