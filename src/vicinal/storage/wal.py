"""A look at SQLite's write-ahead log before SQLite opens it.

Needed beside the watermark, which is never synced: a power cut may take that, and then damage in
the middle of this log passes for its end (of six commits four vanish), as seqnos show no gap.

SQLite replays a write-ahead log up to the first frame whose checksum is wrong and drops
the rest, since it takes the damage for a write that a crash cut short. A cut-short write
is always the last transaction: ``synchronous=FULL`` puts the header of a log on disk
before its first frame, and each commit before the next begins. So when a damaged frame
ended a transaction that another follows, or when two follow it, commits that had been
acknowledged are hit, and `check` refuses the file instead of letting them vanish.

Not to be told from a crash by anyone: damage to the very last commit, a file cut off
behind a commit, and damage that wipes out the whole header or just the commit mark of the
last frame but one commit. A closed database has no log, so this is about crashed ones.

The layout is SQLite's (https://www.sqlite.org/fileformat2.html, "The WAL File Format").
The checksum is a linear recurrence over 32-bit words, so a page's contribution is a dot
product with fixed coefficients, and only one small step per frame is left to Python.
"""

import struct
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import Corruption

_HEADER = struct.Struct(">8I")  # magic, version, page size, checkpoint, salts, checksum
_FRAME_HEADER_BYTES = 24  # page number, size after commit, salts, checksum; six u32
_MAGIC_LITTLE = 0x377F0682  # checksum words are little-endian; big-endian has the low bit set
_MASK = 0xFFFF_FFFF
_READ_BYTES = 4 << 20

Words = NDArray[np.uint32]
Pair = tuple[int, int]


def check(path: Path) -> None:
    """Refuse a write-ahead log that lost acknowledged commits to damage.

    A file that is absent, empty, or too short for a frame passes.

    Raises:
        Corruption: a frame is damaged, and commits follow it.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        raw = file.read(_HEADER.size + _FRAME_HEADER_BYTES)
        if len(raw) < _HEADER.size + _FRAME_HEADER_BYTES:
            return
        file.seek(_HEADER.size)
        header = _HEADER.unpack_from(raw)
        order = ">" if header[0] == _MAGIC_LITTLE | 1 else "<"
        header_sum = _chain(np.frombuffer(raw, f"{order}u4", 6)[None, :], (0, 0))[0]
        if header_sum == header[6:8]:
            page_size, salts = header[2], np.array(header[4:6], np.uint32)
            heads, damaged = _read(file, page_size, order, salts, header_sum)
            is_torn = _is_torn(heads, damaged, salts)
        else:
            page_size, damaged = _page_size_of_main_file(path), -1
            heads, _ = _read(file, page_size, order, np.zeros(2, np.uint32), (0, 0))
            is_torn = not _is_commit(heads, heads[:1, 2:4]).any()
    if not is_torn:
        offset = max(0, _HEADER.size + damaged * (_FRAME_HEADER_BYTES + page_size))
        raise Corruption(f"{path} is damaged at byte {offset} or after, with commits behind it")


def _is_torn(heads: Words, damaged: int, salts: Words) -> bool:
    """Tell whether a crash in the last transaction explains a log damaged from a frame on."""
    commits_behind = int(_is_commit(heads[damaged + 1 :], salts).sum())
    if commits_behind != 1:
        return commits_behind == 0
    # The frame is of the last transaction, or ended the one before. Its salts and commit
    # mark share a disk sector: a crash leaves all of them or none.
    has_salt = heads[damaged, 2:4] == salts
    is_end = heads[damaged, 1] != 0
    return bool(not has_salt.any() or (has_salt.all() and not is_end))


def _is_commit(heads: Words, salts: Words) -> NDArray[np.bool_]:
    """Tell which frames end a transaction; frames of older logs have other salts."""
    return cast(NDArray[np.bool_], (heads[:, 1] != 0) & (heads[:, 2:4] == salts).all(axis=1))


def _read(
    file: BinaryIO, page_size: int, order: str, salts: Words, start: Pair
) -> tuple[Words, int]:
    """Return the header of every frame, ``(n, 6)``, and how many frames are whole at the start."""
    frame_bytes = _FRAME_HEADER_BYTES + page_size
    heads = [np.empty((0, 6), np.uint32)]
    whole = 0
    is_whole = True
    while raw := file.read(max(1, _READ_BYTES // frame_bytes) * frame_bytes):
        count = len(raw) // frame_bytes
        if not count:
            break
        frames = np.frombuffer(raw, np.uint8, count * frame_bytes).reshape(count, -1)
        some = np.ascontiguousarray(frames[:, :_FRAME_HEADER_BYTES]).view(">u4").astype(np.uint32)
        heads.append(some)
        if is_whole:
            summed = np.concatenate([frames[:, :8], frames[:, _FRAME_HEADER_BYTES:]], axis=1)
            sums = _chain(summed.view(f"{order}u4").astype(np.uint32), start)
            start = sums[-1]
            passes = (some[:, 4:6] == np.array(sums, np.uint32)).all(axis=1)
            passes &= (some[:, 2:4] == salts).all(axis=1)
            is_whole = bool(passes.all())
            whole += count if is_whole else int(np.argmin(passes))
    return np.concatenate(heads), whole


def _chain(blocks: Words, start: Pair) -> list[Pair]:
    """Return the running checksum after each block of an even number of words."""
    (a, b, c, d), weights = _coefficients(blocks.shape[1] // 2)
    with np.errstate(over="ignore"):
        added = (blocks @ weights).tolist()
    sums = []
    s, t = start
    for plus_s, plus_t in added:
        s, t = (a * s + b * t + plus_s) & _MASK, (c * s + d * t + plus_t) & _MASK
        sums.append((s, t))
    return sums


@lru_cache(maxsize=4)  # of a header and of a page: a millisecond, in a start after a crash
def _coefficients(pairs: int) -> tuple[tuple[int, int, int, int], Words]:
    """Return what is left of a starting state after this many steps, and what each word adds.

    One step is (s, t) -> (s + x + t, t + y + s + x + t).
    """
    carry = (1, 0, 0, 1)
    weights = np.empty((2 * pairs, 2), np.uint32)
    for pair in range(pairs - 1, -1, -1):
        a, b, c, d = carry
        weights[2 * pair] = ((a + b) & _MASK, (c + d) & _MASK)
        weights[2 * pair + 1] = (b, d)
        carry = ((a + b) & _MASK, (a + 2 * b) & _MASK, (c + d) & _MASK, (c + 2 * d) & _MASK)
    return carry, weights


def _page_size_of_main_file(path: Path) -> int:
    main = path.with_name(path.name.removesuffix("-wal"))
    raw = b""
    if main.exists():
        with main.open("rb") as file:
            raw = file.read(18)[16:]
    page_size = int.from_bytes(raw, "big")
    if page_size < 512 or page_size & (page_size - 1):
        raise Corruption(f"the headers of {main} and of its write-ahead log are damaged")
    return page_size
