"""Builds the wheel into ``dist``, with the tag of all systems that its compiled part runs on.

A wheel is built for this machine, whose tag no index of packages takes. ``auditwheel`` reads which
versions of the C library the compiled part asks for, and ``wheel`` gives the wheel the tag that
says so. Nothing has to be put beside it: the compiled part needs the C library alone.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"


def main() -> None:
    """Replace the wheels in ``dist`` by one of the source as it is."""
    shutil.rmtree(DIST, ignore_errors=True)
    unaudited = DIST / "unaudited"
    run("pip", "--disable-pip-version-check", "wheel", "--no-deps", "-w", str(unaudited), str(ROOT))
    (built,) = unaudited.glob("*.whl")
    if sys.platform == "linux" and not built.name.endswith("-any.whl"):
        audited = json.loads(run("auditwheel", "show", "--json", str(built)))
        if audited["external_libs"]:
            sys.exit(f"the wheel needs other libraries: {', '.join(audited['external_libs'])}")
        run("wheel", "tags", "--remove", "--platform-tag", audited["overall_tag"], str(built))
        (built,) = unaudited.glob("*.whl")
    built.rename(DIST / built.name)
    shutil.rmtree(unaudited)


def run(module: str, *arguments: str) -> str:
    """Run a module of this environment and return what it prints; end if it fails."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
