"""Cutting texts that are longer than a model reads, before they are split into tokens.

A tokenizer takes about 60 bytes of memory for each byte that it is given, and seconds for a
megabyte, though all but the first few hundred tokens are thrown away. So it is given a start
only, in two steps:

1. `start`: up to a space, so that no word is cut. That has enough tokens for nearly every text.
2. `squeezed`, if `start` has too few: longer parts that make one token or none are shortened. Gaps
   become one space. A word longer than the tokenizer reads is one unknown token (BERT: more than
   100 characters), and stays one without its end; so are marks and signs without width, which are
   left out.

Characters beyond the bounds are not read. That changes a vector only if a text has fewer than one
token in 128 characters over tens of thousands of characters.
"""

import re
from collections.abc import Iterator

CHARS_PER_TOKEN = 16
"""Ours: English has 4 to 5 characters a token, so the start of nearly every text is enough."""

SQUEEZED_CHARS_PER_TOKEN = 128
"""Ours: more than the longest word that BERT reads, and the space after it."""

CHARS_LOOKED_AT_MAX = 1 << 18
"""Ours, of one text: squeezing them takes about 10 ms, and a call may have a hundred texts."""

_WINDOW = 1 << 14  # characters squeezed at once: for about a millisecond nothing else can run

_GAP = re.compile(r"\s{2,}")
# Ideographs, which BERT's normalizer writes as words of one character.
_IDEOGRAPHS = (
    r"\u3400-\u4DBF\u4E00-\u9FFF\uF900-\uFAFF"
    r"\U00020000-\U0002A6DF\U0002A700-\U0002CEAF\U0002F800-\U0002FA1F"
)
# Combining marks, variation selectors, soft hyphen, joiners, directions and other such signs.
_MARKS = (
    r"\u00AD\u0300-\u036F\u0483-\u0489\u061C\u180B-\u180F\u1AB0-\u1AFF\u1DC0-\u1DFF"
    r"\u200B-\u200F\u202A-\u202E\u2060-\u206F\u20D0-\u20FF\uFE00-\uFE0F\uFE20-\uFE2F\uFEFF"
    r"\U000E0000-\U000E0FFF"
)
_LETTER = rf"[^\W_{_IDEOGRAPHS}{_MARKS}]"


def start(text: str, chars: int) -> str:
    """Return `text` up to a space before `chars`; the whole of it when it is not longer."""
    return text if len(text) <= chars else text[: max(0, text.rfind(" ", 0, chars))]


class Squeezer:
    """Shortens the parts of a text that make few tokens.

    Args:
        word_chars_max: The longest word that the tokenizer reads; a longer one is one token.
    """

    def __init__(self, word_chars_max: int) -> None:
        kept = word_chars_max + 1
        self._marks = re.compile(rf"([{_MARKS}]{{{kept}}})[{_MARKS}]++")
        # Possessive, so that the match keeps no state for every letter.
        self._word = re.compile(
            rf"((?:{_LETTER}[{_MARKS}]*+){{{kept}}}+)(?:{_LETTER}|[{_MARKS}])++"
        )

    def squeezed(self, text: str, chars: int) -> str:
        """Return at most `chars` characters that make the tokens of the start of `text`."""
        parts: list[str] = []
        length = 0
        for part in self._windows(text):
            parts.append(part)
            length += len(part)
            if length >= chars:
                break
        return "".join(parts)[:chars]

    def _windows(self, text: str) -> Iterator[str]:
        for begin in range(0, min(len(text), CHARS_LOOKED_AT_MAX), _WINDOW):
            window = _GAP.sub(" ", text[begin : begin + _WINDOW])
            yield self._word.sub(r"\1", self._marks.sub(r"\1", window))
