"""The commands and programs in documents, as a reader would copy them."""

import re
from dataclasses import dataclass
from pathlib import Path

_HEADING = re.compile(r"^#+ (.*)$")
_FENCE = re.compile(r"^```(\w*)(?: (\S+))?$")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a document.

    Attributes:
        heading: The heading that it stands under.
        language: Like ``sh``.
        name: What stands after the language: the file that the text is to be put into.
        text: The lines within.
    """

    heading: str
    language: str
    name: str
    text: str


def blocks(document: Path) -> list[Block]:
    """Return the blocks of a Markdown document, in order."""
    read: list[Block] = []
    heading, opened = "", None
    lines: list[str] = []
    for line in document.read_text(encoding="utf-8").splitlines():
        if opened is not None:
            if line == "```":
                read.append(Block(heading, opened[1], opened[2] or "", "\n".join(lines) + "\n"))
                opened = None
            else:
                lines.append(line)
        elif (opened := _FENCE.match(line)) is not None:
            lines = []
        elif (title := _HEADING.match(line)) is not None:
            heading = title[1]
    assert opened is None, f"{document}: a block is not closed"
    return read
