"""Three PostgreSQL under Patroni and etcd: the leader is killed, or hangs, under writes.

A machine that hangs is ended by its watchdog before it wakes: here it is killed once another leads,
and started again. Without that Patroni may take the lead back as it wakes, with a PostgreSQL that
has never been told of the other's writes (docs/scale-out.md).

Slow, as Patroni notices a lost leader after 20 seconds, the least that it allows.
"""

import json
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support import programs
from tests.support.engines import DOCS, Record, batch, create, found, insert, vector
from tests.support.ports import free_port
from tests.support.postgres import children, need_postgres, server_user
from tests.support.waiting import wait_until
from vicinal.engine.shared.engine import SharedEngine, SharedOptions
from vicinal.model import Accepted, Query, Upsert

pytestmark = pytest.mark.slow

WITHIN_S = 180.0
MEMBERS = 3


class Patroni:
    """etcd and the members of a cluster, each in a folder of its own."""

    def __init__(self) -> None:
        self._programs = need_postgres()
        self._user = server_user()
        for program in ("etcd", "patroni"):
            if shutil.which(program) is None:
                pytest.skip(f"needs {program} (Debian: etcd-server, patroni)")
        self.folder = Path(tempfile.mkdtemp(prefix="vicinal-patroni-"))
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.ports = [free_port() for _ in range(MEMBERS)]
        self._apis = [free_port() for _ in range(MEMBERS)]
        self._etcd = free_port()

    def start(self) -> None:
        """Start all, and wait until a standby is synchronous."""
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd, free_port()))
        self._processes.append(
            self._start(
                "etcd", "--data-dir", "etcd", "--listen-client-urls", client,
                "--advertise-client-urls", client, "--listen-peer-urls", peer,
                "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
            )
        )  # fmt: skip
        wait_until(lambda: self._answers(f"{client}/health"), WITHIN_S)
        for number in range(MEMBERS):
            path = self.folder / f"{number}.yml"
            path.write_text(json.dumps(self._config(number)))  # which is YAML as well
            self._processes.append(self._start("patroni", path.name))
            wait_until(lambda number=number: self._has_role(number), WITHIN_S)  # type: ignore[misc]
        wait_until(self._is_synchronous, WITHIN_S)

    @property
    def dsn(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"postgresql://vicinal@{hosts}/postgres"

    def leader(self) -> int:
        """Return the number of the member that takes writes."""
        return next(
            number for number in range(MEMBERS) if self._answers(self._url(number, "primary"))
        )

    def signal(self, number: int, sent: signal.Signals) -> None:
        """Signal Patroni and PostgreSQL of a member."""
        pids = [self._processes[number + 1].pid]
        with suppress(FileNotFoundError):
            pid_file = self.folder / f"data{number}" / "postmaster.pid"
            postmaster = int(pid_file.read_text().split("\n")[0])
            pids += [postmaster, *children(postmaster)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, sent)

    def start_again(self, number: int) -> None:
        """Start a member that was killed; it follows the leader."""
        programs.end(self._processes[number + 1])
        self._processes[number + 1] = self._start("patroni", f"{number}.yml")
        wait_until(lambda: self._answers(self._url(number, "replica")), WITHIN_S)

    def sql(self, statement: str) -> str:
        """Run SQL at the leader."""
        dsn = f"postgresql://vicinal@127.0.0.1:{self.ports[self.leader()]}/postgres"
        command = [str(self._programs / "psql"), "-tAX", "-F\t", "-d", dsn, "-c", statement]
        return programs.run(command, log=self.folder / "log").strip()

    def close(self) -> None:
        for number in range(len(self._processes) - 1):
            self.signal(number, signal.SIGKILL)
        for process in self._processes:
            programs.end(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(shutil.which(program)), *arguments], user=self._user, cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "HOME": str(self.folder)},
            )  # fmt: skip

    def _config(self, number: int) -> dict[str, object]:
        hba = ["host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"]
        return {
            "scope": "vicinal",
            "name": f"member{number}",
            "restapi": {
                "listen": f"127.0.0.1:{self._apis[number]}",
                "connect_address": f"127.0.0.1:{self._apis[number]}",
            },
            "etcd3": {"host": f"127.0.0.1:{self._etcd}"},
            "bootstrap": {
                "dcs": {"ttl": 20, "loop_wait": 2, "retry_timeout": 3, "synchronous_mode": True},
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
                "pg_hba": hba,
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.ports[number]}",
                "connect_address": f"127.0.0.1:{self.ports[number]}",
                "data_dir": str(self.folder / f"data{number}"),
                "bin_dir": str(self._programs),
                "use_pg_rewind": True,
                "pgpass": str(self.folder / f"pgpass{number}"),
                "authentication": {
                    "superuser": {"username": "vicinal"},
                    "replication": {"username": "replicator"},
                    "rewind": {"username": "vicinal"},
                },
                "parameters": {"unix_socket_directories": "", "shared_buffers": "32MB"},
                "pg_hba": hba,
            },
        }

    def _url(self, number: int, name: str) -> str:
        return f"http://127.0.0.1:{self._apis[number]}/{name}"

    def _answers(self, url: str) -> bool:
        try:
            with urlopen(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _has_role(self, number: int) -> bool:
        names = ("primary", "replica")
        return any(self._answers(self._url(number, name)) for name in names)

    def _is_synchronous(self) -> bool:
        return any(self._answers(self._url(number, "synchronous")) for number in range(MEMBERS))


@pytest.fixture
def patroni() -> Iterator[Patroni]:
    patroni = Patroni()
    try:
        patroni.start()
        yield patroni
        logging.getLogger(__name__).warning(programs.tail(patroni.folder / "log"))
    except AssertionError as error:
        error.add_note(programs.tail(patroni.folder / "log"))
        raise
    finally:
        patroni.close()


@pytest.fixture
def nodes(patroni: Patroni, tmp_path: Path) -> Iterator[list[SharedEngine]]:
    options = SharedOptions(patroni.dsn, write_deadline_s=WITHIN_S, open_wait_s=WITHIN_S)
    with ExitStack() as opened:
        nodes = [SharedEngine.open(tmp_path / str(number), options) for number in range(2)]
        for node in nodes:
            opened.callback(node.close)
        yield nodes


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hangs"])
def test_nothing_acknowledged_is_lost_or_there_twice_when_the_leader_is_gone(
    patroni: Patroni, nodes: list[SharedEngine], how: signal.Signals
) -> None:
    create(nodes[0])
    insert(nodes[0], Record("a", [0, 0]))
    assert found(nodes[1], Query(top_k=1, vector=vector(0, 0))) == ["a"]
    accepted: dict[str, Accepted] = {}
    stop = threading.Event()

    def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            id_ = f"w{writer}-{number}"
            upsert = Upsert(batch(Record(id_, [writer, number])))
            accepted[id_] = nodes[writer % 2].append(DOCS, upsert).result(WITHIN_S)
            number += 1

    def read() -> int:
        count = 0
        while not stop.is_set():
            for node in nodes:
                assert found(node, Query(top_k=1, vector=vector(0, 0))) == ["a"]
            count += 1
        return count

    with ThreadPoolExecutor(5) as threads:
        writing = [threads.submit(write, number) for number in range(4)]
        reading = threads.submit(read)
        try:
            wait_until(lambda: len(accepted) > 200, WITHIN_S)
            old = patroni.leader()
            patroni.signal(old, how)
            count = len(accepted)
            wait_until(lambda: len(accepted) > count + 200, WITHIN_S)
            patroni.signal(old, signal.SIGKILL)
            patroni.start_again(old)
            count = len(accepted)
            wait_until(lambda: len(accepted) > count + 200, WITHIN_S)
        finally:
            stop.set()
        for each in writing:
            each.result(WITHIN_S)
        assert reading.result(WITHIN_S) > 0

    assert patroni.leader() != old
    rows = patroni.sql("SELECT seqno, mutation_id FROM vicinal.mutation ORDER BY seqno")
    log = {int(seqno): id_ for seqno, id_ in (row.split("\t") for row in rows.splitlines())}
    assert sorted(log) == list(range(1, len(log) + 1))
    assert len(set(log.values())) == len(log)
    assert all(log[each.seqno] == each.mutation_id for each in accepted.values())
    last = max(each.seqno for each in accepted.values())
    for node in nodes:
        assert node.wait_applied(DOCS, last, WITHIN_S)
        assert len(node.get(DOCS, list(accepted))) == len(accepted)
