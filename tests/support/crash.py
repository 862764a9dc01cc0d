"""What a crash at any moment leaves on disk, and a way to read all of an engine.

`watching` numbers the moments at which a folder becomes different for whoever opens it
next: before and after each commit of SQLite, and around each call that makes, renames,
removes or syncs a file. An image taken at one of them is the folder of a process that died
there (`Loss.NOTHING`) or of a machine that lost its power, with all it had not synced lost.
SQLite is trusted with its own files.
"""

import functools
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from vicinal.engine.base import Engine
from vicinal.filters.nodes import Operator, Predicate, Scalar
from vicinal.model import IndexAddress, IndexType, MetadataLevel, Query, Seqno
from vicinal.ranking import TextQuery
from vicinal.storage import sqlite as storage

CALLS = ("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "fsync")
WORDS = ("fox", "w1 w2", "fox w3 nothing")
"""Texts that every index with a text index is asked for."""

CONNECTIONS = ("vicinal.engine.log", "vicinal.engine.catalog", "vicinal.storage.sqlite")


Image = dict[Path, bytes | None]
"""All in a folder, by its place there: a file's content, or None for a folder."""


class Loss(Enum):
    """What is lost of the files that are not SQLite's."""

    NOTHING = "nothing"
    CONTENTS = "contents of files that were not synced"
    NAMES = "and names in folders that were not synced"


@dataclass
class Disk:
    """A folder under watch: what of it is safe, and how many steps were taken in it."""

    folder: Path
    at_step: Callable[["Disk", str], None]
    steps: list[str] = field(default_factory=list)
    _safe_files: set[int] = field(default_factory=set)
    _safe_names: dict[int, set[str]] = field(default_factory=dict)
    _is_busy: bool = False

    def note_all_as_safe(self) -> None:
        """Take what is in the folder now for synced."""
        for folder, folders, files in os.walk(self.folder):
            self._safe_names[Path(folder).stat().st_ino] = {*folders, *files}
            self._safe_files.update(Path(folder, name).stat().st_ino for name in files)

    def synced(self, descriptor: int) -> None:
        """Take a file, or the names in a folder, for synced."""
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self._safe_names[status.st_ino] = set(os.listdir(descriptor))
        else:
            self._safe_files.add(status.st_ino)

    def step(self, name: str) -> None:
        """Count a step; calls that looking at it causes are none."""
        if self._is_busy:
            return
        with self._busy():
            self.steps.append(name)
            self.at_step(self, name)

    def image(self, to: Path, loss: Loss) -> Path:
        """Write to a new folder what a crash with this loss leaves of the folder."""
        with self._busy():  # as writing it is no step of what is watched
            return write_image(self.images()[loss], to)

    def images(self) -> dict[Loss, Image]:
        """Return what a crash leaves of the folder, for each loss; the folder is read once."""
        whole: Image = {}
        emptied: Image = {}
        named: Image = {}
        with self._busy():
            for path in sorted(self.folder.rglob("*")):
                name = path.relative_to(self.folder)
                whole[name] = emptied[name] = None if path.is_dir() else path.read_bytes()
                is_log = path.name.startswith("catalog.db") or path.name.endswith("-wal")
                if whole[name] and not is_log and path.suffix != ".db" and not self._is_safe(path):
                    emptied[name] = b""
                is_top = path.parent == self.folder
                if is_top or (name.parent in named and (is_log or self._is_name_safe(path))):
                    named[name] = emptied[name]
        return {Loss.NOTHING: whole, Loss.CONTENTS: emptied, Loss.NAMES: named}

    @contextmanager
    def _busy(self) -> Iterator[None]:
        was_busy, self._is_busy = self._is_busy, True
        try:
            yield
        finally:
            self._is_busy = was_busy

    def _is_safe(self, path: Path) -> bool:
        return path.stat().st_ino in self._safe_files

    def _is_name_safe(self, path: Path) -> bool:
        return path.name in self._safe_names.get(path.parent.stat().st_ino, set())


@contextmanager
def watching(folder: Path, at_step: Callable[[Disk, str], None]) -> Iterator[Disk]:
    """Call `at_step` at every moment at which a crash in the block would leave something new."""
    disk = Disk(folder, at_step)
    disk.note_all_as_safe()
    with ExitStack() as stack:
        for name in CALLS:
            stack.enter_context(patch.object(os, name, _stepping(disk, getattr(os, name))))
        for module in CONNECTIONS:
            stack.enter_context(patch(f"{module}.transaction", _stepping_commit(disk)))
        yield disk


def _stepping(disk: Disk, real: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(real)
    def call(*args: Any, **options: Any) -> Any:
        name = f"{real.__name__} {args[0]}"
        disk.step(f"before {name}")
        result = real(*args, **options)
        if real.__name__ == "fsync":
            disk.synced(args[0])
        disk.step(f"after {name}")
        return result

    return call


def _stepping_commit(disk: Disk) -> Callable[..., Any]:
    real = storage.transaction

    @contextmanager
    def transaction(connection: Any) -> Iterator[None]:
        with real(connection):
            yield
            disk.step("before commit")
        disk.step("after commit")

    return transaction


def write_image(image: Image, to: Path) -> Path:
    """Write an image to a new folder."""
    to.mkdir(parents=True)
    for name, content in image.items():
        if content is None:
            (to / name).mkdir()
        else:
            (to / name).write_bytes(content)
    return to


def fingerprint(image: Image) -> str:
    """Return a digest of all names and contents of an image."""
    digest = hashlib.sha256()
    for name, content in sorted(image.items()):
        digest.update(f"{name}\0".encode())
        if content is not None:
            digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


# Reading


Readout = tuple[object, ...]


def read_all(
    engine: Engine, address: IndexAddress, probes: Sequence[tuple[str, Scalar]] = ()
) -> Readout:
    """Return everything that can be read of an index, in a form that engines share.

    Args:
        engine: The engine.
        address: The index.
        probes: Properties and values to filter by; those without a metadata index are left
            out.
    """
    pages = list(_pages(engine, address))
    ids = sorted(id_ for page in pages for id_ in page)
    dimensions = engine.get_index(address).config.dimensions
    middle = np.full(dimensions, 0.25, np.float32)
    metadata_indexes = tuple(engine.list_metadata_indexes(address))
    indexed = {metadata_index.property_name for metadata_index in metadata_indexes}
    has_words = any(each.index_type is IndexType.TEXT for each in metadata_indexes)
    filters = [(), *(
        (Predicate(name, operator, (value,)),)
        for name, value in probes
        if name in indexed
        for operator in (Operator.EQ, Operator.NE)
    )]  # fmt: skip
    queries = [
        Query(
            1000,
            vector=middle,
            filter=filter_,
            return_values=True,
            return_metadata=MetadataLevel.INDEXED,
        )
        for filter_ in filters
    ]
    return (
        metadata_indexes,
        tuple(
            (vector.id, vector.values.tolist(), vector.namespace, vector.metadata)
            for vector in engine.get(address, ids)
        ),
        tuple(ids),
        tuple(_plain(engine, address, query) for query in queries),
        tuple(_found_by_words(engine, address, text) for text in (WORDS if has_words else ())),
        engine.status(address).vector_count,
    )


def _pages(engine: Engine, address: IndexAddress) -> Iterator[Sequence[str]]:
    cursor = None
    while True:
        page = engine.list(address, 7, cursor)
        yield page.ids
        cursor = page.next_cursor
        if cursor is None:
            return


def _plain(engine: Engine, address: IndexAddress, query: Query) -> tuple[object, ...]:
    return tuple(
        (match.id, match.score, match.namespace, match.metadata)
        for match in engine.query(address, query).matches
    )


def _found_by_words(engine: Engine, address: IndexAddress, text: str) -> dict[str, float]:
    """Return what a text finds; engines add scores up in orders of their own."""
    matches = engine.query(address, Query(1000, text=TextQuery(text))).matches
    return {match.id: round(match.score, 9) for match in matches}


def applied_seqno(engine: Engine, address: IndexAddress) -> Seqno:
    """Return how far the readable state of an index has come."""
    return engine.status(address).applied_seqno
