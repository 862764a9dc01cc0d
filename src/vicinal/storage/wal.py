"""A look at SQLite's write-ahead log before SQLite opens it.

SQLite replays a write-ahead log up to the first frame whose checksum is wrong and drops
the rest, since it takes the damage for a write that a crash cut short. A cut-short write
is always the last transaction: ``synchronous=FULL`` puts each commit on disk before the
next begins. So damage with more than one commit at or behind it hit commits that had been
acknowledged, and `check` refuses the file instead of letting them vanish. Damage to the
very last commit cannot be told from a crash by anyone.

The layout is SQLite's (https://www.sqlite.org/fileformat2.html, "The WAL File Format").
The checksum is a linear recurrence over 32-bit words, so a page's contribution is a dot
product with fixed coefficients, and only one small step per frame is left to Python.
"""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import Corruption

_HEADER = struct.Struct(">8I")  # magic, version, page size, checkpoint, salts, checksum
_FRAME_HEADER_BYTES = 24  # page number, size after commit, salts, checksum; six u32
_MAGIC_LITTLE = 0x377F0682  # checksum words are little-endian; big-endian has the low bit set
_MASK = 0xFFFF_FFFF

Words = NDArray[np.uint32]


def check(path: Path) -> None:
    """Refuse a write-ahead log that lost acknowledged commits to damage.

    A file that is absent, empty, or too short for a frame passes.

    Raises:
        Corruption: a frame is damaged, and commits follow it.
    """
    raw = path.read_bytes() if path.exists() else b""
    if len(raw) < _HEADER.size + _FRAME_HEADER_BYTES:
        return
    magic, _, page_size, _, *_ = header = _HEADER.unpack_from(raw)
    order = ">" if magic == _MAGIC_LITTLE | 1 else "<"
    header_sum = _chain(np.frombuffer(raw, f"{order}u4", 6)[None, :], (0, 0))[0]
    is_header_whole = header_sum == tuple(header[6:8])
    if not is_header_whole:
        page_size = _page_size_of_main_file(path) or page_size
    if page_size < 512 or page_size & (page_size - 1):
        raise Corruption(f"the header of {path} is damaged")
    frame_bytes = _FRAME_HEADER_BYTES + page_size
    count = (len(raw) - _HEADER.size) // frame_bytes
    frames = np.frombuffer(raw, np.uint8, count * frame_bytes, _HEADER.size).reshape(count, -1)
    if not count:
        return
    heads = np.ascontiguousarray(frames[:, :_FRAME_HEADER_BYTES]).view(">u4").astype(np.uint32)
    salts = np.array(header[4:6], np.uint32) if is_header_whole else heads[0, 2:4]
    damaged = 0
    if is_header_whole:
        summed = np.concatenate([frames[:, :8], frames[:, _FRAME_HEADER_BYTES:]], axis=1)
        sums = _chain(summed.view(f"{order}u4").astype(np.uint32), header_sum)
        is_whole = (heads[:, 4:6] == np.array(sums, np.uint32)).all(axis=1)
        is_whole &= (heads[:, 2:4] == salts).all(axis=1)
        damaged = int(np.argmin(is_whole)) if not is_whole.all() else count
    commits = (heads[damaged:, 1] != 0) & (heads[damaged:, 2:4] == salts).all(axis=1)
    if commits.sum() > 1:
        place = _HEADER.size + damaged * frame_bytes if is_header_whole else 0
        raise Corruption(f"{path} is damaged at byte {place} or after, with commits behind it")


def _chain(blocks: Words, start: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the running checksum after each block of an even number of words."""
    pairs = blocks.shape[1] // 2
    # One step is (s, t) -> (s + x + t, t + y + s + x + t); `carry` is what is left of the
    # starting state after the steps of a block, `weights` what each word adds by then.
    carry = (1, 0, 0, 1)
    weights = np.empty((2 * pairs, 2), np.uint32)
    for pair in range(pairs - 1, -1, -1):
        a, b, c, d = carry
        weights[2 * pair] = ((a + b) & _MASK, (c + d) & _MASK)
        weights[2 * pair + 1] = (b, d)
        carry = ((a + b) & _MASK, (a + 2 * b) & _MASK, (c + d) & _MASK, (c + 2 * d) & _MASK)
    with np.errstate(over="ignore"):
        added = (blocks @ weights).tolist()
    a, b, c, d = carry
    sums = []
    s, t = start
    for plus_s, plus_t in added:
        s, t = (a * s + b * t + plus_s) & _MASK, (c * s + d * t + plus_t) & _MASK
        sums.append((s, t))
    return sums


def _page_size_of_main_file(path: Path) -> int:
    main = path.with_name(path.name.removesuffix("-wal"))
    raw = main.read_bytes()[16:18] if main.exists() else b""
    return int.from_bytes(raw, "big") if len(raw) == 2 else 0
