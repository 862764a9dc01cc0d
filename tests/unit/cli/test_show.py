"""Tables on a narrow terminal and through a pipe show every character of what they show."""

import re

import pytest
from rich.cells import cell_len

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


def on_terminal(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_preview_takes_what_the_others_leave_of_the_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))

    show.table(("id", "metadata"), [("a", "日本" * 200), ("b", "short")], previewed=("metadata",))

    lines = on_terminal(capsys)
    assert len(lines) == 3
    assert lines[1].rstrip().endswith("…")
    assert columns - 2 <= cell_len(lines[1].rstrip()) <= columns
    assert lines[2].split() == ["b", "short"]


def test_a_preview_beside_a_long_id_is_short_and_the_id_is_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")

    show.table(("id", "metadata"), [(LONG_ID, "x" * 500)], previewed=("metadata",))

    _, *lines = on_terminal(capsys)
    assert "".join(line.split()[0] for line in lines) == LONG_ID
    assert lines[0].split()[1] == "x" * 19 + "…"


def test_two_previews_share_the_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")

    show.table(
        ("id", "metadata", "values"), [("a", "m" * 500, "[1]")], previewed=("metadata", "values")
    )

    _, line = on_terminal(capsys)
    assert line.split()[2] == "[1]"
    assert len(line.split()[1]) >= 40


def test_columns_that_were_asked_for_stay_though_they_are_empty(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show.table(("id", "k"), [("a", "")], keeps_empty=True)
    show.table(("id", "k"), [("a", "")])

    assert capsys.readouterr().out.splitlines() == ["id  k", "a", "id", "a"]


@pytest.mark.parametrize(
    ("value", "preview"),
    [
        ("x" * 60, '"' + "x" * 60 + '"'),
        ("x" * 61, '"' + "x" * 59 + '…"'),
        ("a\nb", '"a\\nb"'),
        ([1, 2, 3, 4], "[1,2,3,4]"),
        ([1, 2, 3, 4, 5], "[1,2,3,4,…]"),
        ({"a": [{"b": "y" * 70}]}, '{"a":[{"b":"' + "y" * 59 + '…"}]}'),
        (None, "null"),
    ],
)
def test_a_preview_cuts_long_strings_and_arrays(value: object, preview: str) -> None:
    assert show.compact(value, is_full=False) == preview


@pytest.mark.parametrize("is_terminal", [False, True])
def test_what_would_break_a_table_apart_is_shown_as_an_escape(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_terminal: bool
) -> None:
    if is_terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")

    show.table(("name\n", "description"), [("a", "one\ntwo \x1b[31mred\x07")])

    head, row = on_terminal(capsys)
    assert head.split() == ["name\\n", "description"]
    assert row.split() == ["a", "one\\ntwo", "\\x1b[31mred\\x07"]
