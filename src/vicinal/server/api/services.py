"""Services: the configuration, the engine and all else that handlers work with."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vicinal.d1 import Databases
from vicinal.embeddings.base import Embedder
from vicinal.embeddings.reranking import Reranker
from vicinal.engine.base import Engine
from vicinal.limits import Limits
from vicinal.server.api.metrics import Metrics
from vicinal.server.api.slow_queries import SlowQueries
from vicinal.server.api.tickets import Tickets
from vicinal.server.api.turns import Turns
from vicinal.server.concurrency import CostEstimator, Workers
from vicinal.server.offload import ClientTracker, SearchOffload
from vicinal.server.workers.sessions import Sessions
from vicinal.snapshots.service import Snapshots
from vicinal.tokens import TokenStore

if TYPE_CHECKING:
    from vicinal.server.api.generation import Generator


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Settings of the server itself; its engine, encoder and tokens have their own.

    Attributes:
        version: Shown in the OpenAPI document.
        limits: Bounds on requests.
        require_token: Refuse requests without a token even when there are no tokens.
        allowed_origins: Origins of web pages that may use the server, as browsers write them.
        allowed_hosts: Names and addresses that the server may be called by, in addition to those
            of loopback, as `sites.name_in` returns them.
        account: The account that the account routes show to a token good for all.
        requests_max: Requests that may be under way; one more is answered 429.
        body_bytes_in_flight_max: Bytes of bodies in memory at one time, over all requests. One
            request may always have as much as its own limit.
        body_idle_s: Seconds that a body may pause.
        wait_s_max: Seconds that ``Prefer: wait`` is followed at most.
        threads: Threads for queries and for parsing large bodies.
        embedding_threads: Threads that may wait for the embedder, which takes calls in turns
            and computes in threads of its own; and as many that may wait for the reranker.
        embedding_queue_max: Embedding requests that may be under way, and as many that rank; one
            more is answered 429.
        has_request_ids: Whether requests are given ids.
        slow_query_s: Seconds from which a query is a slow one; 0 for none.
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
    has_request_ids: bool = True
    slow_query_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Services:
    """One of each thing that handlers work with, over all requests.

    For the event loop's thread only: cost estimators, offload, clients, turns, sessions, slow
    queries and tickets. The rest is thread-safe.
    """

    config: ServerConfig
    engine: Engine
    embedder: Embedder
    tokens: TokenStore
    workers: Workers
    embedding_workers: Workers
    reranking_workers: Workers
    backfill_workers: Workers
    databases: Databases
    database_workers: Workers
    database_turns: Turns
    snapshots: Snapshots
    snapshot_workers: Workers
    map_workers: Workers
    watch_workers: Workers
    offload: SearchOffload | None
    metrics: Metrics
    slow_queries: SlowQueries
    generator: "Generator | None"
    reranker: Reranker | None = None
    query_cost: CostEstimator = field(default_factory=CostEstimator)
    write_cost: CostEstimator = field(default_factory=CostEstimator)
    clients: ClientTracker = field(default_factory=ClientTracker)
    sessions: Sessions = field(default_factory=Sessions)
    tickets: Tickets = field(default_factory=Tickets)

    @property
    def all_workers(self) -> tuple[Workers, ...]:
        """The pools of threads."""
        return (
            self.workers,
            self.embedding_workers,
            self.reranking_workers,
            self.backfill_workers,
            self.database_workers,
            self.snapshot_workers,
            self.map_workers,
            self.watch_workers,
        )

    @property
    def limits(self) -> Limits:
        """The bounds that requests are held to."""
        return self.config.limits
