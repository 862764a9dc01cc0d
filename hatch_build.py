"""Builds the compiled parts when the package is built: the C of ``src/vicinal/native``.

The description on a page of packages is made here, too, of ``README.md``.

They are optional: without a C compiler, or where it fails, the package is built without them and
says so. The library's name carries the checksum of its sources, as `vicinal.native` expects.
``structures.py`` is one of these: a library whose layout differs from Python's is not built.
"""

import os
import re
import runpy
import shutil
import subprocess
import sysconfig
from hashlib import sha256
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-Wall", "-Wextra", "-pthread")


SOURCE = "Source"
"""The label in ``project.urls`` of the address that files of the repository have below it."""

_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_CODE = re.compile(r"(^```.*?^```\n|`[^`\n]*`)", re.MULTILINE | re.DOTALL)


class Described(MetadataHookInterface):
    """Sets the description."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Set ``readme``."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        address = metadata.get("urls", {}).get(SOURCE)
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": description(text, address),
        }


def description(text: str, address: str | None) -> str:
    """Return a page whose links to files lead to `address`, or are plain text without one.

    A page of packages has no files beside it, so a relative link would lead nowhere.
    """

    def link(match: re.Match[str]) -> str:
        label, target = match.groups()
        if "://" in target or target.startswith("#"):
            return match[0]
        return f"[{label}]({address.rstrip('/')}/{target})" if address else label

    pieces = _CODE.split(text)  # every second one is code
    pieces[::2] = [_LINK.sub(link, piece) for piece in pieces[::2]]
    return "".join(pieces)


class Compiled(BuildHookInterface[Any]):
    """See the module."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile for this machine's kind of processor; the wheel is tagged for it."""
        folder = Path(self.root, "src/vicinal/native")
        sources = sorted((*folder.glob("*.[ch]"), folder / "structures.py"))
        checksum = sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
        library = folder / f"_native-{checksum[:16]}.so"
        reason = compile_(folder, library)
        if reason is not None:
            self.app.display_warning(f"building without the compiled parts: {reason}")
            return
        for other in set(folder.glob("_native-*.so")) - {library}:
            other.unlink()
        build_data["artifacts"].append(f"/{library.relative_to(self.root)}")
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def compile_(folder: Path, library: Path) -> str | None:
    """Compile the sources in `folder`, replacing any library at once; return why it failed."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        return "there is no C compiler"
    unfinished = library.with_suffix(f".{os.getpid()}")
    command = [
        *(*compiler.split(), *FLAGS, f"-I{folder}", "-o", str(unfinished)),
        *(*map(str, sorted(folder.glob("*.c"))), "-xc", "-", "-lm"),
    ]
    layout = runpy.run_path(str(folder / "structures.py"))["assertions"]()
    try:
        done = subprocess.run(command, input=layout, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{compiler}: {error}"
    if done.returncode == 0:
        unfinished.replace(library)
        return None
    unfinished.unlink(missing_ok=True)
    return f"{' '.join(command)} failed: {done.stderr.strip()}"
