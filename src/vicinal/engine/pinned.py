"""One index at one moment, to be copied while it is written to.

The moment is that of the last mutation in the log when the index is pinned: all that was
acknowledged before is in it, and nothing that was logged after. It consists of files that never
change (the segments' and blob files, which `Pins` keeps) and of rows of the log, which are read a
few at a time, so that commits wait for milliseconds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import msgspec

from vicinal.engine import blob_files, recovery
from vicinal.engine.blob_files import BlobFiles
from vicinal.engine.log import Log, LogMoment
from vicinal.model import Index
from vicinal.segment import format as layout
from vicinal.storage.files import Seal
from vicinal.storage.sqlite import Field

FOLDERS = (recovery.SEGMENTS, blob_files.FOLDER)
"""Folders that the folder of every index has."""


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """A component file: its path in the index's folder, and all that is needed to open it."""

    path: str
    kind: str
    seal: Seal


class PinnedIndex:
    """An index at one moment. Release it; as a context manager it releases itself.

    Attributes:
        account: Whose index it is.
        index: The index.
        folder: Its folder.
        moment: The manifest, the last seqno and the last mutation's id.
        files: The component files, all of them on disk until `release`, unless the index is deleted
            or the engine closed.
    """

    def __init__(self, account: str, index: Index, folder: Path, index_log: Log) -> None:
        self.account = account
        self.index = index
        self.folder = folder
        self._log = index_log
        self.moment: LogMoment = index_log.pin()
        self._is_released = False
        self.files = self._files()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let the engine remove what was kept; releasing again does nothing."""
        if not self._is_released:
            self._is_released = True
            self._log.release(self.moment)

    def log_rows(self) -> Iterator[Sequence[tuple[Field, ...]]]:
        """Yield the rows of the log's mutations in order, a megabyte at a time, unverified.

        Raises:
            Corruption: rows are missing.
            Unavailable: the index was closed or deleted, or the disk does not answer.
        """
        return self._log.rows(self.moment)

    def log_document(self) -> bytes:
        """Return the manifest of the copied log."""
        return msgspec.json.encode(replace(self.moment.manifest, logged_seqno=self.moment.seqno))

    def _files(self) -> list[PinnedFile]:
        segments = []
        for record in self.moment.manifest.segments:
            folder = layout.folder(Path(recovery.SEGMENTS), record.number)
            segments += [
                PinnedFile(f"{folder}/{name}", name, seal)
                for name, seal in record.components.items()
            ]
        blobs = [
            PinnedFile(f"{blob_files.FOLDER}/{BlobFiles.name(seqno)}", blob_files.KIND, seal)
            for seqno, seal in self.moment.file_seals
        ]
        return segments + blobs
