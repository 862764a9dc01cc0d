"""Snapshots of the whole server: extensions of ours beside the platform's routes.

Snapshots are of all accounts and have the hashes of tokens, so a token must be good for everything.
A route writes to the folder of the settings alone: no path comes over the network.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from functools import partial
from typing import IO, cast

from vicinal.errors import (
    AlreadyExists,
    BadBody,
    Error,
    NotFound,
    Overloaded,
    Unavailable,
)
from vicinal.server.api import auth, tickets
from vicinal.server.api.paths import API
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import RouteTable, json_body, large_body
from vicinal.server.http.response import Response, Stream
from vicinal.snapshots.service import Snapshots
from vicinal.tokens import Permission
from vicinal.wire import snapshots as wire
from vicinal.wire.openapi import Parameter

ROUTES = RouteTable()

_add = partial(ROUTES.add, is_of_all=True)

SNAPSHOTS = f"{API}/vicinal/snapshots"
SNAPSHOT = f"{SNAPSHOTS}/{{snapshot_id}}"

STREAM_S_MAX = 24 * 3_600.0  # ours: a stream may take a day
_PIECES_MAX = 16  # waiting for the client
_PIECE_BYTES = 256 << 10
_ZSTD = b"application/zstd"
_DOWNLOADED = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_POLL_S = 0.5  # between two looks whether the client is still there


def _as_file(name: str) -> tuple[tuple[bytes, bytes], ...]:
    disposition = f'attachment; filename="{name}.tar.zst"'
    return ((b"content-disposition", disposition.encode()), *_DOWNLOADED)


async def _answer(request: ApiRequest, work: Callable[[Snapshots], bytes]) -> Response:
    """Answer with what `work` writes, in one of the threads that snapshots have."""
    services = request.services
    return Response(await services.snapshot_workers.run(lambda: work(services.snapshots)))


@_add("GET", SNAPSHOTS, Permission.WRITE, response=list[wire.SnapshotSchema])
async def list_snapshots(request: ApiRequest) -> Response:
    """List the snapshots in this server's folder, oldest first (an extension of Vicinal)."""
    return await _answer(request, lambda kept: wire.many(kept.list()))


@_add(
    "POST",
    SNAPSHOTS,
    Permission.WRITE,
    json_body,
    request=wire.CreateSnapshotRequest,
    response=wire.SnapshotSchema,
    errors=(BadBody,),
)
async def create_snapshot(request: ApiRequest) -> Response:
    """Make a snapshot of all that this server keeps, in its folder (an extension of Vicinal)."""
    wanted = wire.create_request(request.body)
    return await _answer(request, lambda kept: wire.one(kept.create(copies=wanted.copy)))


@_add("GET", SNAPSHOT, Permission.WRITE, response=wire.SnapshotSchema, errors=(NotFound,))
async def get_snapshot(request: ApiRequest) -> Response:
    """Describe a snapshot (an extension of Vicinal)."""
    snapshot_id = request.parameters["snapshot_id"]
    return await _answer(request, lambda kept: wire.one(kept.get(snapshot_id)))


@_add("DELETE", SNAPSHOT, Permission.WRITE, response=wire.DeletedSnapshotSchema, errors=(NotFound,))
async def delete_snapshot(request: ApiRequest) -> Response:
    """Delete a snapshot, and files that no other has (an extension of Vicinal)."""
    snapshot_id = request.parameters["snapshot_id"]
    return await _answer(request, lambda kept: wire.deleted(kept.delete(snapshot_id)))


@_add(
    "POST",
    f"{SNAPSHOT}/verify",
    Permission.WRITE,
    response=wire.SnapshotReportSchema,
    errors=(NotFound,),
)
async def verify_snapshot(request: ApiRequest) -> Response:
    """Read every byte of a snapshot (an extension of Vicinal)."""
    snapshot_id = request.parameters["snapshot_id"]
    return await _answer(request, lambda kept: wire.report(kept.verify(snapshot_id)))


@_add(
    "POST",
    f"{SNAPSHOT}/restore",
    Permission.WRITE,
    json_body,
    request=wire.RestoreSnapshotRequest,
    response=list[wire.RestoredIndexSchema],
    errors=(BadBody, NotFound, AlreadyExists),
)
async def restore_snapshot(request: ApiRequest) -> Response:
    """Restore indexes of a snapshot under new names (an extension of Vicinal)."""
    snapshot_id = request.parameters["snapshot_id"]
    suffix, indexes = wire.restore_request(request.body)
    return await _answer(
        request,
        lambda kept: wire.restored(kept.restore(snapshot_id, suffix=suffix, indexes=indexes)),
    )


@_add(
    "POST",
    f"{SNAPSHOTS}/stream",
    Permission.WRITE,
    large_body,
    request=wire.StreamSnapshotRequest,
    errors=(BadBody,),
)
async def stream_snapshot(request: ApiRequest) -> Response:
    """Make a snapshot and send it as a tar compressed by zstd (an extension of Vicinal)."""
    known = wire.stream_request(request.body)
    snapshots = request.services.snapshots
    return await _streamed(lambda stream: snapshots.write_stream(stream, known))


@_add(
    "POST",
    f"{SNAPSHOT}/stream",
    Permission.WRITE,
    large_body,
    request=wire.StreamSnapshotRequest,
    errors=(BadBody, NotFound, Overloaded),
)
async def stream_stored_snapshot(request: ApiRequest) -> Response:
    """Send a snapshot as a tar compressed by zstd (an extension of Vicinal)."""
    return await _stored(request, wire.stream_request(request.body))


@_add("POST", f"{SNAPSHOTS}/tickets", Permission.WRITE, response=wire.TicketSchema,
      errors=(Overloaded,))  # fmt: skip
async def give_ticket(request: ApiRequest) -> Response:
    """Give leave to fetch one snapshot once without a token (an extension of Vicinal)."""
    kept = {name: request.headers[name] for name in auth.HEADERS if name in request.headers}
    return Response(wire.ticket(request.services.tickets.give(kept), tickets.VALID_S))


@_add(
    "GET",
    f"{SNAPSHOTS}/stream",
    Permission.WRITE,
    json_body,
    parameters=(Parameter(tickets.TICKET, str, "One that `give_ticket` gave."),),
    takes_ticket=True,
)
async def fetch_snapshot(request: ApiRequest) -> Response:
    """Make a snapshot and send it to who has a ticket, as a file (an extension of Vicinal)."""
    snapshots = request.services.snapshots
    response = await _streamed(lambda stream: snapshots.write_stream(stream, frozenset()))
    return replace(response, headers=_as_file("vicinal-snapshot"))


@_add(
    "GET",
    f"{SNAPSHOT}/stream",
    Permission.WRITE,
    json_body,
    parameters=(Parameter(tickets.TICKET, str, "One that `give_ticket` gave."),),
    errors=(NotFound, Overloaded),
    takes_ticket=True,
)
async def fetch_stored_snapshot(request: ApiRequest) -> Response:
    """Send a snapshot to who has a ticket, as a file (an extension of Vicinal)."""
    response = await _stored(request, frozenset())
    # Of an id that the store has, so it breaks no header.
    name = f"vicinal-snapshot-{request.parameters['snapshot_id']}"
    return replace(response, headers=_as_file(name))


async def _stored(request: ApiRequest, known: frozenset[str]) -> Response:
    snapshots, snapshot_id = request.services.snapshots, request.parameters["snapshot_id"]
    return await _streamed(lambda stream: snapshots.write_stored(stream, snapshot_id, known))


async def _streamed(write: Callable[[IO[bytes]], object]) -> Response:
    """Return the stream that `write` makes, once its first bytes are there."""
    parts = _parts(write)
    try:
        first = await anext(parts)
    except BaseException:
        await parts.aclose()
        raise

    async def whole() -> AsyncGenerator[bytes, None]:
        try:
            yield first
            async for part in parts:
                yield part
        finally:
            await parts.aclose()

    # A stream that breaks off has no manifest, which is what tells its reader.
    stream = Stream(whole(), STREAM_S_MAX, lambda answer: b"")
    return Response(b"", content_type=_ZSTD, stream=stream)


class _Pipe:
    """Takes the bytes of a stream in the thread that makes it, until the client has gone."""

    def __init__(self) -> None:
        self.pieces: queue.Queue[bytes | Error | None] = queue.Queue(_PIECES_MAX)
        self.is_closed = threading.Event()
        self._buffer = bytearray()

    def write(self, data: bytes) -> int:
        self._buffer += data
        if len(self._buffer) >= _PIECE_BYTES:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if self._buffer:
            self.deliver(bytes(self._buffer))
            self._buffer.clear()

    def deliver(self, piece: bytes | Error | None) -> None:
        while not self.is_closed.is_set():
            try:
                self.pieces.put(piece, timeout=_POLL_S)
            except queue.Full:
                continue
            return
        raise Unavailable("the client has gone")


async def _parts(write: Callable[[IO[bytes]], object]) -> AsyncGenerator[bytes, None]:
    pipe = _Pipe()

    def make() -> None:
        ending: Error | None = None
        try:
            write(cast(IO[bytes], pipe))
            pipe.flush()
        except Error as error:
            ending = error
        except Exception as error:  # a defect: the client sees a stream without its end
            ending = Unavailable(f"the snapshot failed: {error!r}")
        if not pipe.is_closed.is_set():
            pipe.deliver(ending)

    # A thread of its own, as it waits for the client: a pool could be full of those that do.
    threading.Thread(target=make, name="vicinal-snapshot-stream", daemon=True).start()
    loop = asyncio.get_running_loop()
    try:
        while True:
            try:
                # With a bound, as nobody writes any more once the client has gone.
                piece = await loop.run_in_executor(None, lambda: pipe.pieces.get(timeout=_POLL_S))
            except queue.Empty:
                continue
            if piece is None:
                return
            if isinstance(piece, Error):
                raise piece
            yield piece
    finally:
        pipe.is_closed.set()
