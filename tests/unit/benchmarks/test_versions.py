"""Two checkouts in turns: what is said of them follows from what was measured."""

from dataclasses import replace
from pathlib import Path

from benchmarks import versions
from benchmarks.contender import VICINAL, python_of


def test_a_checkout_runs_by_its_own_environment(tmp_path: Path) -> None:
    other = replace(VICINAL, name="other", checkout=tmp_path)

    assert python_of(other) == tmp_path / ".venv" / "bin" / "python"


def test_a_rate_is_worse_when_it_falls_and_a_cost_when_it_rises() -> None:
    rows = [
        *versions.row("HTTP, queries/s", [[100.0, 110.0, 90.0], [80.0, 70.0, 90.0]], (None, None)),
        *versions.row("query, CPU µs", [[100.0, 110.0, 90.0], [80.0, 70.0, 90.0]], (1.0, 1.0)),
    ]

    slower, cheaper = versions.marks(rows)

    assert slower.measured == 100.0 / 80.0
    assert not slower.is_met
    assert cheaper.measured == 80.0 / 100.0
    assert cheaper.is_met
