"""The way of a batch of an import to the server.

A server of ours takes values as they are in memory (`wire.columns`); another server of the API gets
NDJSON, which is found out by the first batch. When a batch is refused, and only then, its rows are
held against the platform's bounds one by one, to name the bad ones by their place.

While the server makes one batch durable it receives the next, all but its last bytes: a body that
has not ended is not written, so batches are written in their order, and none after one that failed.
"""

import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import click
import msgspec

from vicinal.cli.client import ApiError, ApiResponse, Client, IndexResponse
from vicinal.limits import Limits
from vicinal.model import VectorBatch
from vicinal.readers.base import RejectedRow, RowBatch, as_record
from vicinal.wire.documents import RecordError
from vicinal.wire.vectors import check_id, check_namespace

LINES_BYTES_MAX = 32 * 1024 * 1024
"""Ours: of NDJSON in one request, where the server takes nothing else."""

HELD_S = 5.0
"""Ours: how long the end of a batch is held back. Less than a server waits for more of a body; a
batch that takes longer is sent again."""

_NO_ROUTE = {7000, 7001, 7003}
_NO_INDEX = 3000
_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class SentBatch:
    """The outcome of a batch: the number of vectors written, and the rows that were refused."""

    count: int
    rejected: tuple[RejectedRow, ...]
    is_visible: bool


class BatchBeforeFailed(click.ClickException):
    """A batch is not sent as the one before it was not written."""


class VectorSender:
    """Sends batches to one index: one, or two in two threads of which one names the other's.

    Args:
        client: Waits while the server is overloaded or away.
        index: Where vectors go.
        operation: ``insert`` or ``upsert``.
        skips_bad: Whether rows that the server refuses are left out.
    """

    def __init__(
        self, client: Client, index: IndexResponse, operation: str, *, skips_bad: bool
    ) -> None:
        self._client = client
        self._index = index
        self._operation = operation
        self._skips_bad = skips_bad
        self._takes_columns = True  # as far as is known
        self._has_written = False

    def send(
        self,
        label: str,
        batch: RowBatch,
        wait_s: float,
        before: Future[SentBatch] | None = None,
    ) -> SentBatch:
        """Send the good rows of a batch; return once they are durable.

        Waits `wait_s` seconds for them to be visible as well; 0 does not wait. With `before`, the
        batch that is on its way, this one is written after it.

        Raises:
            click.ClickException: the batch is refused; it names the bad row if there is one.
            BatchBeforeFailed: the one before was not written, nor is this.
        """
        if not len(batch.vectors):
            return SentBatch(0, (), is_visible=False)
        try:
            answer = self._write(batch.vectors, wait_s, before)
            return SentBatch(len(batch.vectors), (), answer.is_visible)
        except ApiError as refused:
            rejected = dict(_rejected_rows(batch)) if refused.status == 400 else {}
            if not rejected:
                message = f"{label}, {batch.places.span()}: {refused.message}"
                raise click.ClickException(message) from refused
            if not self._skips_bad:
                first = next(iter(rejected.values()))
                raise click.ClickException(f"{label}, {first.complaint}") from refused
        kept = _without(batch.vectors, set(rejected))
        if not len(kept):
            return SentBatch(0, tuple(rejected.values()), is_visible=False)
        answer = self._write(kept, wait_s)
        return SentBatch(len(kept), tuple(rejected.values()), answer.is_visible)

    def wait(self, seconds: float) -> bool:
        """Wait until all that was sent before is visible; return whether it is.

        The server answers a write when it is, so an id that no vector has is deleted.
        """
        path = self._client.indexes(self._index.name, "delete_by_ids")
        headers = {"prefer": f"wait={seconds:g}"}
        return self._client.post(path, {"ids": [f"none-{uuid.uuid4()}"]}, headers).is_visible

    def _write(
        self, batch: VectorBatch, wait_s: float, before: Future[SentBatch] | None = None
    ) -> ApiResponse:
        answer = self._write_behind(before, batch, wait_s) if before is not None else None
        answer = answer or self._write_now(batch, wait_s)
        self._has_written = True
        return answer

    def _write_behind(
        self, before: Future[SentBatch], batch: VectorBatch, wait_s: float
    ) -> ApiResponse | None:
        """Write a batch behind another, or wait for that and return None."""
        if self._takes_columns and self._has_written:
            path = self._client.indexes(self._index.name, "columns", self._operation)
            before_end = partial(_wait_for, before, HELD_S)
            try:
                return self._client.write_columns(path, batch, wait_s=wait_s, before_end=before_end)
            except TimeoutError:  # then the server has had all but the end for nothing
                pass
        _wait_for(before)
        return None

    def _write_now(self, batch: VectorBatch, wait_s: float) -> ApiResponse:
        if self._takes_columns:
            path = self._client.indexes(self._index.name, "columns", self._operation)
            try:
                return self._client.write_columns(path, batch, wait_s=wait_s)
            except ApiError as refused:
                if not refused.codes & _NO_ROUTE or _NO_INDEX in refused.codes:
                    raise
                self._takes_columns = False
        path = self._client.indexes(self._index.name, self._operation)
        bodies = list(_line_bodies(batch))
        for body in bodies[:-1]:
            self._client.write(path, body)
        return self._client.write(path, bodies[-1], wait_s=wait_s)


def _wait_for(before: Future[SentBatch], timeout_s: float | None = None) -> None:
    """Wait until a batch is durable.

    Raises:
        TimeoutError: it is not yet.
        BatchBeforeFailed: it never will be.
    """
    try:
        before.result(timeout_s)
    except click.ClickException as error:
        raise BatchBeforeFailed(error.message) from error


def _line_bodies(batch: VectorBatch) -> Iterator[bytes]:
    """Yield a batch as bodies of NDJSON."""
    lines: list[bytes] = []
    size = 0
    columns = zip(batch.ids, batch.values, batch.namespaces, batch.metadata, strict=True)
    for vector_id, values, namespace, document in columns:
        record: dict[str, object] = {"id": vector_id, "values": values.tolist()}
        if namespace:
            record["namespace"] = namespace
        if document:
            record["metadata"] = msgspec.Raw(document)
        line = msgspec.json.encode(record)
        if lines and size + len(line) > LINES_BYTES_MAX:
            yield b"\n".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line) + 1
    yield b"\n".join(lines)


def _rejected_rows(batch: RowBatch) -> Iterator[tuple[int, RejectedRow]]:
    """Yield the rows that break a bound of the platform's."""
    vectors = batch.vectors
    for row, vector_id in enumerate(vectors.ids):
        try:
            check_id(vector_id, _LIMITS)
            check_namespace(vectors.namespaces[row], vector_id, _LIMITS)
        except RecordError as refused:
            record = {
                "id": vector_id,
                "values": vectors.values[row].tolist(),
                "namespace": vectors.namespaces[row],
                "metadata": msgspec.Raw(vectors.metadata[row] or b"null"),
            }
            yield (
                row,
                RejectedRow(batch.places[row], refused.rule, as_record(record), vector_id),
            )


def _without(batch: VectorBatch, rows: set[int]) -> VectorBatch:
    kept = [row for row in range(len(batch)) if row not in rows]

    def of(column: Sequence[str]) -> list[str]:
        return [column[row] for row in kept]

    metadata = [batch.metadata[row] for row in kept]
    return VectorBatch(of(batch.ids), batch.values[kept], of(batch.namespaces), metadata)
