"""The ASGI application: the way of every request in, and of its response out.

Requests of remote bindings come wrapped in others, and are unwrapped before all else; then come the
route, the site and the caller, the body, the handler. There is one exit for responses and one for
errors, which have the form that the route's clients read. A request whose client has gone gets
neither and leaves no trace: handlers change nothing before the whole body is there.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from vicinal.d1 import Databases
from vicinal.daemon_threads import DaemonThreads
from vicinal.embeddings.base import Embedder
from vicinal.embeddings.reranking import Reranker
from vicinal.engine.base import Engine
from vicinal.errors import Error, MethodNotAllowed, Overloaded, RouteNotFound, Unavailable
from vicinal.limits import ACCOUNT_ID
from vicinal.native.library import library
from vicinal.native.pool import SearchPool
from vicinal.server.api import auth, pages
from vicinal.server.api.metrics import Metrics
from vicinal.server.api.paths import query_parameters
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import Route, Router
from vicinal.server.api.services import ServerConfig, Services
from vicinal.server.api.slow_queries import SlowQueries
from vicinal.server.api.tickets import TICKET
from vicinal.server.api.turns import TurnBounds, Turns
from vicinal.server.concurrency import ClientDisconnected, QueueGauge, Workers
from vicinal.server.http import bodies, logs, request_ids, respond
from vicinal.server.http.asgi import Application, Receive, Scope, Send
from vicinal.server.http.logs import AccessRecord
from vicinal.server.http.origins import Origins
from vicinal.server.http.response import Response, Stream
from vicinal.server.http.uploads import ZERO_COPY_BODY
from vicinal.server.offload import Client, SearchOffload
from vicinal.server.routes import all_routes
from vicinal.server.workers import remote_proxy, remote_session
from vicinal.snapshots.service import Snapshots
from vicinal.tokens import Permission, TokenStore
from vicinal.wire import codes, envelope

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from vicinal.server.api.generation import Generator

_log = logging.getLogger("vicinal.server")

_CLOSE = (b"connection", b"close")
_STOPPED = Unavailable("the server is being stopped", retry_after=1)
_CLIENT_CLOSED = 499  # nginx's; for the log only, nothing is sent


def build(
    engine: Engine,
    embedder: Embedder,
    tokens: TokenStore,
    databases: Databases,
    config: ServerConfig,
    pool: SearchPool | None = None,
    generator: "Generator | None" = None,
    snapshots: Snapshots | None = None,
    reranker: Reranker | None = None,
    tracer: "Tracer | None" = None,
) -> "App":
    """Put the application together. It closes no argument, but stops `databases`.

    Without `pool` all searches run in Python's threads, without `generator` no text is generated,
    without `snapshots` they are refused as where nodes share a database, without `reranker` nothing
    is ranked again, without `tracer` nothing is traced.
    """
    threads: Callable[[int, str], ThreadPoolExecutor] = ThreadPoolExecutor
    if tracer is not None:
        from vicinal.server.tracing import ContextExecutor, traced

        threads, engine = ContextExecutor, traced(engine, tracer)
    snapshots = snapshots or Snapshots(None, Path(), None, config.version)
    processes = databases.bounds.processes_max
    return App(
        Services(
            config=config,
            engine=engine,
            embedder=embedder,
            tokens=tokens,
            workers=Workers("query", config.threads, config.requests_max, threads),
            embedding_workers=Workers(
                "embed", config.embedding_threads, config.embedding_queue_max, DaemonThreads
            ),
            reranking_workers=Workers(
                "rerank", config.embedding_threads, config.embedding_queue_max, DaemonThreads
            ),
            backfill_workers=Workers("backfill", 2, 64, threads),
            databases=databases,
            database_workers=Workers("database", processes, config.requests_max),
            database_turns=Turns(TurnBounds(processes, max(1, processes // 2))),
            offload=SearchOffload(pool) if pool is not None else None,
            snapshots=snapshots,
            snapshot_workers=Workers("snapshot", 2, 16),
            map_workers=Workers("map", 1, 4),
            watch_workers=Workers("watch", 1, 16),
            metrics=Metrics(
                engine, snapshots, version=config.version, has_native=library() is not None
            ),
            slow_queries=SlowQueries(config.slow_query_s),
            generator=generator,
            reranker=reranker,
        ),
        tracer,
    )


class App:
    """An ASGI 3 application. Built by `build`."""

    def __init__(self, services: Services, tracer: "Tracer | None" = None) -> None:
        self.services = services
        self.routes = all_routes(services.config.version)
        self._router = Router(self.routes)
        self._body_budget = bodies.BodyBudget(services.config.body_bytes_in_flight_max)
        self._origins = Origins(services.config.allowed_origins, services.config.allowed_hosts)
        self._handle: Application = self._http
        if tracer is not None:
            from vicinal.server.tracing import TracedRequests

            self._handle = TracedRequests(self._http, self._template, tracer)
        self._under_way = 0
        services.metrics.show_under_way(lambda: self._under_way)
        services.metrics.queues.add(
            QueueGauge("requests", lambda: self._under_way, services.config.requests_max),
            *(workers.gauge for workers in services.all_workers),
        )
        bodies_read = self._body_budget.counted
        services.metrics.queues.add_bodies(lambda: bodies_read.used, bodies_read.bound)
        self.on_started: Callable[[], None] | None = None
        """Called once, in the event loop, when requests are answered; requests that were sent
        before wait in the backlog of the socket."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI scope."""
        if scope["type"] == "http":
            await self._handle(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            assert scope["type"] == "websocket", scope["type"]
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    def _template(self, scope: Scope) -> str:
        """Return the path of the route table for a request, as the log has it."""
        try:
            route = self._router.match(scope["raw_path"]).route(scope["method"])
        except RouteNotFound:
            route = None
        return "(no route)" if route is None else route.operation.path

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        if self.on_started is not None:
            self.on_started()
        assert (await receive())["type"] == "lifespan.shutdown"
        services = self.services
        if services.generator is not None:
            await services.generator.close()
        if services.offload is not None:
            services.offload.close()
        # All at once, and not the last one when those before it have ended.
        for workers in services.all_workers:
            workers.give_up()
        services.databases.stop()  # or its threads would wait for the longest statement
        services.snapshots.stop()
        for workers in services.all_workers:
            workers.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = AccessRecord(scope["method"], dict(scope["headers"]))
        if self.services.config.has_request_ids:
            record.request_id = request_ids.new()
        try:
            zero_copy_body = scope.get("extensions", {}).get(ZERO_COPY_BODY)
            if zero_copy_body is not None:
                receive = zero_copy_body["receive"]
            response = self._readable(scope, await self._answer(scope, receive, record))
            if response.stream is not None:
                await self._stream(record, response, response.stream, receive, send)
                return
        except ClientDisconnected:
            self._done(record, _CLIENT_CLOSED, 0)
            return
        except asyncio.CancelledError:  # by uvicorn, when `shutdown_timeout_s` is over
            response = self._refusal(_STOPPED, record)
            response = replace(response, headers=(*response.headers, _CLOSE))
        except Exception as error:
            response = self._readable(scope, self._refusal(error, record))
        limit = self.services.limits.body_bytes_max
        if not record.is_body_read and bodies.must_close(record.headers, limit):
            response = replace(response, headers=(*response.headers, _CLOSE))
        await respond.send(send, response, record.request_id, with_body=record.method != "HEAD")
        self._done(record, response.status, len(response.body))

    def _refusal(self, error: Exception, record: AccessRecord) -> Response:
        """Return the response to an error, in the form that the route's clients read."""
        self.services.metrics.failed(error)
        answer = codes.response_for(error) if isinstance(error, Error) else codes.INTERNAL
        extra = {"fields": record.named()}
        if isinstance(error, Unavailable):
            _log.warning("%s: %s", record.template, error, extra=extra)
        elif answer.status >= 500:
            _log.error("%s failed", record.template, exc_info=error, extra=extra)
        allowed = record.allowed if isinstance(error, MethodNotAllowed) else ""
        return respond.refusal(record.form.failure(answer), answer, allowed=allowed)

    def _readable(self, scope: Scope, response: Response) -> Response:
        """Let pages of allowed origins read a response."""
        headers = self._origins.headers(scope["headers"])
        return replace(response, headers=(*response.headers, *headers)) if headers else response

    async def _stream(
        self, record: AccessRecord, response: Response, stream: Stream, receive: Receive, send: Send
    ) -> None:
        """Send a response that is still being made; one that fails is left without its end."""
        status, sent = response.status, 0
        try:
            sent = await respond.send_stream(send, receive, response, stream, record.request_id)
        except asyncio.CancelledError:  # as in `_http`, and it has begun
            self.services.metrics.failed(_STOPPED)
            await respond.break_off(send, stream, _STOPPED)
            status = codes.response_for(_STOPPED).status
        except Error as error:
            self.services.metrics.failed(error)
            _log.warning("%s: %s", record.template, error, extra={"fields": record.named()})
            status = codes.response_for(error).status
        self._done(record, status, sent)

    def _done(self, record: AccessRecord, status: int, bytes_out: int) -> None:
        seconds = perf_counter() - record.start_s
        self.services.metrics.answered(record.operation_id, status, seconds)
        logs.access(record, status, bytes_out, seconds)

    async def _answer(self, scope: Scope, receive: Receive, record: AccessRecord) -> Response:
        preflight = self._origins.preflight(record.method, scope["headers"])
        if preflight is not None:
            self._check_origin(scope, record)
            return Response(b"", 204, preflight)
        is_wrapped = remote_session.TOKEN_HEADER in record.headers
        if not is_wrapped and pages.is_entrance(record.method, scope["raw_path"], record.headers):
            self._check_origin(scope, record)
            return pages.ENTRANCE
        try:
            route, parameters, raw_path, query_string = self._routed(scope, record)
        finally:
            # Before any other problem is told, in the form that is known by now.
            self._check_origin(scope, record)
        if record.method == "OPTIONS":
            return Response(b"", 204, ((b"allow", record.allowed.encode()),))
        if route is None:
            raise MethodNotAllowed(record.method)
        request = ApiRequest(
            services=self.services,
            account=parameters.get("account_id", ""),
            raw_path=raw_path,
            parameters=parameters,
            query=query_parameters(query_string),
            headers=record.headers,
            client=_client(scope),
            receive=receive,
            request_id=record.request_id,
        )
        if route.permission is None:
            return respond.wrapped(await route.handler(request), route.form)
        return await self._admitted(route, route.permission, request, record)

    def _check_origin(self, scope: Scope, record: AccessRecord) -> None:
        is_binding = record.form in (envelope.BINDING, envelope.BINDING_MODELS)
        problem = self._origins.problem(scope, is_binding=is_binding)
        services = self.services
        if problem is not None and not auth.needs_token(services.tokens, services.config):
            raise problem

    def _routed(
        self, scope: Scope, record: AccessRecord
    ) -> tuple[Route | None, Mapping[str, str], bytes, bytes]:
        """Return the route, None when the method is wrong, its parameters, the path and the query
        string."""
        path, query_string = self._target(scope, record)
        match = self._router.match(path)
        record.form = next(iter(match.routes.values())).form
        route = match.route(record.method)
        parameters = match.parameters
        if route is None:
            record.allowed = match.allowed
        else:
            record.operation, record.form = route.operation, route.form
            if route.addressed is not None:
                parameters = route.addressed(record.headers, self.services.config)
        if not ACCOUNT_ID.fullmatch(parameters.get("account_id", "none")):
            raise RouteNotFound(path.decode("latin-1"))
        return route, parameters, path, query_string

    def _target(self, scope: Scope, record: AccessRecord) -> tuple[bytes, bytes]:
        """Return path and query string, those of the inner request when one is wrapped."""
        path, query_string = scope["raw_path"], scope["query_string"]
        if remote_proxy.is_connection(path):
            record.form = envelope.BINDING
            bindings = remote_proxy.connection(path, query_string)
        elif remote_session.TOKEN_HEADER in record.headers:
            record.form = envelope.BINDING
            token = record.headers[remote_session.TOKEN_HEADER]
            bindings = self.services.sessions.bindings(token.decode("latin-1"))
        else:
            return path, query_string
        path, query_string, record.headers = remote_proxy.unwrap(record.headers, bindings)
        return path, query_string

    async def _admitted(
        self, route: Route, permission: Permission, request: ApiRequest, record: AccessRecord
    ) -> Response:
        """Answer a request that needs permission, and is counted while it is under way."""
        services = self.services
        bound = services.config.requests_max
        if self._under_way >= bound and not route.is_watching:
            raise Overloaded(
                f"{bound} requests are under way, the most there may be",
                retry_after=1,
                queue="requests",
            )
        self._under_way += 1
        body: bodies.Body | None = None
        try:
            credentials = request.headers
            if route.takes_ticket:
                credentials = services.tickets.redeem(request.query.get(TICKET, ""))
            request.token = auth.authorize(
                credentials,
                request.account,
                permission,
                services.tokens,
                services.config,
                route.unknown_token,
                is_of_all=route.is_of_all,
            )
            if request.token is not None:
                record.token_id = request.token.id
            await request.resolve_index()
            if request.index is not None:
                record.account, record.index_name = request.account, request.index.name
            if route.body_bytes_max is not None:
                body = bodies.Body(
                    request.receive,
                    request.headers,
                    route.body_bytes_max(services.limits),
                    self._body_budget,
                    services.config.body_idle_s,
                )
                request.body = await body.receive(route.part_bytes)
                request.arriving = None if body.is_complete else body
            return respond.wrapped(await route.handler(request), route.form)
        finally:
            self._under_way -= 1
            if body is not None:
                record.body_bytes, record.is_body_read = body.received_bytes, body.is_complete
                body.release()


def _client(scope: Scope) -> Client:
    host_and_port = scope.get("client")
    return tuple(host_and_port) if host_and_port else None
