"""The content of a named part of ``multipart/form-data``.

The boundary is taken from the body's first line, so a header that lost or mangled it does no
harm. Only the wanted part is sliced out of the body. All parts are read, as a name may be given
twice, and so their number is bounded.
"""

import re
from collections.abc import Iterator

from vicinal.wire.members import Malformed, Text

_START = re.compile(rb"--[^\r\n]+\r?\ncontent-", re.IGNORECASE)
_FIRST_LINE = re.compile(rb"--([^\r\n]+)\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_AFTER_DELIMITER = re.compile(rb"(--|[ \t]*\r?\n)")
_NAME = re.compile(
    rb'^content-disposition:[^\r\n]*[;\s]name=(?:"([^"\r\n]*)"|([^\s;]+))',
    re.IGNORECASE | re.MULTILINE,
)
_ENCODING = re.compile(rb"^content-transfer-encoding:[ \t]*([^\s;]+)", re.IGNORECASE | re.MULTILINE)
_PLAIN_ENCODINGS = (b"7bit", b"8bit", b"binary")


def looks_like_multipart(text: Text) -> bool:
    """Tell whether the text starts as a multipart body does."""
    return _START.match(text) is not None


def part(body: Text, name: str, parts_max: int) -> Text:
    """Return the content of the only part called `name`.

    Raises:
        Malformed: the body is cut off, or has no such part, or several, or an encoded one, or
            more than `parts_max` of any name.
    """
    names: list[str] = []
    content: Text | None = None
    for head, start, end in _parts(body):
        if len(names) == parts_max:
            raise Malformed(f"multipart body of more than {parts_max} parts")
        match = _NAME.search(head)
        names.append(
            "" if match is None else (match[1] or match[2] or b"").decode(errors="replace")
        )
        if names[-1] != name:
            continue
        if content is not None:
            raise Malformed(f"multipart body with several parts named {name!r}")
        encoding = _ENCODING.search(head)
        if encoding is not None and encoding[1].lower() not in _PLAIN_ENCODINGS:
            raise Malformed(
                f"multipart part in transfer encoding {encoding[1].decode('latin-1')!r}"
            )
        content = body[start:end]
    if content is None:
        raise Malformed(f"multipart body without a part named {name!r}; it has {names[:5]}")
    return content


def _parts(body: Text) -> Iterator[tuple[Text, int, int]]:
    """Yield the head of a part, and the positions of the start and the end of its content."""
    first = _FIRST_LINE.match(body)
    if first is None:
        raise Malformed("multipart body that does not start with its boundary")
    delimiter = b"\n--" + first[1].rstrip()
    position = first.end()
    while True:
        end, after = _next_delimiter(body, delimiter, position - 1)
        # A part without headers starts with the empty line itself.
        head_end = _HEAD_END.search(body, position - 1, end)
        if head_end is None:
            raise Malformed("multipart part without an empty line after its headers")
        content_end = end - 1 if body[end - 1 : end] == b"\r" and end > head_end.end() else end
        yield body[position : head_end.start() + 1], head_end.end(), content_end
        if after is None:
            return
        position = after


def _next_delimiter(body: Text, delimiter: bytes, position: int) -> tuple[int, int | None]:
    """Return the positions of the next delimiter and of the part after it, None for the last."""
    while True:
        start = body.find(delimiter, position)
        if start < 0:
            raise Malformed("multipart body cut off: its closing boundary is missing")
        position = start + len(delimiter)
        # A line that merely starts like the boundary belongs to the content.
        after = _AFTER_DELIMITER.match(body, position)
        if after is not None:
            return start, None if after[1] == b"--" else after.end()
