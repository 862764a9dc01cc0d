"""``make fuzz``: random input for what reads bytes of others, for a set time.

``FUZZ_SECONDS`` is how long, in all. ``FUZZ_SEED`` repeats a run, and ``FUZZ_ONLY`` names the one
part that is run, for all of the time. Each part prints its seed; one that finds a fault prints the
command to find it again, and ends everything.
"""

import os
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz import compiled, connections, readers


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of fuzzing.

    Attributes:
        share: Of the time, beside those of the others.
        run: Does it for so many seconds, by a seed.
    """

    share: float
    run: Callable[[float, int], None]


def _lines(seconds: float, seed: int) -> None:
    compiled.fuzz_lines(seconds, seed, readers.DIMENSIONS, readers.SEEDS)


PARTS = {
    "lines": Part(3, _lines),
    "binary": Part(4, compiled.fuzz_search),
    "words": Part(2, compiled.fuzz_words),
    "pool": Part(1, compiled.share_pool),
    "readers": Part(3, readers.differential),
    "connections": Part(4, connections.connections),
}


def main(seconds: float, seed: int, only: str) -> None:
    """Run all parts, or one."""
    if only and only not in PARTS:
        sys.exit(f"FUZZ_ONLY is {only!r}, which is none of {', '.join(PARTS)}")
    parts = {name: part for name, part in PARTS.items() if only in ("", name)}
    shares = sum(part.share for part in parts.values())
    for part in parts.values():
        part.run(seconds * part.share / shares, seed)


if __name__ == "__main__":
    main(
        float(os.environ.get("FUZZ_SECONDS", "60")),
        int(os.environ.get("FUZZ_SEED") or secrets.randbits(31)),
        os.environ.get("FUZZ_ONLY", ""),
    )
