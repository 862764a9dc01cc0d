"""Sections and tables in Markdown. It must not know what they say."""

import textwrap
from collections.abc import Sequence

from benchmarks.report import Cell, shown

_WIDTH = 100


def section(heading: str, *paragraphs: str) -> str:
    """Return a section: tables and plots as they are, text and list items wrapped."""
    return "\n\n".join([f"## {heading}", *map(_wrapped, filter(None, paragraphs))])


def _wrapped(paragraph: str) -> str:
    if paragraph.startswith(("|", "!")):
        return paragraph
    return "\n".join(
        textwrap.fill(
            line,
            _WIDTH,
            subsequent_indent="  " if line.startswith("* ") else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in paragraph.split("\n")
    )


def piped(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return a table in Markdown."""
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[shown(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
