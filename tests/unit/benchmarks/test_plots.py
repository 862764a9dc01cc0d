"""Plots are SVG, to scale, and never lay one label on another."""

import re
from itertools import pairwise

from benchmarks import plots
from benchmarks.plots import Bar, Group, Line


def widths(drawing: str) -> list[float]:
    return [float(each) for each in re.findall(r'width="([0-9.]+)" height="16"', drawing)]


def test_bars_are_as_long_as_their_values() -> None:
    bars = [Bar("a", 10, "10", is_ours=True), Bar("b", 20, "20", is_ours=False)]

    one, two = widths(plots.bars("Title", [Group("", bars)], is_log=False))

    assert two == 2 * one


def test_logarithmic_bars_begin_at_the_power_of_ten_below_all() -> None:
    bars = [Bar(str(value), value, "", is_ours=False) for value in (0.1, 1, 10)]

    one, two, three = widths(plots.bars("Title", [Group("", bars)], is_log=True))

    assert (one, two) == (0, three / 2)


def test_labels_of_lines_that_end_together_are_moved_apart() -> None:
    series = [Line(name, [1.0, 5.0], is_ours=False) for name in ("a", "b", "c")]

    drawing = plots.lines("Title", ["x", "y"], series)

    places = [float(y) for y in re.findall(r'y="([0-9.]+)"[^>]*>[abc]</text>', drawing)]
    assert len(places) == 3
    assert all(later - earlier >= 14 for earlier, later in pairwise(places))


def test_text_is_escaped() -> None:
    assert "<b>" not in plots.bars(
        "<b>", [Group("", [Bar("&", 1, "<", is_ours=True)])], is_log=False
    )
