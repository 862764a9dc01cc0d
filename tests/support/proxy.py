"""TCP proxies before a database: one that loses, at a moment of a test's choice, what is under way,
and one whose connections never hold for long."""

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

_PART = 1 << 16
_ANSWERED_WITHIN_S = 60.0


class _Proxy:
    """Accepts connections on a port of its own, each served by a thread, until it is left.

    Args:
        port: Of the server.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        raise NotImplementedError


class LossyProxy(_Proxy):
    """Passes connections on, and cuts one off at the n-th request after `lose`.

    A request is what a client sends between two answers. The connection is cut either before the
    server gets the request, or after it has answered and before the client gets the answer.
    """

    def __init__(self, port: int) -> None:
        self._left = 0
        self._is_answer = True
        self.lost_count = 0
        super().__init__(port)

    def lose(self, number: int, *, is_answer: bool) -> None:
        """Lose the answer to the `number`-th request from now on, or the request itself."""
        with self._lock:
            self._left, self._is_answer = number, is_answer

    def keep(self) -> bool:
        """Lose nothing from now on; return whether something was yet to be lost."""
        with self._lock:
            was_due, self._left = self._left > 0, 0
            return was_due

    def _is_due(self) -> bool:
        with self._lock:
            if self._left == 0:
                return False
            self._left -= 1
            if self._left == 0:
                self.lost_count += 1
                return True
            return False

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            answers = _Answers(client, server)
            try:
                while request := client.recv(_PART):
                    is_due = self._is_due()
                    if is_due and not self._is_answer:
                        return
                    if is_due:
                        answers.drop()
                    server.sendall(request)
                    if is_due:
                        _pass_rest(client, server, answers)
                        return
            except OSError:
                return
            finally:
                for each in (client, server):
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)


class ShortProxy(_Proxy):
    """Passes connections on, and cuts each off once it has passed so many bytes of answers.

    Args:
        port: Of the server.
        on_cut: Called before a connection is cut off, one call at a time.
    """

    def __init__(self, port: int, on_cut: Callable[[], None] = lambda: None) -> None:
        self._on_cut = on_cut
        self.bytes_max: int | None = None
        """What a connection passes; None does not cut it."""
        self.cut_count = 0
        super().__init__(port)

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            both = (client, server)
            requests = threading.Thread(target=_pass_requests, args=both, daemon=True)
            requests.start()
            passed = 0
            with suppress(OSError):
                while answer := server.recv(_PART):
                    rest = len(answer) if self.bytes_max is None else self.bytes_max - passed
                    client.sendall(answer[: max(rest, 0)])
                    passed += len(answer)
                    if rest < len(answer):
                        with self._lock:
                            self.cut_count += 1
                            self._on_cut()
                        break
            for each in both:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            requests.join()


def _pass_requests(client: socket.socket, server: socket.socket) -> None:
    with suppress(OSError):
        while request := client.recv(_PART):
            server.sendall(request)
    with suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)


def _pass_rest(client: socket.socket, server: socket.socket, answers: "_Answers") -> None:
    """Pass on what is left of a request, which may come in pieces, until its answer is dropped."""
    until = time.monotonic() + _ANSWERED_WITHIN_S
    while not answers.has_dropped(0.005) and time.monotonic() < until:
        if select.select([client], [], [], 0)[0]:
            rest = client.recv(_PART)
            if not rest:
                return
            server.sendall(rest)


class _Answers:
    """What the server sends back: passed on, or dropped."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._client = client
        self._server = server
        self._is_dropped = threading.Event()
        self._has_dropped = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def drop(self) -> None:
        self._is_dropped.set()

    def has_dropped(self, wait_s: float) -> bool:
        """Tell whether one was dropped, or none can come, after waiting for it."""
        return self._has_dropped.wait(wait_s)

    def _run(self) -> None:
        with suppress(OSError):
            while answer := self._server.recv(_PART):
                if self._is_dropped.is_set():
                    self._has_dropped.set()
                else:
                    self._client.sendall(answer)
        self._has_dropped.set()
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
