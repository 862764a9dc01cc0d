"""Libraries compiled from C when the package was built (``hatch_build.py``), where there was a
compiler.

Each lies beside its sources and carries their checksum in its name: one of another version is
never loaded. Where there is none, Python does the same work, more slowly.
"""

import ctypes
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path


def find(name: str, sources: Sequence[Path]) -> Path | None:
    """Return the library ``_<name>-<checksum>.so`` built from `sources`, None if none can be
    loaded."""
    checksum = sha256(b"".join(each.read_bytes() for each in sources)).hexdigest()
    path = sources[0].with_name(f"_{name}-{checksum[:16]}.so")
    if not path.exists():
        return None
    try:
        ctypes.CDLL(str(path))
    except OSError:  # built for another kind of machine
        return None
    return path
