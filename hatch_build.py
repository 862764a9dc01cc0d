"""Builds the compiled search (``src/vicinal/ann/signs.c``) when the package is built.

It is optional: without a C compiler, or where it fails, the package is built without it and
says so. The library's name carries the checksum of its sources, as `vicinal.ann.library` expects.
"""

import os
import shutil
import subprocess
import sysconfig
from hashlib import sha256
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-Wall", "-Wextra")
FOLDER = Path("src/vicinal/ann")


class CompiledSearch(BuildHookInterface[Any]):
    """See the module."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile for this machine's kind of processor; the wheel is tagged for it."""
        folder = Path(self.root) / FOLDER
        sources = [folder / "signs.c", folder / "kernels.h"]
        checksum = sha256(b"".join(each.read_bytes() for each in sources)).hexdigest()
        library = folder / f"_signs-{checksum[:16]}.so"
        reason = compile_(sources[0], library)
        if reason is not None:
            self.app.display_warning(f"building without the compiled search: {reason}")
            return
        for other in set(folder.glob("_signs-*.so")) - {library}:
            other.unlink()
        build_data["artifacts"].append(f"/{FOLDER}/{library.name}")
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def compile_(source: Path, library: Path) -> str | None:
    """Compile a shared library, replacing any at once; return why it could not be done."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        return "there is no C compiler"
    unfinished = library.with_suffix(f".{os.getpid()}")
    command = [*compiler.split(), *FLAGS, "-o", str(unfinished), str(source), "-lm"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{compiler}: {error}"
    if done.returncode == 0:
        unfinished.replace(library)
        return None
    unfinished.unlink(missing_ok=True)
    return f"{' '.join(command)} failed: {done.stderr.strip()}"
