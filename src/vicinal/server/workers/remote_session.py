"""Remote sessions, which ``wrangler dev`` sets up before it runs a Worker with remote bindings.

    GET  workers/subdomain/edge-preview          leave to upload
    GET  workers/subdomain                       where uploaded Workers answer
    POST workers/scripts/NAME/edge-preview       the upload: which binding is for which index

Every request of a binding then carries the token from the response to the upload, and is wrapped
as for `remote_proxy`.
"""

import secrets
from collections.abc import Callable
from operator import attrgetter

from vicinal.errors import BadBody
from vicinal.server.api import auth
from vicinal.server.api.paths import ACCOUNT
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import BodyLimit, Handler, RouteTable
from vicinal.server.http.response import Response
from vicinal.server.workers.sessions import Bindings
from vicinal.tokens import Permission
from vicinal.wire import remote

ROUTES = RouteTable()

TOKEN_HEADER = b"cf-workers-preview-token"

_WORKERS = f"{ACCOUNT}/workers"

SUBDOMAIN = "localhost/vicinal"
"""wrangler appends ``.workers.dev`` and puts the Worker's name before it. The slash makes
the rest a path, so that what it sends there never leaves this machine."""


worker_body: BodyLimit = attrgetter("worker_body_bytes_max")
"""The limit of uploaded Workers, whose code comes with their metadata."""


def _add_upload(path: str, operation_id: str = "") -> Callable[[Handler], Handler]:
    return ROUTES.add(
        "POST",
        f"{_WORKERS}/{path}/edge-preview",
        Permission.READ,
        worker_body,
        response=remote.PreviewSchema,
        errors=(BadBody,),
        request_types=("multipart/form-data",),
        operation_id=operation_id,
    )


# Which of two paths is asked for depends on the version and on how wrangler was called.
@ROUTES.add(
    "GET",
    f"{_WORKERS}/scripts/{{script_name}}/subdomain/edge-preview",
    Permission.READ,
    response=remote.SessionSchema,
    operation_id="begin_script_session",
)
@ROUTES.add(
    "GET",
    f"{_WORKERS}/subdomain/edge-preview",
    Permission.READ,
    response=remote.SessionSchema,
)
async def begin_session(request: ApiRequest) -> Response:
    """Give leave to upload a Worker for a remote session.

    The upload needs the API token all the same.
    """
    return Response(remote.session(secrets.token_urlsafe(32)))


@ROUTES.add("GET", f"{_WORKERS}/subdomain", Permission.READ, response=remote.SubdomainSchema)
async def workers_subdomain(request: ApiRequest) -> Response:
    """Tell where uploaded Workers answer."""
    return Response(remote.subdomain(SUBDOMAIN))


@_add_upload("services/{script_name}/environments/{environment}", "upload_environment")
@_add_upload("scripts/{script_name}")
async def upload_worker(request: ApiRequest) -> Response:
    """Begin a remote session with an uploaded Worker's bindings.

    The Worker's code is not read.
    """
    secret = auth.secret_in(request.headers)
    limits = request.services.limits
    indexes = await request.run_on_body(lambda: remote.index_bindings(request.body, limits))
    bindings = Bindings(
        request.account, None if secret is None else b"Bearer " + secret.encode("latin-1"), indexes
    )
    return Response(remote.preview(request.services.sessions.add(bindings)))
