"""Plain text and Markdown, cut into chunks by headings and paragraphs.

    1  A heading of Markdown (``# ...``, not inside a fence) begins a section.
    2  Paragraphs of a section, between blank lines, go into one chunk while they fit.
    3  A paragraph that does not fit alone is cut after sentences, and a sentence after words.

Every chunk begins with its heading, and fits a model's tokens as `count` counts them. Its id is the
path and its position, so importing a file again replaces its chunks; a path too long for an id is
cut at its start, after a hash of the whole.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vicinal.errors import BadFile
from vicinal.model import VectorBatch
from vicinal.readers.base import LIMITS, NamedPlaces, Position, RowBatch
from vicinal.readers.opening import FileSource, form_of
from vicinal.wire.documents import RecordError, blob

TextCounter = Callable[[Sequence[str]], Sequence[int]]
"""Returns the number of tokens of every text, without those a model adds."""

FILE_BYTES_MAX = 16 << 20
"""Ours: of one text, which is read whole."""

ID_BYTES_MAX = 64
"""As every profile allows."""

_HEADING = re.compile(r"(#{1,6})[ \t]+(.+?)[ \t]*#*[ \t]*")
_BLANK = re.compile(r"\n[ \t]*\n")
_SENTENCE = re.compile(r"(?<=[.!?;:])\s+|\n")
_WORD_CHARS_MAX = 512  # ours: longer words are cut


@dataclass(frozen=True, slots=True)
class TextChunk:
    """A part of a text; `heading` has those of all levels, with `` > `` between."""

    heading: str
    text: str


def chunks_of(text: str, count: TextCounter, tokens_max: int) -> Iterator[TextChunk]:
    """Yield the chunks of a text, each of at most `tokens_max` tokens."""
    for heading, section in _sections(text):
        begin = f"{heading}\n\n" if heading else ""
        left = tokens_max - (count([heading])[0] if heading else 0)
        if left < tokens_max // 2:  # a heading as long as a text is none
            begin, left = "", tokens_max
        for part in _packed(_BLANK.split(section), "\n\n", count, left):
            yield TextChunk(heading, begin + part)


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Yield headings and the text below each of them."""
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    is_fenced = False
    for line in text.splitlines():
        is_fence = line.lstrip().startswith(("```", "~~~"))
        is_fenced ^= is_fence
        heading = None if is_fenced or is_fence else _HEADING.fullmatch(line)
        if heading is None:
            lines.append(line)
            continue
        if any(map(str.strip, lines)):
            yield " > ".join(name for _, name in path), "\n".join(lines)
        lines = []
        level = len(heading[1])
        path = [(above, name) for above, name in path if above < level]
        path.append((level, heading[2]))
    if any(map(str.strip, lines)):
        yield " > ".join(name for _, name in path), "\n".join(lines)


def _packed(
    parts: Sequence[str], between: str, count: TextCounter, tokens_max: int
) -> Iterator[str]:
    """Yield neighbouring parts joined while they fit, cutting those that do not fit alone."""
    solid = [part.strip("\n") for part in parts if part.strip()]
    counts = count(solid) if solid else []
    kept: list[str] = []
    size = 0
    for part, tokens in zip(solid, counts, strict=True):
        if kept and size + tokens > tokens_max:
            yield between.join(kept)
            kept, size = [], 0
        if tokens > tokens_max:
            yield from _packed(*_smaller(part), count, tokens_max)
            continue
        kept.append(part)
        size += tokens
    if kept:
        yield between.join(kept)


def _smaller(part: str) -> tuple[list[str], str]:
    """Cut a part into sentences, else words, else pieces of a word; and what joins them."""
    sentences = _SENTENCE.split(part)
    if len(sentences) > 1:
        return sentences, " "
    words = part.split()
    if len(words) > 1:
        return words, " "
    half = max(1, min(len(part) // 2, _WORD_CHARS_MAX))
    return [part[start : start + half] for start in range(0, len(part), half)], ""


def chunk_id(path: str, position: int) -> str:
    """Return the id of a chunk, the same whenever its file is imported by this path."""
    end = f"#{position}"
    if len((path + end).encode()) <= ID_BYTES_MAX:
        return path + end
    digest = hashlib.sha256(path.encode()).hexdigest()[:16]
    kept = path.encode()[-(ID_BYTES_MAX - len(digest) - 1 - len(end.encode())) :]
    return f"{digest}-{kept.decode(errors='ignore')}{end}"


@dataclass(frozen=True, slots=True)
class _ChunkRow:
    """A chunk as a vector without values."""

    id: str
    text: str
    metadata: bytes
    location: str


class TextsReader:
    """Reads files of text as one: rows are chunks, `Position.number` counts files.

    Args:
        paths: The files in order.
        count: The tokens of texts.
        tokens_max: The most that a chunk may have.
        keeps_text: Whether the text of a chunk is in its metadata.
        read: Returns the text of a file.
    """

    unit = "file"

    def __init__(
        self,
        paths: Sequence[Path],
        count: TextCounter,
        tokens_max: int,
        *,
        keeps_text: bool,
        read: Callable[[Path], str] | None = None,
    ) -> None:
        self._read = read or text_in
        self._paths = paths
        self._count = count
        self._tokens_max = tokens_max
        self._keeps_text = keeps_text

    def batches(self, start: Position, rows_max: int) -> Iterator[RowBatch]:
        """See `base.FileReader`; `start.offset` counts chunks of the file."""
        rows: list[_ChunkRow] = []
        ended: list[tuple[str, int]] = []
        for number in range(start.number, len(self._paths)):
            path = self._paths[number]
            passed = start.offset if number == start.number else 0
            count = 0
            for position, chunk in enumerate(self._chunks(path)):
                count += 1
                if position < passed:
                    continue
                rows.append(self._row(path, position, chunk))
                if len(rows) == rows_max:
                    yield self._batch(rows, Position(position + 1, number), ended)
                    rows, ended = [], []
            ended.append((path.as_posix(), count))
        if ended:
            yield self._batch(rows, Position(0, len(self._paths)), ended)

    def _chunks(self, path: Path) -> Iterator[TextChunk]:
        return chunks_of(self._read(path), self._count, self._tokens_max)

    def _row(self, path: Path, position: int, chunk: TextChunk) -> _ChunkRow:
        document: dict[str, object] = {"path": path.as_posix(), "position": position}
        if chunk.heading:
            document["heading"] = chunk.heading
        if self._keeps_text:
            document["text"] = chunk.text
        vector_id = chunk_id(path.as_posix(), position)
        try:
            encoded = blob(document, vector_id, LIMITS)
        except RecordError as refused:
            raise BadFile(f"{path}, chunk {position}: {refused.rule}") from None
        return _ChunkRow(vector_id, chunk.text, encoded, f"{path}, chunk {position}")

    def _batch(
        self, rows: Sequence[_ChunkRow], end: Position, ended: Sequence[tuple[str, int]]
    ) -> RowBatch:
        """Return chunks as a batch; there may be none of a text that has become empty."""
        vectors = VectorBatch(
            [row.id for row in rows],
            np.empty((len(rows), 0), np.float32),
            [""] * len(rows),
            [row.metadata for row in rows],
        )
        texts, places = [row.text for row in rows], NamedPlaces([row.location for row in rows])
        fraction = end.number / len(self._paths)
        return RowBatch(vectors, texts, places, (), end, fraction, tuple(ended))


def text_in(path: Path) -> str:
    """Return the text of a file, decompressed.

    Raises:
        BadFile: it is no text, no UTF-8, longer than `FILE_BYTES_MAX`, or written to meanwhile.
    """
    source = FileSource.open(path)
    try:
        return text_of(source)
    finally:
        source.close()


def text_of(source: FileSource) -> str:
    """Return the text of an open file; raises as `text_in` does."""
    label = source.label
    try:
        content = source.pull(FILE_BYTES_MAX + 1)
        source.check_unchanged()
    except BadFile as bad:
        raise BadFile(f"{label}: {bad}") from bad
    if len(content) > FILE_BYTES_MAX:
        raise BadFile(f"{label} has more than {FILE_BYTES_MAX:,} bytes of text")
    if b"\0" in content:
        raise BadFile(f"{label} is no text: byte {content.index(0)} is 0")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(f"{label} is not UTF-8 at byte {error.start}") from None


def text_files(folder: Path) -> tuple[list[Path], int]:
    """Return the files of text below a folder in order, and how many others there are.

    Hidden files and folders are passed over, and links to folders are not followed.

    Raises:
        BadFile: a file or a folder cannot be read.
    """
    texts: list[Path] = []
    other_count = 0
    for path in _files_below(folder):
        if not path.is_file():  # a pipe, or a link to nothing
            other_count += 1
            continue
        source = FileSource.open(path)
        try:
            form_of(source)
            texts.append(path)
        except BadFile:
            other_count += 1
        finally:
            source.close()
    return texts, other_count


def _files_below(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise BadFile(f"{error.filename} cannot be read: {error.strerror}") from error

    paths: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(parent, name) for name in files if not name.startswith(".")]
    return sorted(paths)
