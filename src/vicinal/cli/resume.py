"""Resume points: the file in which an import or an export notes its progress.

The file is replaced in one step, so a kill leaves the old one or the new one.
"""

from pathlib import Path

import msgspec


class ResumePoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Progress of an import or an export that can be continued.

    Attributes:
        job: Text that is the same only for the same work.
        offset: Bytes read from the file by an import, or written to it by an export.
        items: Lines or rows read by an import, or vectors that an export lists.
        vectors: Vectors written to the index or to the file.
        cursor: Next page of an export's listing.
        file: Files that an import of several has done.
        rejected: Rows that an import has left out.
    """

    job: str
    offset: int
    items: int
    vectors: int
    cursor: str | None
    file: int = 0
    rejected: int = 0

    @classmethod
    def start(cls, job: str) -> "ResumePoint":
        """Return the beginning of a job."""
        return cls(job, offset=0, items=0, vectors=0, cursor=None)


def load(path: Path) -> ResumePoint | None:
    """Return the saved progress; None if the file is missing or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ResumePoint)
    except (OSError, msgspec.MsgspecError):
        return None


def save(path: Path, point: ResumePoint) -> None:
    """Replace the file.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_bytes(msgspec.json.encode(point))
    temporary.replace(path)
