"""An import whose request is cut off as the server stops goes on with the one that comes after."""

import json
import logging
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.asgi import application
from tests.support.commands import Recorder
from tests.support.engines import DOCS, create
from tests.support.server import in_thread
from vicinal.cli import main

HELD_BYTES = 400
"""Bytes of a body that the server gets before it waits for the rest."""
DONE_WITHIN_S = 120.0


class HoldingProxy:
    """Passes connections on, but of the first body a beginning alone; then `is_holding` is set.

    Attributes:
        target: Port of the server, which may change.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.is_holding = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self.target)) as on:
            threading.Thread(target=self._answer, args=(on, client), daemon=True).start()
            while part := client.recv(65_536):
                head, separator, body = part.partition(b"\r\n\r\n")
                is_write = b"/upsert" in head or b"/insert" in head
                if is_write and not self.is_holding.is_set():
                    on.sendall(head + separator + body[:HELD_BYTES])
                    self.is_holding.set()
                    while client.recv(65_536):  # the rest, which never arrives
                        pass
                    return
                on.sendall(part)

    @staticmethod
    def _answer(on: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while part := on.recv(65_536):
                client.sendall(part)
            client.shutdown(socket.SHUT_RDWR)


def importing(proxy: HoldingProxy, file: Path) -> tuple[threading.Thread, list[Result]]:
    """Run an import in a thread; return it, and where its result will be."""
    results: list[Result] = []

    def run() -> None:
        environment = {"VICINAL_URL": f"http://127.0.0.1:{proxy.port}", "VICINAL_ACCOUNT": "acme"}
        arguments = ["import", str(file), "docs", "--wait"]
        results.append(CliRunner().invoke(main, arguments, env=environment))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, results


def test_every_vector_is_there_when_a_server_stops_in_the_middle_of_a_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "vicinal.access")
    file = tmp_path / "in.ndjson"
    rows = [{"id": str(number), "values": [number, 1]} for number in range(300)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine = Recorder()
    create(engine)
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    with in_thread(application(tmp_path / "first", engine=engine), shutdown_timeout_s=1) as first:
        proxy = HoldingProxy(first.port)
        thread, results = importing(proxy, file)
        assert proxy.is_holding.wait(DONE_WITHIN_S)
    access = [each for each in caplog.records if each.name == "vicinal.access"]
    statuses = [vars(each)["fields"]["status"] for each in access]
    with in_thread(application(tmp_path / "second", engine=engine)) as second:
        proxy.target = second.port
        thread.join(DONE_WITHIN_S)
    proxy.close()

    assert 503 in statuses, "the request was not cut off"
    assert [each.exit_code for each in results] == [0], results
    assert engine.status(DOCS).vector_count == len(rows)
    assert [each for each in caplog.records if each.exc_info] == []
