"""Runs the command line as a person would, against a server of the test's own."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from tests.support.model_engine import ModelEngine
from tests.support.server import Running
from vicinal.cli import main
from vicinal.model import (
    IndexAddress,
    Mutation,
    Page,
    Scan,
    StoredVector,
    UnresolvedMutation,
    VectorPage,
)


@dataclass(frozen=True, slots=True)
class Commands:
    """The command ``vicinal``, told by its environment which server is meant."""

    server: Running
    extra: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str | Path, stdin: str | bytes | None = None) -> Result:
        """Run a command, whatever becomes of it."""
        environment = {
            "VICINAL_URL": self.server.origin,
            "VICINAL_TOKEN": self.server.token,
            "VICINAL_ACCOUNT": self.server.account,
        }
        return CliRunner().invoke(
            main,
            [str(argument) for argument in arguments],
            input=stdin,
            env=environment | self.extra,
        )

    def ok(self, *arguments: str | Path, stdin: str | bytes | None = None) -> str:
        """Run a command that must succeed; return its standard output."""
        result = self.run(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.output + repr(result.exception)
        return result.stdout

    def fails(self, *arguments: str | Path, stdin: str | bytes | None = None) -> str:
        """Run a command that must fail with a sentence; return its standard error."""
        result = self.run(*arguments, stdin=stdin)
        assert result.exit_code in (1, 2), result.output
        assert isinstance(result.exception, SystemExit), repr(result.exception)
        return result.stderr


@dataclass(frozen=True, slots=True)
class ListedCall:
    """What was wanted of a page of vectors."""

    scan: Scan
    count: int


class Recorder(ModelEngine):
    """The engine as a dict that keeps a record of its calls, and fails when told to.

    Attributes:
        appended: The mutations, in order.
        asked: The ids of each `get`.
        listed: The calls to `list_vectors`.
        failures: By number of call to `append`, `list` or `list_vectors` (from 0), what it raises
            instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.appended: list[Mutation | UnresolvedMutation] = []
        self.asked: list[Sequence[str]] = []
        self.listed: list[ListedCall] = []
        self.failures: dict[int, Exception] = {}
        self._calls = 0

    def append(
        self, address: IndexAddress, mutation: Mutation | UnresolvedMutation, *, wait_s: float = 0.0
    ) -> Any:
        self._fail_if_told()
        accepted = super().append(address, mutation, wait_s=wait_s)
        self.appended.append(mutation)
        return accepted

    def list(self, address: IndexAddress, count: int, cursor: str | None) -> Page:
        self._fail_if_told()
        return super().list(address, count, cursor)

    def list_vectors(
        self, address: IndexAddress, scan: Scan, count: int, cursor: str | None
    ) -> VectorPage:
        self._fail_if_told()
        self.listed.append(ListedCall(scan, count))
        return super().list_vectors(address, scan, count, cursor)

    def get(self, address: IndexAddress, ids: Sequence[str]) -> Sequence[StoredVector]:
        self.asked.append(ids)
        return super().get(address, ids)

    def fail_at(self, call: int, error: Exception) -> None:
        """Raise `error` at the call of this number from now on, and only then."""
        self._calls, self.failures = 0, {call: error}

    def _fail_if_told(self) -> None:
        self._calls += 1
        if self._calls - 1 in self.failures:
            raise self.failures[self._calls - 1]


def write_records(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    """Write records as NDJSON."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return path
