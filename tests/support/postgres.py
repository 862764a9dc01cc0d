"""A real PostgreSQL for tests: started, killed, stopped and promoted as they like.

A node of this process is patient with it, as the machine may be busy: tests of what is given up
say how soon.
"""

import functools
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support import programs as outside
from tests.support.memory import memory
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from vicinal.engine.shared import database, nodes, session

DEBIAN = Path("/usr/lib/postgresql")
_KEPT = Path(__file__).parents[2] / ".make" / "postgres"
VERSION_MIN = 15
ENDED_WITHIN_S = 60.0
LOCKED = "locked"  # the one user who needs a password
PATIENCE_S = 60.0

database.CONNECT_TIMEOUT_S = database.READ_TIMEOUT_S = session.BEGIN_TIMEOUT_S = PATIENCE_S
nodes.LIVE_S = PATIENCE_S


@functools.cache
def programs() -> Path | None:
    """The folder of the newest PostgreSQL of this machine that is new enough."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += [path / "bin" for path in DEBIAN.glob("*") if int(path.name) >= VERSION_MIN]
    return max(folders, key=lambda path: path.parent.name, default=None)


def need_postgres() -> Path:
    """Skip a test, loudly, where there is no PostgreSQL."""
    folder = programs()
    if folder is None:
        pytest.skip(f"needs PostgreSQL {VERSION_MIN} or newer (Debian: postgresql)")
    user = server_user()
    if user is not None:
        try:
            outside.run(["sh", "-c", ": > /dev/null"], user=user, cwd=Path("/"))
        except AssertionError as error:
            pytest.skip(f"PostgreSQL refuses root, and {user!r} cannot write here: {error}")
    return folder


def server_user() -> str | None:
    """Whom the server runs as: it refuses root."""
    if os.getuid() != 0:
        return None
    names = {each.pw_name for each in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


class Postgres:
    """A server in a folder of its own, in memory unless it syncs, on a free port of the loopback.

    Args:
        is_durable: Whether it syncs, as tests of durability need it to.
        settings: Others than usual.
        folder: Of PostgreSQL's programs, None for those of this machine.
    """

    def __init__(
        self,
        *,
        is_durable: bool = False,
        settings: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._programs = folder or need_postgres()
        self._settings = settings or {}
        self._user = server_user()
        # The tables of a schema are fifty files, which cost a disk more than their rows.
        place = None if is_durable else memory()
        self.folder = Path(tempfile.mkdtemp(prefix="vicinal-postgres-", dir=place))
        self.data = self.folder / "data"
        self.port = free_port()
        self._is_durable = is_durable
        self._process: subprocess.Popen[bytes] | None = None
        self._is_paused = False
        if self._user is not None:
            shutil.chown(self.folder, self._user)

    @property
    def dsn(self) -> str:
        return f"postgresql://vicinal@127.0.0.1:{self.port}/postgres"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def initialise(self) -> None:
        """Make its data folder: a copy of the one that initdb made when there was none yet."""
        options = (
            "--username=vicinal", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip
        program = (self._programs / "initdb").resolve()
        status = program.stat()
        made_by = repr([str(program), status.st_size, status.st_mtime_ns, options])
        kept = _KEPT / hashlib.sha256(made_by.encode()).hexdigest()[:32]
        if kept.exists():
            shutil.copytree(kept, self.data)
            if self._user is not None:
                for path in [self.data, *self.data.rglob("*")]:
                    shutil.chown(path, self._user)
        else:
            self.run("initdb", "--pgdata", str(self.data), *options)
            _keep(self.data, kept)
        access = self.data / "pg_hba.conf"
        access.write_text(f"host all {LOCKED} 127.0.0.1/32 scram-sha-256\n{access.read_text()}")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on" if self._is_durable else "off",
            "shared_buffers": "32MB",
            "max_connections": "200",
            "autovacuum_naptime": "10s",
            # In its folder, which goes: one that is killed leaves what it has in /dev/shm.
            "dynamic_shared_memory_type": "mmap",
            **self._settings,
        }
        # It ends with the tests, however they end.
        bound = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        program = str(self._programs / "postgres")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*bound, program, "-D", str(self.data), "-p", str(self.port), *options],
                user=self._user, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        try:
            wait_until(self._answers)
        except AssertionError as error:
            error.add_note(outside.tail(self.log))
            raise

    def kill(self) -> None:
        """End all its processes at once, as a lost machine does."""
        self._signal(signal.SIGSTOP)  # or it could begin others meanwhile, which would stay
        self._signal(signal.SIGKILL)
        self._wait()

    def pause(self) -> None:
        """Stop all its processes where they are: it hangs."""
        self._is_paused = True
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on, if it hangs."""
        if self._is_paused:
            self._signal(signal.SIGCONT)
            self._is_paused = False

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Have it hang while a block runs, however that ends."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def stop(self) -> None:
        """End it as a restart does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._wait()

    def close(self) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def check(self) -> None:
        """Fail when the server has ended."""
        assert self._process is not None
        assert self._process.poll() is None, f"the server has ended{outside.tail(self.log)}"

    def sql(self, statement: str) -> str:
        """Run SQL by psql; return the rows, tab-separated."""
        return self.run(
            "psql", "--no-psqlrc", "-tAX", "-F\t", "-v", "ON_ERROR_STOP=1", "-d", self.dsn,
            "-c", statement,
        ).strip()  # fmt: skip

    def follow(self, primary: "Postgres", *, name: str) -> None:
        """Become a standby of another server, and start."""
        self.run(
            "pg_basebackup", "-d", f"{primary.dsn}?application_name={name}", "-D", str(self.data),
            "-R", "-X", "stream", "-c", "fast", "--no-sync",
        )  # fmt: skip
        self.start()

    def promote(self) -> None:
        """Make a standby take writes."""
        self.run("pg_ctl", "promote", "-D", str(self.data), "-w")

    def run(self, program: str, *arguments: str, within_s: float = outside.WITHIN_S) -> str:
        """Run one of PostgreSQL's programs, within seconds; a failure carries the server's log."""
        command = [str(self._programs / program), *arguments]
        return outside.run(
            command, within_s=within_s, log=self.log, user=self._user, cwd=self.folder
        )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the server has ended{outside.tail(self.log)}"
        with suppress(AssertionError):
            self.run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port))
            return True
        return False

    @property
    def pid(self) -> int:
        """Of the process that begins all others."""
        assert self._process is not None
        return self._process.pid

    def _signal(self, number: signal.Signals) -> None:
        """Signal the server and its children, each of which leads a session of its own."""
        assert self._process is not None
        for each in [self._process.pid, *children(self._process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(each, number)

    def _wait(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(ENDED_WITHIN_S)
        except subprocess.TimeoutExpired as error:
            error.add_note(outside.tail(self.log))
            raise
        finally:
            outside.end(self._process)
            self._process, self._is_paused = None, False


def _keep(data: Path, kept: Path) -> None:
    """Keep a data folder for others and other runs; several may do so at once."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        copied = Path(folder) / "data"
        shutil.copytree(data, copied)
        with suppress(OSError):  # another was faster
            copied.rename(kept)


def children(parent: int) -> list[int]:
    """Return the processes that a process has begun."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(path.parent.name))
    return found


_server: Postgres | None = None


def server() -> Postgres:
    """The server that tests of this process share, which syncs nothing; skip where none can be."""
    global _server
    if _server is None:
        _server = Postgres()
        _server.initialise()
        _server.start()
    _server.check()
    return _server


def resume_server() -> None:
    """Let the server go on that a test has left hanging, for those that follow."""
    if _server is not None:
        _server.resume()


def close_server() -> None:
    """Stop it, if it was started."""
    global _server
    if _server is not None:
        _server.close()
        _server = None


def fresh_schema() -> str:
    """A name that no other test has."""
    return f"test_{uuid.uuid4().hex}"
