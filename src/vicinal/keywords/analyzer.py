"""Texts as terms: the words that are stored and looked up by keyword search.

* Texts that look alike have the same terms: they are normalized first (NFKC: composed or not, of
  half or full width, ligatures), without what shows nothing (soft hyphens, joiners, marks of
  direction, selectors of variants).
* A word is a run of letters and digits of any script, with their combining marks. Numbers with dots
  in them are one word (``1.2.3``), and a v before them does not count; underscores, hyphens and
  all else end a word.
* Words are compared without case and accents. With a language they are cut to their stems
  (Snowball); without one they stay whole.
* Scripts without spaces (Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese) become pairs of
  neighbouring characters, a single character stays one.
* No word is left out for being common: the score weighs those less.

An analyzer remembers the terms of the words that it has met, as texts repeat them: a text costs one
look-up for each word.
"""

import re
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain, islice

import Stemmer

VERSION = 2
"""Of the rules: terms that another version has stored may not be those of today's texts."""

TERMS_MAX = 10_000
"""Terms of one document that are indexed, the first ones: ours. No metadata of any profile of
limits has more."""

TERM_CHARS_MAX = 64
"""Ours: of a longer word the start counts."""

_REMEMBERED_WORDS_MAX = 1 << 16  # ours: about 10 MB
_REMEMBERED_CHARS_MAX = 64  # of a word; longer ones are looked at each time

_ASCII_WORD = re.compile(r"[vV]?\d+(?:\.\d+)+[A-Za-z0-9]*|[A-Za-z0-9]+")
_VERSION = re.compile(r"[vV]\d+\.")

# Characters that show nothing, but for the zero-width space (U+200B), which ends words.
_IGNORED = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200c-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
_UNSPACED = (
    "\u0e01-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u1100-\u11ff\ua960-\ua97f\uac00-\ud7ff"  # Korean
    "\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff"  # Japanese
    "\u3100-\u312f\u31a0-\u31bf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUN = re.compile(f"[{_UNSPACED}]+|[^_{_UNSPACED}]+")
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
# Marks that are accents; those of Indian scripts are vowels.
_ACCENTS = re.compile(
    "[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
    "\u0610-\u061a\u064b-\u065f\u0670]"
)
_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th", "\u0131": "i"}
)

Span = tuple[str, int, int]
"""A term, and the characters of the text that it begins and ends at."""


def languages() -> Sequence[str]:
    """Return the names of the languages whose words can be cut to stems."""
    names: list[str] = Stemmer.algorithms()
    return sorted(names)


@cache
def analyzer(language: str | None) -> "Analyzer":
    """Return the analyzer of a language, or the one that leaves words whole."""
    return Analyzer(language)


class Analyzer:
    """Makes terms of texts. Thread-safe.

    Args:
        language: One of `languages`, or None.
    """

    def __init__(self, language: str | None) -> None:
        self._terms_of = _Words(language)

    def terms(self, texts: Iterable[str]) -> list[str]:
        """Return the terms of one document, which may have several texts, in their order."""
        words = chain.from_iterable(map(_words, texts))
        terms = chain.from_iterable(map(self._terms_of.__getitem__, words))
        return list(islice(terms, TERMS_MAX))

    def distinct(self, text: str) -> dict[str, None]:
        """Return the distinct terms of a text, in their order."""
        return dict.fromkeys(self.terms([text]))

    def spans(self, text: str) -> Iterator[Span]:
        """Yield the terms of a text with their places in it."""
        normal = normalized(text)
        places = None if normal == text else _places(text)
        pattern = _ASCII_WORD if normal.isascii() else _word()
        for match in pattern.finditer(normal):
            for term, first, last in self._terms_of.spans(match[0]):
                start, end = match.start() + first, match.start() + last
                if places is None:
                    yield term, start, end
                else:
                    yield term, places[start][0], places[end - 1][1]


def normalized(text: str) -> str:
    """Return a text in the form that all have that look like it."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", _IGNORED.sub("", text))


def _places(text: str) -> list[tuple[int, int]]:
    """Return for each character of the normalized text where the part of the text is that it is
    made of."""
    places: list[tuple[int, int]] = []
    start = 0
    for end in range(1, len(text) + 1):
        if end < len(text) and _goes_with_the_last(text[end]):
            continue
        places += [(start, end)] * len(normalized(text[start:end]))
        start = end
    return places


@lru_cache(1 << 12)
def _goes_with_the_last(character: str) -> bool:
    """Tell whether a character may be normalized together with the one before it, or to nothing."""
    normal = normalized(character)
    return not normal or unicodedata.combining(normal[0]) > 0 or normal[0] in _second_parts()


class _Words(dict[str, tuple[str, ...]]):
    """The terms of words; a word that is missing is analyzed."""

    def __init__(self, language: str | None) -> None:
        super().__init__()
        self._stemmer = None if language is None else Stemmer.Stemmer(language, 0)
        self._lock = threading.Lock()  # a stemmer serves one thread at a time

    def __missing__(self, word: str) -> tuple[str, ...]:
        terms = tuple(term for term, _, _ in self.spans(word))
        if len(word) <= _REMEMBERED_CHARS_MAX:
            if len(self) >= _REMEMBERED_WORDS_MAX:
                self.clear()
            self[word] = terms
        return terms

    def spans(self, word: str) -> Iterator[Span]:
        """Yield the terms of a word with their places in it."""
        for run in _RUN.finditer(word):
            start, end = run.span()
            if _IS_UNSPACED.match(run[0]):
                for first in range(start, max(end - 1, start + 1)):
                    last = min(first + 2, end)
                    yield word[first:last].casefold(), first, last
            else:
                term = self._term(run[0])
                if term:
                    yield term, start, end

    def _term(self, word: str) -> str:
        """Return a word without case and accents, cut to its stem."""
        if _VERSION.match(word):
            word = word[1:]
        term = word.lower() if word.isascii() else unicodedata.normalize("NFC", word.casefold())
        if self._stemmer is not None:
            with self._lock:
                term = self._stemmer.stemWord(term)
        if not term.isascii():
            term = _ACCENTS.sub("", unicodedata.normalize("NFD", term)).translate(_LETTERS)
            term = unicodedata.normalize("NFC", term)
        return term[:TERM_CHARS_MAX]


def _words(text: str) -> list[str]:
    pattern = _ASCII_WORD
    if not text.isascii():
        text = normalized(text)
        pattern = _ASCII_WORD if text.isascii() else _word()
    words: list[str] = pattern.findall(text)
    return words


@cache
def _word() -> re.Pattern[str]:
    """Return the pattern of words of any script."""
    # Combining marks are no word characters to `re`. No script has any above these planes.
    marks = "".join(
        chr(point) for point in range(0x300, 0x20000) if unicodedata.category(chr(point))[0] == "M"
    )
    letters = rf"[\w{marks}]"
    return re.compile(rf"[vV]?\d+(?:\.\d+)+{letters}*|{letters}+")


@cache
def _second_parts() -> frozenset[str]:
    """Return the characters, marks aside, that may be composed with the one before them."""
    # No script has any above these planes. Parts of Korean syllables have no entry.
    decomposed = (unicodedata.decomposition(chr(point)).split() for point in range(0x20000))
    seconds = (
        chr(int(parts[1], 16)) for parts in decomposed if len(parts) == 2 and parts[0][0] != "<"
    )
    korean = map(chr, chain(range(0x1161, 0x1176), range(0x11A8, 0x11C3)))
    return frozenset(chain((c for c in seconds if not unicodedata.combining(c)), korean))
