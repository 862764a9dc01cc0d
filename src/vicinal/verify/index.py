"""Verification of one index's folder: its log, and every byte of every file that the log names.

The log is read as the engine reads it, in a copy (`moments`). A server that has the index open
goes on sealing and merging: a file that is gone, and that a newer manifest does not name, has been
merged or is in a segment by now, and the newer segments are read instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vicinal.engine import blob_files, log, recovery
from vicinal.engine.blob_files import BlobFiles
from vicinal.engine.log import Log
from vicinal.engine.manifest import Manifest
from vicinal.errors import Corruption, Error
from vicinal.model import IndexConfig, Metric, Seqno
from vicinal.segment import format as layout
from vicinal.segment.segment import Segment
from vicinal.storage.files import Seal
from vicinal.storage.watermark import Watermark
from vicinal.verify.moments import at_one_moment
from vicinal.verify.report import Report, Subject, verify_component

ROUNDS_MAX = 8  # ours: manifests read while a server merges


@dataclass(frozen=True, slots=True)
class _LogContents:
    manifest: Manifest
    files: list[tuple[Seqno, Seal]]


class IndexVerification:
    """Verifies one index.

    Args:
        report: Gets what is met.
        subject: The index in the report.
        folder: Folder of the index.
        config: Of the index; None if it is not known, and then dimensions are not compared.
    """

    def __init__(
        self, report: Report, subject: Subject, folder: Path, config: IndexConfig | None
    ) -> None:
        self._report = report
        self._subject = subject
        self._folder = folder
        self._config = config
        self._log = folder / log.FILE_NAME
        self._verified: set[Path] = set()
        self._missing: set[Path] = set()

    def verify(self) -> None:
        """Read everything."""
        report, subject = self._report, self._subject
        if not self._folder.is_dir():
            report.note_damage(subject, self._folder, "is missing")
            return
        report.note_file(subject, self._log)
        before: _LogContents | None = None
        for number in range(ROUNDS_MAX):
            try:
                contents = self._read_log()
            except Error as error:
                report.note_damage(subject, self._log, str(error))
                return
            is_last = contents == before or number == ROUNDS_MAX - 1
            if self._verify_files(contents, is_last=is_last) or is_last:
                break
            before = contents
        self._verify_mutations()
        self._verify_watermark()
        merged = self._missing - self._verified
        if merged:
            subject.note = f"{len(merged)} files were merged meanwhile, and skipped"

    def _read_log(self) -> _LogContents:
        def contents_of(copied: Path) -> _LogContents:
            with _opened(copied, self._folder) as opened:
                for record in opened.manifest.segments:
                    opened.live_rows(record)
                return _LogContents(opened.manifest, opened.file_seals(opened.last_seqno))

        return at_one_moment(self._log, contents_of, first=[self._folder / log.WATERMARK_NAME])

    def _verify_mutations(self) -> None:
        """Decode the mutations of the log, once their files are known to be whole."""
        config = self._config

        def decode(copied: Path) -> None:
            with _opened(copied, self._folder) as opened:
                for entry in opened.entries():
                    if config is not None:
                        recovery.checked(entry, opened, config)

        if self._subject.damage_count:
            return  # or it would be told twice
        try:
            at_one_moment(self._log, decode, first=[self._folder / log.WATERMARK_NAME])
        except Error as error:
            self._report.note_damage(self._subject, self._log, str(error))

    def _verify_watermark(self) -> None:
        path = self._folder / log.WATERMARK_NAME
        with suppress(FileNotFoundError):  # as after a restore of an older form
            problem = Watermark.problem(path)
            if problem and Watermark.problem(path):  # else it was being written
                self._report.note_damage(self._subject, path, problem)

    def _verify_files(self, contents: _LogContents, *, is_last: bool) -> bool:
        """Verify files that were not yet; tell whether all were there."""
        is_complete = True
        for seqno, seal in contents.files:
            path = self._folder / blob_files.FOLDER / BlobFiles.name(seqno)
            is_complete &= self._verify_file(path, blob_files.KIND, seal, is_last=is_last)
        segments = self._folder / recovery.SEGMENTS
        for record in contents.manifest.segments:
            before, folder = self._subject.damage_count, layout.folder(segments, record.number)
            is_new = not {folder / name for name in record.components} <= self._verified
            is_there = True
            for name, seal in record.components.items():
                is_there &= self._verify_file(folder / name, name, seal, is_last=is_last)
            if is_there and is_new and self._subject.damage_count == before:
                self._verify_arrays(record, contents.manifest)
            is_complete &= is_there
        return is_complete

    def _verify_file(self, path: Path, kind: str, seal: Seal, *, is_last: bool) -> bool:
        if path in self._verified:
            return True
        if not path.exists() and not is_last:
            self._missing.add(path)
            return False
        self._verified.add(path)
        verify_component(self._report, self._subject, path, kind, seal)
        return True

    def _verify_arrays(self, record: layout.SegmentRecord, manifest: Manifest) -> None:
        """Look whether arrays that are as written also are what an index has."""
        segments = self._folder / recovery.SEGMENTS
        path = layout.folder(segments, record.number)
        metric = Metric.EUCLIDEAN if self._config is None else self._config.metric
        try:
            segment = Segment(segments, record, metric)
            segment.metadata_columns(manifest.metadata_indexes)
        except Corruption as error:
            if path.exists():
                self._report.note_damage(self._subject, path, str(error))
            return
        if self._config is not None and segment.dimensions != self._config.dimensions:
            self._report.note_damage(
                self._subject,
                path,
                f"is of {segment.dimensions} dimensions, the index has {self._config.dimensions}",
            )


@contextmanager
def _opened(copied: Path, folder: Path) -> Iterator[Log]:
    """Open the copy of a log, with the blob files of the folder that it was copied from."""
    blobs = copied.parent / blob_files.FOLDER
    if not blobs.exists():
        blobs.symlink_to((folder / blob_files.FOLDER).absolute())
    opened = Log(copied.parent)
    try:
        yield opened
    finally:
        opened.close(is_clean=False)
