"""Remote sessions, which ``wrangler dev`` sets up before it runs a Worker with remote bindings.

    GET  workers/subdomain/edge-preview          leave to upload
    GET  workers/subdomain                       where uploaded Workers answer
    POST workers/scripts/NAME/edge-preview       the upload: which binding is for which index

Every request of a binding then carries the token from the response to the upload, and is wrapped
as for `remote_proxy`.
"""

import secrets

from vicinal.errors import BadBody
from vicinal.server.api import auth
from vicinal.server.api.paths import ACCOUNT
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import Handler, Route, worker_body
from vicinal.server.concurrency import off_loop
from vicinal.server.http.response import Response
from vicinal.server.workers.sessions import Bindings
from vicinal.tokens import Permission
from vicinal.wire import remote
from vicinal.wire.openapi import Operation

TOKEN_HEADER = b"cf-workers-preview-token"

_WORKERS = f"{ACCOUNT}/workers"

SUBDOMAIN = "localhost/vicinal"
"""wrangler appends ``.workers.dev`` and puts the Worker's name before it. The slash makes
the rest a path, so that what it sends there never leaves this machine."""


async def begin(request: ApiRequest) -> Response:
    """Give leave to upload; what the upload needs is the API token all the same."""
    return Response(remote.session(secrets.token_urlsafe(32)))


async def subdomain(request: ApiRequest) -> Response:
    """Return where uploaded Workers answer."""
    return Response(remote.subdomain(SUBDOMAIN))


async def upload(request: ApiRequest) -> Response:
    """Begin a session with the bindings of an uploaded Worker, whose code is not read."""
    secret = auth.secret_in(request.headers)
    indexes = await off_loop(
        len(request.body),
        request.services.workers,
        lambda: remote.index_bindings(request.body, request.services.limits),
    )
    bindings = Bindings(
        request.account, None if secret is None else b"Bearer " + secret.encode("latin-1"), indexes
    )
    return Response(remote.preview(request.services.sessions.add(bindings)))


def _route(operation: Operation, handler: Handler) -> Route:
    limit = worker_body if operation.method == "POST" else None
    return Route(operation, handler, Permission.READ, limit)


def _uploads(path: str, name: str) -> Operation:
    return Operation(
        method="POST",
        path=f"{_WORKERS}/{path}/edge-preview",
        operation_id=name,
        summary="Begin a remote session with an uploaded Worker's bindings",
        response=remote.PreviewSchema,
        errors=(BadBody,),
        request_types=("multipart/form-data",),
    )


def _begins(path: str, name: str) -> Operation:
    return Operation(
        method="GET",
        path=f"{_WORKERS}/{path}/edge-preview",
        operation_id=name,
        summary="Give leave to upload a Worker for a remote session",
        response=remote.SessionSchema,
    )


ROUTES = (
    _route(_begins("subdomain", "begin_session"), begin),
    # Which of two paths is asked for depends on the version and on how wrangler was called.
    _route(_begins("scripts/{script_name}/subdomain", "begin_script_session"), begin),
    _route(
        Operation(
            method="GET",
            path=f"{_WORKERS}/subdomain",
            operation_id="workers_subdomain",
            summary="Tell where uploaded Workers answer",
            response=remote.SubdomainSchema,
        ),
        subdomain,
    ),
    _route(_uploads("scripts/{script_name}", "upload_worker"), upload),
    _route(
        _uploads("services/{script_name}/environments/{environment}", "upload_environment"), upload
    ),
)
