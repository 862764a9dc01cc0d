"""However long a text is, the tokenizer is given little of it, and the tokens are the same.

A tokenizer takes about 60 bytes of memory for each byte that it is given.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from tokenizers import Tokenizer, models

from tests.support.model_files import DATA, TINY
from vicinal.embeddings import cutting, encoder
from vicinal.embeddings.encoder import Encoder

MEGABYTE = 1_000_000
TOKENS = 64
GIVEN_MAX = (cutting.CHARS_PER_TOKEN + cutting.SQUEEZED_CHARS_PER_TOKEN) * TOKENS

LONG: dict[str, Callable[[], str]] = {
    "one word": lambda: "a" * 20 * MEGABYTE,
    "one word of capitals with accents": lambda: "É" * MEGABYTE,
    "words a little too long": lambda: ("b" * 101 + " ") * 10_000,
    "words much too long": lambda: ("c" * 9_000 + " ") * 1_000,
    "words joined by tabs": lambda: "cat\t" * MEGABYTE,
    "words joined by lines": lambda: "cat\n" * MEGABYTE,
    "words joined by hard spaces": lambda: "cat\u00a0" * MEGABYTE,
    "words joined by wide spaces": lambda: "cat\u3000" * MEGABYTE,
    "letters joined by zero width spaces": lambda: "a\u200b" * MEGABYTE,
    "letters joined by zero width joiners": lambda: "a\u200d" * MEGABYTE,
    "letters joined by soft hyphens": lambda: "a\u00ad" * MEGABYTE,
    "one letter and its accents": lambda: "a" + "\u0301" * MEGABYTE,
    "letters with accents": lambda: "a\u0301" * MEGABYTE,
    "ideographs": lambda: "漢" * MEGABYTE,
    "ideographs beyond 16 bits": lambda: "𠀀" * MEGABYTE,
    "Thai": lambda: "ภาษาไทย" * 200_000,
    "kana": lambda: "かな" * MEGABYTE,
    "emoji": lambda: "😀" * MEGABYTE,
    "joined emoji": lambda: "👩\u200d👩\u200d👧 " * 200_000,
    "underscores": lambda: "_" * MEGABYTE,
    "control characters": lambda: "\x01" * MEGABYTE,
    "spaces": lambda: " " * 20 * MEGABYTE,
    "hard spaces": lambda: "\u00a0" * MEGABYTE,
    "private characters": lambda: "\ue000" * MEGABYTE,
    "base64": lambda: "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4" * 20_000,
}


@dataclass
class Counting:
    """A tokenizer that notes how much it is given at once, and in all."""

    tokenizer: Any
    at_once: int = 0
    in_all: int = 0

    def note(self, texts: Sequence[str]) -> None:
        length = sum(map(len, texts))
        self.at_once = max(self.at_once, length)
        self.in_all += length

    def encode(self, text: str) -> Any:
        self.note([text])
        return self.tokenizer.encode(text)

    def encode_batch_fast(self, texts: list[str]) -> Any:
        self.note(texts)
        return self.tokenizer.encode_batch_fast(texts)


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return encoder.load(TINY, max_tokens=TOKENS, threads=1)


@pytest.mark.parametrize("name", LONG)
def test_the_tokenizer_is_given_little_of_a_long_text(tiny: Encoder, name: str) -> None:
    counting = Counting(tiny.tokenizer)

    (tokens,) = replace(tiny, tokenizer=cast(Tokenizer, counting)).tokenize([LONG[name]()])

    assert 2 <= len(tokens) <= TOKENS
    assert counting.in_all <= GIVEN_MAX


def test_the_tokenizer_is_given_little_of_many_long_texts(tiny: Encoder) -> None:
    counting = Counting(tiny.tokenizer)

    tokens = replace(tiny, tokenizer=cast(Tokenizer, counting)).tokenize(["a" * MEGABYTE] * 100)

    assert [len(each) for each in tokens] == [3] * 100
    assert counting.in_all <= 100 * GIVEN_MAX
    assert counting.at_once <= max(encoder.TEXTS_SPLIT_AT_ONCE * 16, 128) * TOKENS


@pytest.mark.parametrize(
    "text",
    [
        "a" * 5_000 + " then the cat",
        "see data:image/png;" + "A" * 9_000 + " the cat" * 3,
        "the\u200b" * 40 + "cat " * 9,
        "a" + "\u0301" * 5_000 + " cat",
        "a" + "\u0301" * 5_000 + "b cat",
        "x\u0301" * 2_000 + " cat",
        "cat" + " " * 9_000 + "story",
        "cat" + "\t\n\u00a0\u3000" * 2_000 + "story",
        ("d" * 130 + " ") * 50 + "cat " * 9,
        "漢字" * 20 + "e" * 3_000 + "漢" + "e" * 3_000 + " cat",
        "a" * 100 + " " + "a" * 101 + "\u200b" * 2_000 + " " + "b" * 1_000 + "! cat",
        "İ" * 2_000 + " ǅ" * 10 + "ß" * 2_000,
        "가나다" * 700 + " cat",
    ],
)
def test_what_is_left_out_makes_no_token(tiny: Encoder, text: str) -> None:
    assert tiny.tokenize([text])[0].tolist() == tiny.tokenizer.encode(text).ids


def test_a_tokenizer_that_splits_words_of_any_length_gets_long_words_whole() -> None:
    pieces = Tokenizer(models.BPE({"a": 0}, []))

    assert encoder.word_chars_max(pieces, 512) == 512 * cutting.CHARS_PER_TOKEN
    assert cutting.Squeezer(8_192).squeezed("a" * 50_000, 60_000).count("a") >= 8_192


_PEAK = f"""
import resource, sys
from pathlib import Path
from vicinal.embeddings import encoder
loaded = encoder.load(Path({str(DATA / "tiny")!r}), max_tokens={TOKENS}, threads=1)
def peak():
    if sys.platform == "linux":  # where ru_maxrss begins with the peak of whoever started this
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
texts = eval(sys.argv[1])
loaded.tokenize(["a cat"])
before = peak()
loaded.tokenize(texts)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource is a module of Unix")
@pytest.mark.parametrize(
    "texts", ["['a' * 20_000_000]", "['\\u6f22' * 1_000_000] * 20", "['a\\u200b' * 500_000] * 20"]
)
def test_splitting_a_long_text_takes_less_memory_than_the_text(texts: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _PEAK, texts], capture_output=True, text=True, check=True
    )

    assert int(ran.stdout) < 20 * MEGABYTE  # seen: under 5; it was 1,200
