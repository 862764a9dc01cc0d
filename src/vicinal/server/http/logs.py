"""The log: one line an event, as text for people or JSON for machines.

The access line of a request has its method, the template of its path, status, time and
sizes; the id of the request and of its caller's token; and account and name of its index, if there
is one of that name. Else it has no value that the caller sent: no token, no path, no vector.

A query that took long has a line of its own, which says how it was answered and not for what.
"""

import json
import logging
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter

import msgspec

from vicinal.server.http import request_ids
from vicinal.server.http.asgi import Headers
from vicinal.server.http.request_ids import NO_ID, RequestId
from vicinal.wire import envelope, slow_queries
from vicinal.wire.openapi import Operation
from vicinal.wire.slow_queries import SlowQuerySchema

_access = logging.getLogger("vicinal.access")
_slow = logging.getLogger("vicinal.slow_query")

_ACCESS_LINE = (
    "%(method)s %(path)s %(status)d %(milliseconds).1f ms, %(bytes_in)d bytes in, %(bytes_out)d out"
)
_NAMES = {
    "index": ", index %(account)s/%(index)s",
    "token": ", token %(token)s",
    "request": ", request %(request)s",
}


@dataclass(slots=True)
class AccessRecord:
    """A request as the access line and the form of an error need it; filled in as it is read.

    Attributes:
        account, index_name: Of the index that the request is for, once it has been looked up.
        token_id: Of the caller's token, once it is known.
    """

    method: str
    headers: Headers
    operation: Operation | None = None
    form: envelope.Envelope = envelope.REST
    allowed: str = ""
    request_id: RequestId = NO_ID
    account: str = ""
    index_name: str = ""
    token_id: str = ""
    body_bytes: int = 0
    is_body_read: bool = False
    start_s: float = field(default_factory=perf_counter)

    @property
    def template(self) -> str:
        """The path of the route table, with parameters instead of the caller's values."""
        return "(no route)" if self.operation is None else self.operation.path

    def named(self) -> dict[str, object]:
        """Return the members of a line in the log that say what it is about, as far as is known."""
        names: dict[str, object] = {}
        if self.index_name:
            names |= {"account": self.account, "index": self.index_name}
        if self.token_id:
            names["token"] = self.token_id
        if self.request_id:
            names["request"] = request_ids.text(self.request_id)
        return names

    @property
    def operation_id(self) -> str:
        """The operation's name in the OpenAPI document."""
        return "none" if self.operation is None else self.operation.operation_id


def configure(level: str, form: str, *, has_access_log: bool = True) -> None:
    """Send the logs of this package and of the HTTP server to standard error.

    `level` is the least that is logged, `form` is ``text`` or ``json``.
    """
    _access.setLevel(logging.NOTSET if has_access_log else logging.WARNING)
    handler = logging.StreamHandler(sys.stderr)
    text_formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else text_formatter)
    for name in ("vicinal", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False


class JsonFormatter(logging.Formatter):
    """One JSON object a line; a record's `fields` become members."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        event: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        event.update(getattr(record, "fields", {}))
        if record.exc_info:
            event["trace"] = self.formatException(record.exc_info)
        return json.dumps(event, ensure_ascii=False, default=str)


def access(record: AccessRecord, status: int, bytes_out: int, seconds: float) -> None:
    """Write the access line of a request that has been answered in `seconds`."""
    if not _access.isEnabledFor(logging.INFO):
        return
    fields = {
        "method": record.method,
        "path": record.template,
        "status": status,
        "milliseconds": round(seconds * 1000, 3),
        "bytes_in": record.body_bytes,
        "bytes_out": bytes_out,
    }
    names = record.named()
    line = "".join((_ACCESS_LINE, *(_NAMES[name] for name in names if name in _NAMES)))
    fields |= names
    _access.info(line, fields, extra={"fields": fields})


def slow_query(query: SlowQuerySchema) -> None:
    """Write the line of a query that took long."""
    extra = {"fields": {"query": msgspec.to_builtins(query)}}
    _slow.warning("%s", slow_queries.line(query), extra=extra)
