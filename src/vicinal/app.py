"""The composition root: settings to engine, tokens, embedder and the ASGI application.

The only place that picks them. `create` puts an application together without listening,
for tests and other servers; `serve` runs one under uvicorn until SIGINT or SIGTERM. Every
obstacle that a person can remove (a port in use, a folder that another process has open, no
token on a public address) is an error of one sentence, raised before anything is served.
"""

import errno
import functools
import importlib
import importlib.metadata
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from vicinal.d1 import Databases
from vicinal.embeddings.base import Embedder
from vicinal.embeddings.build import build_embedder, build_reranker
from vicinal.embeddings.reranking import Reranker
from vicinal.engine import catalog
from vicinal.engine.base import Engine
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.engine.options import EngineOptions
from vicinal.errors import InvalidInput, Unavailable
from vicinal.generation.base import Names
from vicinal.native.pool import SearchPool
from vicinal.open_files import connections_max, raise_limit
from vicinal.server.api.services import ServerConfig
from vicinal.server.app import App, build
from vicinal.server.http import logs, websocket
from vicinal.settings import Settings
from vicinal.snapshots.service import Schedule, Snapshots
from vicinal.storage import folder_lock, private
from vicinal.stores import open_tokens, shared_module
from vicinal.tokens import TokenStore

if TYPE_CHECKING:
    from vicinal.engine.shared.report import DatabaseReport
    from vicinal.server.api.generation import Generator
    from vicinal.server.tracing import Tracing

_log = logging.getLogger("vicinal.server")

_NO_D1 = (
    "SQL databases are files of one server, so none are served where servers share a PostgreSQL "
    "(the setting 'database'); run one server without it for them"
)


@dataclass(frozen=True, slots=True)
class Application:
    """An application with all that it works with. Close it when the ASGI application is idle.

    Attributes:
        asgi: Answers requests.
        own_token: The secret of a token for this process itself, which is not stored; any text
            when no token is needed.
        needs_token: Whether callers need a token.
    """

    asgi: App
    own_token: str
    needs_token: bool
    _opened: ExitStack

    def close(self) -> None:
        """Release files and threads; acknowledged mutations stay."""
        self._opened.close()


def create(settings: Settings) -> Application:
    """Put an application together; opens the data folder.

    Raises:
        InvalidInput: the address can be reached from elsewhere and there is no token.
        Unavailable: another process has the data folder open, or it cannot be written.
        Corruption: the catalog or the tokens are damaged.
    """
    try:
        catalog.check_restored(settings.data)  # before anything is made in it
        private.make_data_folder(settings.data)
        with ExitStack() as opened:
            tokens = open_tokens(settings)
            opened.callback(tokens.close)
            needs_token = _needs_token(settings, tokens)
            own_token = settings.account
            if needs_token:
                own_token = secrets.token_urlsafe(32)
                tokens.accept(own_token)
            engine = _open_engine(settings)
            opened.callback(engine.close)
            generator = _generator(settings)
            embedder = open_embedder(settings)
            opened.callback(embedder.close)
            reranker = _reranker(settings)
            opened.callback(reranker.close)
            databases = Databases(
                settings.data / "d1", refusal=_NO_D1 if settings.database is not None else None
            )
            opened.callback(databases.stop)
            pool = SearchPool.of_this_machine()
            if pool is not None:
                opened.callback(pool.close)
            config = _server_config(settings)
            snapshots = _snapshots(settings, engine, config.version)
            snapshots.start()
            opened.callback(snapshots.stop)
            tracing = _tracing(settings, config.version)
            if tracing is not None:
                opened.callback(tracing.close)
            tracer = None if tracing is None else tracing.tracer
            asgi = build(
                engine,
                embedder,
                tokens,
                databases,
                config,
                pool,
                generator,
                snapshots,
                reranker,
                tracer,
            )
            return Application(asgi, own_token, needs_token, opened.pop_all())
    except OSError as error:
        raise Unavailable(f"{settings.data}: {error.strerror}") from error


def _tracing(settings: Settings, version: str) -> "Tracing | None":
    """Return what traces requests, None unless that is asked for."""
    if settings.traces_url is None:
        return None
    from vicinal.server import tracing

    return tracing.to_collector(settings.traces_url, version)


def _needs_token(settings: Settings, tokens: TokenStore) -> bool:
    has_tokens = tokens.has_tokens()
    if not settings.is_loopback and not has_tokens:
        raise InvalidInput(
            f"{settings.host} can be reached from other machines and no token exists; create "
            f"one with: vicinal token create NAME --data {settings.data}"
        )
    needs_token = tokens.are_needed() or settings.require_token
    if needs_token and not has_tokens:
        _log.warning("requests need a token and there is none; make one: vicinal token create NAME")
    return needs_token


def serve(
    settings: Settings,
    on_ready: Callable[[str, Application], None],
    warnings: Sequence[str] = (),
) -> None:
    """Serve until SIGINT or SIGTERM, then finish running requests and close.

    `on_ready` is called once, with the server's origin and from a thread of its own, when requests
    are answered. `warnings` of the settings go to the log.

    Raises:
        InvalidInput, Unavailable, Corruption: as `create`; also when the address cannot be
            listened on, and when more connections are asked for than files may be open.
    """
    logs.configure(settings.log_level, settings.log_format, has_access_log=settings.access_log)
    for warning in warnings:
        _log.warning(warning)
    files = raise_limit()
    connections = connections_max(settings.connections_max, files)
    with closing(_listen(settings)) as listener, closing(create(settings)) as application:
        _log.info(
            "At most %d connections are accepted, %s files may be open",
            connections,
            "any number of" if files is None else files,
        )
        # Without a handler of ours uvicorn would end the process by the signal it caught,
        # before anything is closed.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        ready = origin(settings.host, listener.getsockname()[1]), application
        folder_lock.describe_server(settings.data, ready[0], importlib.metadata.version("vicinal"))
        # In a thread, as `on_ready` may send requests to the server.
        announce = threading.Thread(target=on_ready, args=ready, name="announce", daemon=True)
        application.asgi.on_started = announce.start
        with suppress(KeyboardInterrupt):
            uvicorn.Server(_uvicorn_config(application.asgi, settings, connections)).run([listener])


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.host, settings.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=settings.backlog)
    except socket.gaierror as error:
        raise InvalidInput(f"host {host!r} is not an address: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(
                f"port {port} of {host} is in use, perhaps by another vicinal; "
                "choose one with --port or VICINAL_PORT, or 0 for any that is free"
            ) from error
        raise Unavailable(f"cannot listen on {host} port {port}: {error.strerror}") from error


def origin(host: str, port: int) -> str:
    """Return the URL that this machine reaches the server at."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def _uvicorn_config(asgi: App, settings: Settings, connections: int) -> uvicorn.Config:
    http: Any = "auto"
    is_bounded = sys.platform != "win32" and _is_installed("httptools")
    if is_bounded:
        from vicinal.server.http.connection import BoundedProtocol  # needs httptools

        http = functools.partial(
            BoundedProtocol,
            connections_max=connections,
            has_request_ids=settings.request_ids,
            on_refused=asgi.services.metrics.refused,
        )
    return uvicorn.Config(
        asgi,
        loop="uvloop" if _is_installed("uvloop") else "auto",
        http=http,
        ws=websocket.WebSocketRefusal,
        log_config=None,  # `logs` has set them up
        access_log=False,  # the application writes its own
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        backlog=settings.backlog,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
    )


def _is_installed(module: str) -> bool:
    """Tell whether a part that Windows goes without is there."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _snapshots(settings: Settings, engine: Engine, version: str) -> Snapshots:
    if settings.snapshot_interval_s and settings.snapshot_folder is None:
        raise InvalidInput("snapshot_interval_s needs a folder for snapshots: set snapshot_folder")
    return Snapshots(
        engine if isinstance(engine, EmbeddedEngine) else None,
        settings.data,
        settings.snapshot_folder,
        version,
        Schedule(settings.snapshot_interval_s, settings.snapshots_kept),
        settings.wire_limits,
    )


def database_report(settings: Settings) -> "DatabaseReport":
    """Look at the database that servers share.

    Raises:
        InvalidInput: the driver is not installed.
        Unavailable: the database cannot be used.
    """
    report: DatabaseReport = shared_module("report").examine(
        settings.database, settings.database_schema
    )
    return report


def _open_engine(settings: Settings) -> Engine:
    """Open the engine of the data folder, or a node of the one that a database is shared by."""
    options = EngineOptions(
        limits=settings.wire_limits,
        memtable_rows_max=settings.memtable_rows_max,
        queue_bytes_max=settings.queue_bytes_max,
        visibility_delay_s=settings.visibility_delay_s,
    )
    if settings.database is None:
        return EmbeddedEngine.open(settings.data, options)
    if (settings.data / catalog.FILE_NAME).exists():
        unserved = "%s holds indexes that are not served while the setting 'database' is set"
        _log.warning(unserved, settings.data)
    shared = shared_module("engine")
    engine: Engine = shared.SharedEngine.open(
        settings.data,
        shared.SharedOptions(
            dsn=settings.database,
            schema=settings.database_schema,
            write_deadline_s=settings.write_deadline_s,
            is_strong=settings.consistency == "strong",
            copies_bytes_max=settings.copies_bytes_max or None,
            index=options,
        ),
    )
    return engine


def _server_config(settings: Settings) -> ServerConfig:
    return ServerConfig(
        version=importlib.metadata.version("vicinal"),
        limits=settings.wire_limits,
        require_token=settings.require_token or not settings.is_loopback,
        allowed_origins=settings.allowed_origins,
        allowed_hosts=(*settings.allowed_hosts, settings.host.lower()),
        account=settings.account,
        requests_max=settings.requests_max,
        body_bytes_in_flight_max=settings.body_bytes_in_flight_max,
        threads=settings.query_threads or os.cpu_count() or 1,
        embedding_queue_max=settings.embedding_queue_max,
        has_request_ids=settings.request_ids,
        slow_query_s=settings.slow_query_s,
    )


def _generator(settings: Settings) -> "Generator | None":
    """Return the client of the service that generates text, None when none is set."""
    if settings.generation_url is None:
        return None
    from vicinal.server.api.generation import GenerationConfig, Generator

    return Generator(
        GenerationConfig(
            url=settings.generation_url,
            key=settings.generation_key,
            names=Names(dict(settings.generation_models)),
            requests_max=settings.generation_requests_max,
            idle_s=settings.generation_idle_s,
            whole_s=settings.generation_timeout_s,
        )
    )


def _reranker(settings: Settings) -> Reranker:
    """Return what ranks texts, as the settings ask; nothing is loaded yet."""
    return build_reranker(
        models_folder=settings.models,
        model_folders={name: Path(folder) for name, folder in settings.model_folders},
        threads=settings.embedding_threads,
        remote_url=settings.reranking_url,
        remote_key=settings.reranking_key,
        remote_models=dict(settings.reranking_models) or None,
    )


def open_embedder(settings: Settings) -> Embedder:
    """Return the embedding backend that the settings ask for; nothing is loaded yet."""
    return build_embedder(
        models_folder=settings.models,
        model_folders={name: Path(folder) for name, folder in settings.model_folders},
        allow_download=settings.allow_model_download,
        threads=settings.embedding_threads,
        remote_url=settings.embedding_url,
        remote_key=settings.embedding_key,
        remote_models=dict(settings.embedding_models) or None,
    )
