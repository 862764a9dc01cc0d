"""Plots as SVG text: bars and lines, in black, grey and one colour, on white.

The same numbers give the same bytes, so that a test can hold a committed plot against the
data files. It must not know what is plotted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_OURS, _THEIRS, _FAINT = "#c2410c", "#64748b", "#cbd5e1"
_WIDTH = 760
_LEFT, _RIGHT = 120, 240  # room for labels beside the bars
_TOP = 34
_BAR, _GAP = 16, 6
_LINES_LEFT, _LINES_RIGHT, _LINES_HEIGHT = 60, 200, 260
_LABEL = 14  # the height of a line of text


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: its label, its length, what stands behind it, and whether it is ours."""

    label: str
    value: float
    note: str
    is_ours: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Bars under a heading."""

    heading: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Line:
    """A value at each place of the horizontal axis; None leaves a gap."""

    label: str
    values: Sequence[float | None]
    is_ours: bool


def bars(title: str, groups: Sequence[Group], *, is_log: bool) -> str:
    """Return horizontal bars; on a logarithmic scale from the power of ten below all."""
    values = [bar.value for group in groups for bar in group.bars]
    low = 10.0 ** math.floor(math.log10(min(values))) if is_log else 0.0
    high, room = max(values), _WIDTH - _LEFT - _RIGHT

    def length(value: float) -> float:
        if is_log:
            return room * math.log(value / low) / math.log(high / low)
        return room * value / high

    parts = [_text(10, 20, title, weight="bold")]
    y = _TOP
    for group in groups:
        if group.heading:
            parts.append(_text(10, y + 13, group.heading, size=12))
            y += _BAR + _GAP
        for bar in group.bars:
            colour = _OURS if bar.is_ours else _THEIRS
            end = _LEFT + length(bar.value)
            parts += [
                _text(_LEFT - 6, y + 12, bar.label, anchor="end", size=12, colour=colour),
                _bar(y, end - _LEFT, colour),
                _text(end + 6, y + 12, bar.note, size=12, colour=colour),
            ]
            y += _BAR + _GAP
        y += _GAP
    return _document(title, y + _GAP, parts)


def lines(title: str, places: Sequence[str], series: Sequence[Line]) -> str:
    """Return lines over named places, on a logarithmic scale, each with its label at its end."""
    values = [value for line in series for value in line.values if value is not None]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    bottom, right = _TOP + _LINES_HEIGHT, _WIDTH - _LINES_RIGHT
    step = (right - _LINES_LEFT) / max(1, len(places) - 1)

    def height(value: float) -> float:
        return bottom - _LINES_HEIGHT * (math.log10(value) - low) / (high - low)

    parts = [_text(10, 20, title, weight="bold")]
    for power in range(low, high + 1):
        y = height(10.0**power)
        parts += [
            f'<line x1="{_LINES_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{_FAINT}"/>',
            _text(_LINES_LEFT - 8, y + 4, f"{10.0**power:g}", anchor="end", size=12),
        ]
    for number, name in enumerate(places):
        parts.append(
            _text(_LINES_LEFT + step * number, bottom + 20, name, anchor="middle", size=12)
        )
    for line in series:
        points = [
            f"{_LINES_LEFT + step * number:.1f},{height(value):.1f}"
            for number, value in enumerate(line.values)
            if value is not None
        ]
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke-width="2" '
            f'stroke="{_OURS if line.is_ours else _THEIRS}"/>'
        )
    ends = [height(next(v for v in reversed(line.values) if v is not None)) for line in series]
    for line, y in zip(series, _apart(ends), strict=True):
        colour = _OURS if line.is_ours else _THEIRS
        parts.append(_text(right + 8, y + 4, line.label, size=12, colour=colour))
    return _document(title, bottom + 34, parts)


def _bar(y: float, width: float, colour: str) -> str:
    return f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>'


def _apart(heights: Sequence[float]) -> list[float]:
    """Return the heights in their order, moved down so that no two labels lie on each other."""
    moved = list(heights)
    least = -math.inf
    for number in sorted(range(len(moved)), key=lambda index: heights[index]):
        moved[number] = least = max(moved[number], least + _LABEL)
    return moved


def _text(
    x: float, y: float, text: str, *,
    anchor: str = "start", size: int = 14, colour: str = "#0f172a", weight: str = "normal",
) -> str:  # fmt: skip
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}" fill="{colour}">{escape(text)}</text>'
    )


def _document(title: str, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" '
        f'width="{_WIDTH}" height="{height:.0f}" font-family="sans-serif" role="img">'
    )
    return "\n".join(
        [
            head,
            f"<title>{escape(title)}</title>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        ]
    )
