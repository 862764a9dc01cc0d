"""The log: one line an event, as text for people or JSON for machines.

The access line of a request has its method, the template of its path, status, time and
sizes. It never has a value that the caller sent: no token, no name, no vector.
"""

import json
import logging
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter

from vicinal.server.http.asgi import Headers
from vicinal.wire import envelope
from vicinal.wire.openapi import Operation

_access = logging.getLogger("vicinal.access")

_ACCESS_LINE = (
    "%(method)s %(path)s %(status)d %(milliseconds).1f ms, %(bytes_in)d bytes in, %(bytes_out)d out"
)


@dataclass(slots=True)
class AccessRecord:
    """A request as the access line and the form of an error need it; filled in as it is read."""

    method: str
    headers: Headers
    operation: Operation | None = None
    form: envelope.Envelope = envelope.REST
    allowed: str = ""
    body_bytes: int = 0
    is_body_read: bool = False
    start_s: float = field(default_factory=perf_counter)

    @property
    def template(self) -> str:
        """The path of the route table, with parameters instead of the caller's values."""
        return "(no route)" if self.operation is None else self.operation.path

    @property
    def operation_id(self) -> str:
        """The operation's name in the OpenAPI document."""
        return "none" if self.operation is None else self.operation.operation_id


def configure(level: str, form: str) -> None:
    """Send the logs of this package and of the HTTP server to standard error.

    `level` is the least that is logged, `form` is ``text`` or ``json``.
    """
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
    _access.info(_ACCESS_LINE, fields, extra={"fields": fields})
