"""``vicinal doctor``: is there what a server needs on this machine?

Nothing is changed; a running server of the data folder is asked. A finding is ok, a warning or a
problem; a problem keeps ``vicinal serve`` with the same settings from starting or answering.
"""

import errno
import importlib.metadata
import os
import platform
import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
import httpx

from vicinal import errors
from vicinal.cli import show
from vicinal.cli.config import config_option, read_settings
from vicinal.cli.demo import MODEL
from vicinal.d1 import Databases
from vicinal.d1.messages import Statement
from vicinal.engine import catalog
from vicinal.native.library import library
from vicinal.open_files import connections_max, most_files
from vicinal.settings import TOKENS_FILE, Settings
from vicinal.storage import folder_lock
from vicinal.tokens import REQUIRED_FILE, Tokens
from vicinal.verify.folder import verify_data_folder
from vicinal.wire import lines

if TYPE_CHECKING:  # needs a package that not everybody has
    from vicinal.engine.shared.report import DatabaseReport, NodeReport

OPEN_FILES_MIN = 4_096  # a server raises its soft limit to the hard one itself
DISK_BYTES_MIN = 1 << 30
CLOCK_SKEW_S_MAX = 2.0  # ours
NODE_SILENT_S_MAX = 5.0  # as long as others wait for its copies
BEHIND_COUNT_WARN = 10_000  # ours: a copy lacks a few, where it is written to all the time
UNFOLDED_BYTES_WARN = 1 << 30  # ours: at twice as much writers wait
ANSWER_S = 5.0  # within which a server is to say that it is ready

_PACKAGES = ("vicinal", "numpy", "onnxruntime", "msgspec", "uvicorn")


class Verdict(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    subject: str
    verdict: Verdict
    seen: str


@click.command("doctor")
@click.option("--data", help="The server's data folder.")
@click.option("--port", help="The port that it shall listen on.")
@click.option("--deep", is_flag=True, help="Read every checksum of the data folder, too.")
@show.json_option
@config_option
def command(
    data: str | None, port: str | None, *, deep: bool, as_json: bool, config: Path | None
) -> None:
    """Check versions, data folder, disk, server, port, tokens, open files and models.

    The exit status is 1 if a check finds a problem: what keeps `vicinal serve` from starting here
    or answering.
    """
    settings = read_settings(config, {"data": data, "port": port})
    findings = [*examine(settings), *(_contents(settings.data) if deep else ())]
    if as_json:
        show.json_of(findings)
    else:
        show.table(
            ("what", "verdict", "seen"),
            [(finding.subject, finding.verdict, finding.seen) for finding in findings],
        )
    problems = sum(finding.verdict is Verdict.PROBLEM for finding in findings)
    if problems:
        raise click.ClickException(f"{problems} of {len(findings)} checks found a problem")


def examine(settings: Settings) -> Iterator[Finding]:
    """Run the checks one after the other."""
    yield Finding("python", Verdict.OK, f"{platform.python_version()} on {platform.platform()}")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    yield Finding(
        "packages", Verdict.OK, ", ".join([*versions, f"sqlite {sqlite3.sqlite_version}"])
    )
    yield _compiled(
        "search", is_built=library() is not None, cost="queries take 2 to 3 times as long"
    )
    yield _compiled("reading", is_built=lines.is_built(), cost="many vectors are taken in slower")
    yield _sql()
    yield _data_folder(settings.data)
    yield from _catalog(settings.data)
    yield from _database(settings)
    yield _disk(settings.data)
    yield from _server(settings)
    yield _port(settings)
    yield _tokens(settings)
    yield _open_files(settings)
    yield from _models(settings)


def _compiled(part: str, *, is_built: bool, cost: str) -> Finding:
    if is_built:
        return Finding(f"compiled {part}", Verdict.OK, "built")
    advice = f"not built, so {cost}; install a C compiler, then vicinal again"
    return Finding(f"compiled {part}", Verdict.WARNING, advice)


def _sql() -> Finding:
    """Run a statement as the server would, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        databases = Databases(Path(folder))
        try:
            databases.execute("a", "b", [Statement("CREATE VIRTUAL TABLE t USING fts5(x)")])
        except errors.Error as error:
            return Finding("sql databases", Verdict.WARNING, f"do not work here: {error}")
        finally:
            databases.stop()
    return Finding("sql databases", Verdict.OK, "a process runs statements, FTS5 is there")


def _nearest(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())


def _data_folder(folder: Path) -> Finding:
    nearest = _nearest(folder)
    if not nearest.is_dir():
        return Finding("data folder", Verdict.PROBLEM, f"{nearest} is not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Finding("data folder", Verdict.PROBLEM, f"{nearest} cannot be written")
    if nearest != folder:
        return Finding("data folder", Verdict.OK, f"{folder} will be made")
    return Finding("data folder", Verdict.OK, f"{folder} is there")


def _catalog(folder: Path) -> Iterator[Finding]:
    """Yield a finding for each index whose entry cannot be read."""
    if not (folder / catalog.FILE_NAME).exists() or folder_lock.is_held(folder):
        return  # a server that has it open says in its log what it cannot read
    try:
        unreadable = catalog.unreadable_rows(folder)
    except errors.Error as error:
        yield Finding("catalog", Verdict.PROBLEM, str(error))
        return
    for row in unreadable:
        seen = f"{row.damage}; the other indexes are served"
        yield Finding(f"index {row.address.account}/{row.address.name}", Verdict.WARNING, seen)


def _contents(folder: Path) -> Iterator[Finding]:
    """Read every checksum of a data folder; yield a finding for each index and other part."""
    if not folder.is_dir():
        yield Finding("contents", Verdict.OK, f"{folder} is not there yet")
        return
    report = verify_data_folder(folder)
    for note in report.notes:
        yield Finding("contents", Verdict.OK, note)
    for subject in report.subjects:
        damages = [
            f"{damage.file} {damage.problem}"
            for damage in report.damages
            if damage.subject == subject.name
        ]
        seen = f"{subject.byte_count:,} bytes in {subject.file_count:,} files are as written"
        verdict = Verdict.PROBLEM if damages else Verdict.OK
        yield Finding(f"contents of {subject.name}", verdict, "; ".join(damages) or seen)


def _database(settings: Settings) -> Iterator[Finding]:
    """Examine the database that servers share, where one is set."""
    if settings.database is None:
        return
    from vicinal.app import database_report  # takes a second to import

    try:
        report = database_report(settings)
    except errors.Error as error:
        yield Finding("database", Verdict.PROBLEM, str(error))
        return
    yield _tables(report)
    yield _durability(report)
    skew = abs(report.clock_ahead_s)
    if skew > CLOCK_SKEW_S_MAX:
        advice = f"the database's differs by {skew:.1f} s; only the log's times are affected"
        yield Finding("clock", Verdict.WARNING, advice)
    else:
        yield Finding("clock", Verdict.OK, f"within {skew:.1f} s of the database's")
    live_count = sum(node.silent_s < NODE_SILENT_S_MAX for node in report.nodes)
    for node in report.nodes:
        yield _node(node, is_alone=live_count == 1)
    if report.unfolded_bytes > UNFOLDED_BYTES_WARN:
        advice = (
            f"{report.unfolded_bytes >> 20:,} MiB of the log are not in the rows; is a node up?"
        )
        yield Finding("rows", Verdict.WARNING, advice)


def _tables(report: "DatabaseReport") -> Finding:
    seen = f"PostgreSQL {report.version}, {report.round_trip_s * 1e3:.1f} ms away"
    if report.missing_rights:
        missing = ", ".join(report.missing_rights[:3])
        more = len(report.missing_rights) - 3
        missing += f" and {more} more" if more > 0 else ""
        return Finding("database", Verdict.PROBLEM, f"{seen}, the user lacks {missing}")
    if report.format is None:
        made = "its tables will be made" if report.may_create else "its tables cannot be made"
        verdict = Verdict.OK if report.may_create else Verdict.PROBLEM
        return Finding("database", verdict, f"{seen}, {made}")
    return Finding("database", Verdict.OK, f"{seen}, {report.index_count:,} indexes")


def _durability(report: "DatabaseReport") -> Finding:
    if not report.is_synced:
        advice = "fsync or full_page_writes is off: a loss of power loses acknowledged writes"
        return Finding("durability", Verdict.WARNING, advice)
    if not report.standby_names:
        advice = "writes are confirmed by 1 server; set synchronous_standby_names to survive it"
        return Finding("durability", Verdict.WARNING, advice)
    names = f"synchronous_standby_names is {report.standby_names!r}"
    if report.standby_count is None:
        seen = f"{names}; only a member of pg_read_all_stats sees whether one is connected"
        return Finding("durability", Verdict.OK, seen)
    if report.standby_count == 0:
        advice = f"{names}, and none of these is connected: every write waits"
        return Finding("durability", Verdict.WARNING, advice)
    seen = f"writes are confirmed by {1 + report.standby_count} servers or a quorum of them"
    return Finding("durability", Verdict.OK, seen)


def _node(node: "NodeReport", *, is_alone: bool) -> Finding:
    subject, seen = f"node {node.name}", f"seen {node.silent_s:.0f} s ago"
    if node.silent_s >= NODE_SILENT_S_MAX:
        return Finding(subject, Verdict.OK, f"{seen}; it has stopped")
    seen += f", {node.copy_count} copies"
    if is_alone:  # it does not say how far they are, as nobody waits for them
        return Finding(subject, Verdict.OK, seen)
    seen += f", at most {node.behind_count:,} mutations behind"
    is_behind = node.behind_count >= BEHIND_COUNT_WARN
    return Finding(subject, Verdict.WARNING if is_behind else Verdict.OK, seen)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(_nearest(folder)).free
    verdict = Verdict.OK if free >= DISK_BYTES_MIN else Verdict.WARNING
    return Finding("disk", verdict, f"{free / (1 << 30):,.1f} GiB free")


def _server(settings: Settings) -> Iterator[Finding]:
    """Tell what has the data folder open: a server, where it answers and which version it is."""
    if not folder_lock.is_held(settings.data):
        return
    holder = folder_lock.holder(settings.data)
    if holder is None:
        seen = f"a process has {settings.data} locked and does not say which"
        yield Finding("server", Verdict.OK, seen)
        return
    locked = f"process {holder.process} has {settings.data} locked"
    if holder.origin is None:
        yield Finding("server", Verdict.OK, f"{locked} and is no server")
        return
    answer = _asked(holder.origin)
    if answer is None or not answer.is_ready:
        seen = f"{locked}, but {holder.origin} does not answer within {ANSWER_S:g} s"
        yield Finding("server", Verdict.PROBLEM, seen)
    else:
        seen = f"{holder.origin} answers, version {answer.version}; {locked}"
        yield Finding("server", Verdict.OK, seen)


def _port(settings: Settings) -> Finding:
    address = f"{settings.host} port {settings.port}"
    try:
        family = socket.getaddrinfo(settings.host, settings.port)[0][0]
        socket.create_server((settings.host, settings.port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return _taken(settings, address)
        return Finding("port", Verdict.PROBLEM, f"{address}: {error.strerror}")
    if folder_lock.is_held(settings.data):
        seen = f"{address} is free, but another process has {settings.data} open"
        return Finding("port", Verdict.PROBLEM, seen)
    return Finding("port", Verdict.OK, f"{address} is free")


@dataclass(frozen=True, slots=True)
class _ServerAnswer:
    """The answer of a server of ours."""

    version: str
    status: int

    @property
    def is_ready(self) -> bool:
        return self.status == httpx.codes.OK


def _asked(url: str) -> _ServerAnswer | None:
    """Ask what answers at a URL; None if it is no server of ours."""
    try:
        with httpx.Client(base_url=url, timeout=ANSWER_S, trust_env=False) as http:
            ready = http.get("/readyz")
            version = http.get("/openapi.json").json()["info"]["version"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None
    return _ServerAnswer(str(version), ready.status_code)


def _taken(settings: Settings, address: str) -> Finding:
    """Tell whether it is the server of these settings that listens there."""
    from vicinal.app import origin

    answer = _asked(origin(settings.host, settings.port))
    if answer is None:
        return Finding("port", Verdict.PROBLEM, f"{address} is in use by something else")
    if not _is_own(settings):
        seen = (
            f"{address}: a server answers there, version {answer.version}, but not one of "
            f"{settings.data}: it has another folder; --port chooses another port for this one"
        )
        return Finding("port", Verdict.WARNING, seen)
    if not answer.is_ready:
        seen = f"{address}: the server there is not ready (HTTP {answer.status})"
        return Finding("port", Verdict.PROBLEM, seen)
    installed, version = importlib.metadata.version("vicinal"), answer.version
    if version != installed:
        seen = f"{address}: the server there is version {version}; start it again for {installed}"
        return Finding("port", Verdict.WARNING, seen)
    return Finding(
        "port", Verdict.OK, f"{address}: the server of {settings.data} answers, {version}"
    )


def _is_own(settings: Settings) -> bool:
    """Tell whether it is the server of the data folder that listens at the port."""
    holder = folder_lock.holder(settings.data)
    if holder is None:
        return folder_lock.is_held(settings.data)  # by a version that does not say where it is
    return holder.origin is not None and urlsplit(holder.origin).port == settings.port


def _tokens(settings: Settings) -> Finding:
    if settings.database is not None:
        return Finding("tokens", Verdict.OK, "in the database; vicinal token list shows them")
    count, are_needed = len(settings.token), settings.require_token
    path = settings.data / TOKENS_FILE
    if path.exists() or path.with_name(REQUIRED_FILE).exists():
        try:
            with closing(Tokens(path)) as tokens:
                count += len(tokens.list())
                are_needed = are_needed or tokens.are_needed()
        except errors.Error as error:
            return Finding("tokens", Verdict.PROBLEM, str(error))
    if count:
        return Finding("tokens", Verdict.OK, f"{count}; every request needs one")
    if not settings.is_loopback:
        advice = f"none, but {settings.host} can be reached by others"
        return Finding("tokens", Verdict.PROBLEM, advice)
    if are_needed:
        advice = "none, but requests need one; vicinal token create NAME makes one"
        return Finding("tokens", Verdict.WARNING, advice)
    return Finding("tokens", Verdict.OK, "none; any will do, only this machine can connect")


def _open_files(settings: Settings) -> Finding:
    files = most_files()
    try:
        connections = connections_max(settings.connections_max, files)
    except errors.InvalidInput as error:
        return Finding("open files", Verdict.PROBLEM, str(error))
    if files is None:
        return Finding("open files", Verdict.OK, f"no limit; {connections:,} connections")
    seen = f"{files:,} at most, {connections:,} of them connections"
    if files < OPEN_FILES_MIN:
        advice = f"{seen}; raise the hard limit to {OPEN_FILES_MIN:,} or more (ulimit -Hn)"
        return Finding("open files", Verdict.WARNING, advice)
    return Finding("open files", Verdict.OK, seen)


def _models(settings: Settings) -> Iterator[Finding]:
    from vicinal.app import open_embedder

    backend = open_embedder(settings)
    try:
        for model in backend.models():
            subject = f"model {model.name}"
            if not model.is_available:
                verdict = Verdict.WARNING if model.name == MODEL else Verdict.OK
                yield Finding(subject, verdict, f"not here; vicinal model pull {model.name}")
                continue
            try:
                backend.preload(model.name)
            except errors.Error as error:
                yield Finding(subject, Verdict.PROBLEM, str(error))
            else:
                yield Finding(subject, Verdict.OK, f"ready, {model.dimensions} dimensions")
    finally:
        backend.close()
