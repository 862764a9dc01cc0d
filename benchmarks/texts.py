"""Real short texts with metadata, and their embeddings by the packaged MiniLM.

The texts are the one-line descriptions of Debian's packages, about 60,000 distinct ones,
with section, priority and size. Where there is no ``apt-cache`` they are the first
sentences of the docstrings of the standard library and of what is installed beside it;
that corpus is smaller and more alike, so its numbers do not compare with the other's, and
the output says which was used.

Embedding runs once, at 500 to 900 texts a second on one core; the vectors are kept in
``benchmarks/data`` under a name made from the texts and the model.
"""

import ast
import hashlib
import shutil
import subprocess
import sys
import sysconfig
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.measure import Floats
from vicinal.embeddings import models
from vicinal.embeddings.build import build_embedder
from vicinal.embeddings.pull import pull

DATA = Path(__file__).resolve().parent / "data"
MODEL = "@hf/sentence-transformers/all-minilm-l6-v2"
SEED = 20_240_521
SENTENCE_CHARS_MIN = 20  # shorter ones say next to nothing
_TEXTS_PER_CALL = 1_024


@dataclass(frozen=True, slots=True)
class Text:
    """A text and what is known of it; `size` is kilobytes, or the line its code ends at."""

    text: str
    section: str
    priority: str
    size: int


@dataclass(frozen=True, slots=True)
class Corpus:
    """Distinct texts in a fixed random order, and where they come from."""

    texts: tuple[Text, ...]
    source: str

    @property
    def key(self) -> str:
        """Names the corpus and the model: other texts or another order, another name."""
        digest = hashlib.sha256(MODEL.encode())
        for text in self.texts:
            digest.update(text.text.encode() + b"\0")
        return digest.hexdigest()[:16]


@cache
def corpus(count_max: int | None = None) -> Corpus:
    """Return the corpus of this machine, or the first texts of it."""
    if shutil.which("apt-cache"):
        run = subprocess.run(
            ["apt-cache", "dumpavail"], capture_output=True, text=True, check=False
        )
        texts = distinct(packages(run.stdout))
        source = "one-line descriptions of Debian packages (apt-cache dumpavail)"
        if texts:
            return _shuffled(texts, source, count_max)
    source = "first sentences of docstrings of the standard library and installed packages"
    return _shuffled(distinct(docstrings()), source, count_max)


def packages(stanzas: str) -> Iterator[Text]:
    """Yield the texts of Debian's package lists; stanzas without a description have none."""
    for stanza in stanzas.split("\n\n"):
        fields = dict(
            line.split(": ", 1)
            for line in stanza.splitlines()
            if ": " in line and not line.startswith(" ")
        )
        if fields.get("Description"):
            yield Text(
                fields["Description"],
                fields.get("Section", "unknown"),
                fields.get("Priority", "unknown"),
                int(fields.get("Installed-Size", "0")),
            )


def docstrings() -> Iterator[Text]:
    """Yield the first sentence of every docstring of the Python code of this environment."""
    paths = sysconfig.get_paths()
    library = Path(paths["stdlib"])
    for path in sorted(library.rglob("*.py")):
        inside = path.relative_to(library).parts
        if "site-packages" not in inside:
            yield from _docstrings_of(path, inside[0])
    for path in sorted(Path(paths["purelib"]).rglob("*.py")):
        yield from _docstrings_of(path, path.relative_to(paths["purelib"]).parts[0])


def _docstrings_of(path: Path, section: str) -> Iterator[Text]:
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return  # a test's bad input, or code of another Python
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            sentence = first_sentence(ast.get_docstring(node) or "")
            if len(sentence) >= SENTENCE_CHARS_MIN:
                yield Text(sentence, section, type(node).__name__, node.body[-1].end_lineno or 0)


def first_sentence(docstring: str) -> str:
    """Return the first sentence, on one line and without markup at its ends."""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return paragraph.split(". ")[0].strip(" .")


def distinct(texts: Iterator[Text]) -> list[Text]:
    """Return the texts without repetitions, in order of their first one."""
    kept: dict[str, Text] = {}
    for text in texts:
        kept.setdefault(text.text, text)
    return list(kept.values())


def _shuffled(texts: Sequence[Text], source: str, count_max: int | None) -> Corpus:
    # Sorted first, so that the order of the machine's package lists does not matter.
    ordered = sorted(texts, key=lambda text: text.text)
    order = np.random.RandomState(SEED).permutation(len(ordered))[:count_max]
    return Corpus(tuple(ordered[number] for number in order), f"{len(order):,} {source}")


def embedded(count_max: int | None = None) -> tuple[Corpus, Floats]:
    """Return the corpus and its unit vectors ``(n, 384)``, memory-mapped; computed once.

    Args:
        count_max: Embed only this number of texts, unless all have been embedded before.
    """
    everything = corpus()
    if count_max is None or _path(everything).exists():
        return everything, _embeddings(everything)
    some = corpus(count_max)
    return some, _embeddings(some)


def _path(of: Corpus) -> Path:
    return DATA / f"minilm-{of.key}.npy"


def _embeddings(of: Corpus) -> Floats:
    path = _path(of)
    if not path.exists():
        DATA.mkdir(parents=True, exist_ok=True)
        values = _embed([text.text for text in of.texts])
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.save(file, values)
        unfinished.rename(path)
    mapped: Floats = np.load(path, mmap_mode="r")
    return mapped


def _embed(texts: Sequence[str]) -> Floats:
    pull(models.known(MODEL), models.models_folder(), lambda _done, _total: None)
    embedder = build_embedder(queue_max=_TEXTS_PER_CALL)
    # Texts of like length together waste no work on padding.
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    values = np.empty((len(texts), 384), np.float32)
    start = time.perf_counter()
    for first in range(0, len(order), _TEXTS_PER_CALL):
        numbers = order[first : first + _TEXTS_PER_CALL]
        values[numbers] = embedder.embed(MODEL, [texts[number] for number in numbers]).values
        done = first + len(numbers)
        rate = done / (time.perf_counter() - start)
        print(f"\rembedding {done:,} of {len(texts):,}, {rate:.0f} a second",
              end="", file=sys.stderr)  # fmt: skip
    print(file=sys.stderr)
    embedder.close()
    return values
