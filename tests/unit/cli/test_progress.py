"""A bar says percent, rate and the time that is left, of this run alone."""

import re
from pathlib import Path

import pytest

from tests.support.commands import Commands, write_records
from vicinal.cli import progress

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def test_a_rate_is_of_what_came_after_an_earlier_run() -> None:
    seconds = iter([100.0, 100.0, 104.0])
    rate = progress.Rate(1_000, clock=lambda: next(seconds))

    assert rate.text(1_000) == "1,000 vectors (0/s)"
    assert rate.text(3_000) == "3,000 vectors (500/s)"


@pytest.mark.parametrize(
    ("done", "total", "part"), [(0, 7, 0), (1, 7, 142), (7, 7, 1_000), (0, 0, 1_000)]
)
def test_a_part_is_of_the_whole(done: int, total: int, part: int) -> None:
    assert progress.part_of(done, total) == part


def test_a_terminal_sees_percent_text_and_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")

    with progress.bar("into docs", 400) as report:
        report(100, "10 vectors (5/s)")
        report(200, "20 vectors (5/s)")

    shown = ESCAPES.sub("", capsys.readouterr().err)
    assert re.search(r"into docs \S+\s+50% 20 vectors \(5/s\) (\d:\d\d:\d\d|-:--:--)", shown)


def test_a_pipe_sees_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("into docs", 400) as report:
        report(100, "10 vectors")

    assert capsys.readouterr().err == ""


def test_an_import_shows_its_rate(vicinal: Commands) -> None:
    vicinal.ok("index", "create", "docs", "--dimensions", "1", "--metric", "cosine")
    records = [{"id": str(number), "values": [1]} for number in range(40)]
    file = write_records(Path("in.ndjson"), records)
    terminal = Commands(vicinal.server, {"FORCE_COLOR": "1", "COLUMNS": "160"})

    result = terminal.run("import", file, "docs", "--batch-size", "10")

    assert result.exit_code == 0, result.output
    shown = ESCAPES.sub("", result.stderr)
    assert re.search(r"into docs .*100% 40 vectors \([\d,]+/s\)", shown)
