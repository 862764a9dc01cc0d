"""Tables on a narrow terminal and through a pipe show every character of what they show."""

import re

import pytest

from vicinal.cli import show

LONG_ID = "".join(f"{number:03}-" for number in range(40))


@pytest.mark.parametrize("columns", [30, 80])
def test_an_id_that_is_too_long_for_the_terminal_is_folded_and_not_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a terminal is written to
    monkeypatch.setenv("COLUMNS", str(columns))

    show.table(("id", "score"), [(LONG_ID, "0.5")], right=("score",))

    _, *lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert len(lines) > 1
    assert "".join(line.split()[0] for line in lines) == LONG_ID
    assert lines[0].split()[1] == "0.5"


def test_a_piped_line_is_as_long_as_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    show.table(("id", "score"), [(LONG_ID, "0.5")])

    assert capsys.readouterr().out.splitlines()[1].split() == [LONG_ID, "0.5"]
