"""Requests behind each other on several connections, cut anywhere, to a real server.

Each request is one that the server should understand; some are refused, some are left in the
middle. Every answer has to be that of its request, what was acknowledged is stored as it was sent,
what may have been done is stored whole or not at all, and nothing else is.
"""

import json
import random
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.asgi import INDEXES, application
from tests.support.engines import DOCS, Record, apply, create, insert
from tests.support.server import Running, in_thread
from tests.support.sockets import head
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.limits import Limits
from vicinal.model import Delete, IndexAddress
from vicinal.server.api.services import ServerConfig
from vicinal.server.http.connection import UPLOAD_BYTES_MIN
from vicinal.server.http.uploads import PART_BYTES

FIXED = IndexAddress(DOCS.account, "fixed")
FIXED_COUNT = 40
LIMITS = Limits(body_bytes_max=3 * 1024 * 1024)
ANSWERED_WITHIN_S = 60.0
UPSERT = f"{INDEXES}/{DOCS.name}/upsert"
H2C = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2_Settings": "AAEAAEAAAAI"}
NEVER, MAYBE, ALWAYS = range(3)


class Fault(Exception):
    """The server did what it must not."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


@dataclass(frozen=True, slots=True)
class Request:
    """One request, and what is right for it.

    Attributes:
        data: All of it.
        method: Of it.
        statuses: One of these is answered.
        is_answer: Whether an answer with such a status is its own.
        stored: What it stores, by ids; None for what it removes.
        closes: Whether its answer ends the connection.
    """

    data: bytes
    method: str
    statuses: Sequence[int]
    is_answer: Callable[[Answer], bool]
    stored: dict[str, str | None] = field(default_factory=dict)
    closes: int = NEVER


class Connection:
    """The client's side of one connection: what is sent on it, and what comes back."""

    def __init__(self, running: Running, requests: Sequence[Request], cuts: list[int]) -> None:
        self.requests = requests
        self.socket = running.connect()
        self.socket.settimeout(ANSWERED_WITHIN_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b"".join(each.data for each in requests)
        self.pieces = [
            data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)
        ]
        self.sent = 0
        self.is_lost = False
        self._received = b""

    def send(self) -> None:
        """Send the next piece."""
        piece = self.pieces.pop(0)
        try:
            self.socket.sendall(piece)
        except ConnectionError:  # closed behind an answer, which may be lost by that
            self.is_lost = True
            self.pieces.clear()
        self.sent += len(piece)

    def abort(self, *, resets: bool) -> None:
        """Go without reading an answer."""
        if resets:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def answer(self, method: str) -> Answer | None:
        """Read the next answer, None when there is none any more."""
        while True:
            while b"\r\n\r\n" not in self._received:
                if not self._receive():
                    if self._received:
                        raise Fault(f"an answer ends in its head: {self._received[:300]!r}")
                    return None
            first, _, self._received = self._received.partition(b"\r\n\r\n")
            line, *lines = first.decode("latin-1").split("\r\n")
            if not line.startswith("HTTP/1.1 "):
                raise Fault(f"this is no answer: {line[:300]!r}")
            status = int(line.split()[1])
            if status != 100:
                break
        headers = {
            name.lower(): value for name, _, value in (each.partition(": ") for each in lines)
        }
        size = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
        while len(self._received) < size:
            if not self._receive():
                if self.is_lost:
                    return None
                raise Fault(f"an answer ends in its body: {line}")
        body, self._received = self._received[:size], self._received[size:]
        return Answer(status, headers, body)

    def _receive(self) -> bool:
        try:
            received = self.socket.recv(65_536)
        except ConnectionError:
            self.is_lost = True
            self._received = b""
            return False
        self._received += received
        return bool(received)


class Requests:
    """Makes random requests whose ids are those of one connection.

    Args:
        source: Of what is random.
        name: Of the connection.
        lengths: Of what is answered to some requests, by their targets.
    """

    def __init__(self, source: random.Random, name: str, lengths: dict[str, int]) -> None:
        self._source = source
        self._name = name
        self._lengths = lengths
        self._count = 0

    def any(self) -> Request:
        """Return a request of any kind."""
        self._count += 1
        kinds: list[tuple[int, Callable[[], Request]]] = [
            (4, self._query),
            (2, self._missing),
            (2, self._head),
            (4, lambda: self._upsert(self._source.randrange(200, 4_000))),
            (2, lambda: self._upsert(self._long())),
            (2, self._delete),
            (1, lambda: self._refused("no-such-index", 404, MAYBE)),
            (1, lambda: self._refused("", 405, MAYBE)),
            (1, self._bad),
            (1, self._too_long),
        ]
        weights = [weight for weight, _ in kinds]
        ((_, make),) = self._source.choices(kinds, weights)
        return make()

    def _query(self) -> Request:
        place, count = self._source.randrange(FIXED_COUNT), self._source.randrange(1, 9)
        body = json.dumps({"vector": [place, 1, 2, 3], "topK": count}).encode()

        def is_answer(answer: Answer) -> bool:
            matches = json.loads(answer.body)["result"]["matches"]
            return len(matches) == count and matches[0]["id"] == f"fixed-{place}"

        return self._made("POST", f"{INDEXES}/fixed/query", body, (200,), is_answer)

    def _missing(self) -> Request:
        name = f"no-{self._source.randrange(10**6)}"
        return self._made(
            "GET", f"{INDEXES}/{name}", None, (404,), lambda answer: name.encode() in answer.body
        )

    def _head(self) -> Request:
        target = self._source.choice(sorted(self._lengths))
        length = str(self._lengths[target])
        return self._made(
            "HEAD", target, None, (200,), lambda answer: answer.headers["content-length"] == length
        )

    def _upsert(self, size: int) -> Request:
        stored: dict[str, str | None] = {}
        lines = []
        for row in range(self._source.randrange(1, 6)):
            id_, text = self._id(), f"{self._name}.{self._count}.{row}"
            stored[id_] = text
            lines.append(_line(id_, text, 4))
        body = self._padded(lines, size)
        return self._made("POST", UPSERT, body, (200,), _is_mutation, stored)

    def _delete(self) -> Request:
        ids = [self._id() for _ in range(3)]
        body = json.dumps({"ids": ids}).encode()
        target = f"{INDEXES}/{DOCS.name}/delete_by_ids"
        return self._made("POST", target, body, (200,), _is_mutation, dict.fromkeys(ids))

    def _refused(self, index: str, status: int, closes: int) -> Request:
        """Return an upsert of an index that is not there, or by a method that is not."""
        method, target = ("POST", f"{INDEXES}/{index}/upsert") if index else ("PUT", UPSERT)
        size = self._source.choice([300, self._long()])
        body = self._padded([_line("never", "never", 4)], size)
        return self._made(method, target, body, (status,), _is_failure, closes=closes)

    def _bad(self) -> Request:
        """Return an upsert with one record of too many dimensions."""
        lines = [_line("never", "never", 4), _line("never", "never", 5), _line("never", "n", 4)]
        self._source.shuffle(lines)
        body = self._padded(lines, self._source.choice([300, self._long()]))
        return self._made("POST", UPSERT, body, (400,), _is_failure, closes=MAYBE)

    def _too_long(self) -> Request:
        body = self._padded([_line("never", "never", 4)], LIMITS.body_bytes_max + 1)
        return self._made("POST", UPSERT, body, (413,), _is_failure, closes=MAYBE)

    def _made(
        self,
        method: str,
        target: str,
        body: bytes | None,
        statuses: Sequence[int],
        is_answer: Callable[[Answer], bool],
        stored: dict[str, str | None] | None = None,
        *,
        closes: int = NEVER,
    ) -> Request:
        headers: dict[str, object] = {}
        if self._source.random() < 0.2:
            headers |= H2C
        if self._source.random() < 0.02:
            headers["Connection"] = "close"
            closes = ALWAYS
        data = b""
        if body is not None:
            if self._source.random() < 0.2:
                headers["Expect"] = "100-continue"
            if self._source.random() < 0.3:
                headers["Transfer_Encoding"] = "chunked"
                data = self._chunked(body)
            else:
                headers["Content_Length"] = len(body)
                data = body
        made = head(method, target, **headers) + data
        return Request(made, method, statuses, is_answer, stored or {}, closes)

    def _id(self) -> str:
        """Return a new id, or one of this connection's."""
        return f"{self._name}.{self._source.randrange(self._count * 3)}"

    def _long(self) -> int:
        return self._source.choice(
            [
                UPLOAD_BYTES_MIN + self._source.randrange(-2, 3),
                self._source.randrange(UPLOAD_BYTES_MIN, 900_000),
                PART_BYTES + self._source.randrange(-2, 3),
                self._source.randrange(PART_BYTES, LIMITS.body_bytes_max),
            ]
        )

    def _padded(self, lines: list[bytes], size: int) -> bytes:
        """Return lines with so many empty ones between them that there are `size` bytes."""
        left = size - sum(map(len, lines))
        text = b""
        for each in lines:
            empty = self._source.choice([0, left // 2, left]) if left > 0 else 0
            text += b"\n" * empty + each
            left -= empty
        return text + b"\n" * left

    def _chunked(self, body: bytes) -> bytes:
        text, start = [], 0
        most = self._source.choice([50, 5_000, 400_000])
        while start < len(body):
            size = max(self._source.randrange(1, most), len(body) // 200)
            part = body[start : start + size]
            text.append(b"%x\r\n%b\r\n" % (len(part), part))
            start += size
        return b"".join([*text, b"0\r\n\r\n"])


def _line(id_: str, text: str, dimensions: int) -> bytes:
    record = {"id": id_, "values": [0.5] * dimensions, "metadata": {"t": text}}
    return json.dumps(record).encode() + b"\n"


def _is_mutation(answer: Answer) -> bool:
    return "mutationId" in json.loads(answer.body)["result"]


def _is_failure(answer: Answer) -> bool:
    return json.loads(answer.body)["success"] is False


class Stored:
    """What may be stored of each id: one thing once it is known, None where it is nothing."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        self._engine = engine
        self._possible: dict[str, set[str | None]] = {}

    def done(self, request: Request) -> None:
        """Note what was acknowledged."""
        self._possible |= {id_: {text} for id_, text in request.stored.items()}

    def perhaps_done(self, request: Request) -> None:
        """Note what may have been done, or may be yet."""
        for id_, text in request.stored.items():
            self._possible.setdefault(id_, {None}).add(text)

    def check(self) -> None:
        """Compare all that is stored."""
        apply(self._engine, Delete(["nobody"]))  # behind all that was acknowledged
        ids, cursor = list[str](), None
        while True:
            page = self._engine.list(DOCS, LIMITS.list_count_max, cursor)
            ids += page.ids
            cursor = page.next_cursor
            if cursor is None:
                break
        found = {each.id: each for each in self._engine.get(DOCS, ids)}
        for id_, possible in self._possible.items():
            text = json.loads(found[id_].metadata)["t"] if id_ in found else None
            if text not in possible:
                raise Fault(f"of {id_} there is {text!r}, not one of {possible}")
            if id_ in found and found[id_].values.tolist() != [0.5] * 4:
                raise Fault(f"the values of {id_} are {found[id_].values}")
        if not set(ids) <= set(self._possible):
            raise Fault(f"nobody has sent {sorted(set(ids) - set(self._possible))[:10]}")


def _cuts(source: random.Random, requests: Sequence[Request], end: int) -> list[int]:
    """Return where to cut what is sent: anywhere, and beside the ends of heads and requests."""
    cuts = {source.randrange(end + 1) for _ in range(source.choice([0, 1, 3, 10, 40]))}
    start = 0
    for each in requests:
        for edge in (start, start + each.data.index(b"\r\n\r\n") + 4):
            if source.random() < 0.4:
                cuts.add(min(max(edge + source.randrange(-4, 5), 0), end))
        start += len(each.data)
    return sorted(cuts)


def _begun(
    source: random.Random, running: Running, name: str, lengths: dict[str, int]
) -> Connection:
    maker = Requests(source, name, lengths)
    requests = [maker.any() for _ in range(source.randrange(1, 9))]
    end = sum(len(each.data) for each in requests)
    return Connection(running, requests, _cuts(source, requests, end))


def _settle(connection: Connection, stored: Stored, *, is_aborted: bool) -> None:
    """Hold the answers of a connection against its requests, and note what these have done."""
    end, is_readable = 0, not is_aborted
    for request in connection.requests:
        end += len(request.data)
        answer = connection.answer(request.method) if is_readable else None
        if answer is not None:
            _compare(request, answer)
            if answer.status == 200:
                stored.done(request)
            if answer.closes:
                return  # and what follows is not done
            continue
        if not is_aborted and not connection.is_lost:
            raise Fault(f"no answer to {request.data[:200]!r}")
        is_readable = False
        if end <= connection.sent:
            stored.perhaps_done(request)
    if connection.is_lost and all(each.closes == NEVER for each in connection.requests):
        raise Fault("a connection was closed that nothing ends")


def _compare(request: Request, answer: Answer) -> None:
    if answer.status not in request.statuses or not request.is_answer(answer):
        raise Fault(f"{request.data[:200]!r} was answered {answer}")
    if request.closes != MAYBE and answer.closes != (request.closes == ALWAYS):
        raise Fault(f"{request.data[:200]!r} was answered with {answer.closes=}")


def _round(
    source: random.Random, seed: int, running: Running, lengths: dict[str, int], stored: Stored
) -> int:
    """Talk to the server over several connections at once; return how many requests were sent."""
    names = [f"{seed}.{number}" for number in range(source.randrange(1, 5))]
    connections = [_begun(source, running, name, lengths) for name in names]
    aborted = [each for each in connections if source.random() < 0.2]
    for each in aborted:
        del each.pieces[source.randrange(len(each.pieces) + 1) :]
    with running.connect() as beside:
        while left := [each for each in connections if each.pieces]:
            source.choice(left).send()
            if source.random() < 0.2:  # an answer between two pieces makes them come apart
                beside.sendall(head("GET", "/healthz"))
                beside.recv(65_536)
    for each in aborted:
        each.abort(resets=source.random() < 0.5)
    for each in connections:
        _settle(each, stored, is_aborted=each in aborted)
        each.socket.close()
    stored.check()
    return sum(len(each.requests) for each in connections)


def connections(seconds: float, seed: int) -> None:
    """Do rounds of this, each by its own seed."""
    end, rounds, count = time.monotonic() + seconds, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine = EmbeddedEngine.open(folder / "data", EngineOptions(LIMITS))
        with closing(engine):
            create(engine, DOCS, dimensions=4)
            create(engine, FIXED, dimensions=4)
            fixed = [Record(f"fixed-{place}", [place, 1, 2, 3]) for place in range(FIXED_COUNT)]
            insert(engine, *fixed, address=FIXED)
            app = application(folder, engine=engine, config=ServerConfig(limits=LIMITS))
            stored = Stored(engine)
            with in_thread(app) as running:
                lengths = _lengths(running)
                while rounds == 0 or time.monotonic() < end:
                    with _repeatable(seed + rounds):
                        source = random.Random(seed + rounds)
                        count += _round(source, seed + rounds, running, lengths, stored)
                    rounds += 1
            with _repeatable(seed):  # what was left in the middle is over by now
                stored.check()
    print(f"connections: seed {seed}: {rounds} rounds, {count} requests", flush=True)


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    try:
        yield
    except (Fault, TimeoutError) as fault:
        sys.exit(f"{fault!r}\nagain with: FUZZ_ONLY=connections FUZZ_SEED={seed} make fuzz")


def _lengths(running: Running) -> dict[str, int]:
    """Return how long the answers are that HEAD is asked for."""
    targets = [f"{INDEXES}/fixed", f"{INDEXES}/fixed/info", f"{INDEXES}/fixed/list?count=1000"]
    made = [Request(head("GET", each), "GET", (200,), lambda _: True) for each in targets]
    connection = Connection(running, made, [])
    connection.send()
    with closing(connection.socket):
        answers = [connection.answer("GET") for _ in targets]
    return {
        target: len(answer.body)
        for target, answer in zip(targets, answers, strict=True)
        if answer is not None
    }
