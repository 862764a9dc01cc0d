"""Lines for a shell that name a server and an account, to be copied.

`serve` prints them too, so this imports neither the HTTP client nor what prints tables.
"""

import shlex
import shutil
import sys
from pathlib import Path

DEFAULT_URL = "http://127.0.0.1:8790"
DEFAULT_ACCOUNT = "local"


def program() -> str:
    """Return what starts this program in a shell: its path where the name alone would not do."""
    started_as = Path(sys.argv[0])
    is_named = started_as.name == "vicinal" and started_as.is_file()
    is_found = not is_named or shutil.which("vicinal") is not None
    # In full, as a line is often copied to where a Worker's project is.
    return "vicinal" if is_found else str(started_as.absolute())


def command(*words: str, origin: str, account: str, cacert: Path | None = None) -> str:
    """Return a command for a server and an account, without the token."""
    line = [program(), *words]
    if origin != DEFAULT_URL:
        line += ["--url", origin]
    if account != DEFAULT_ACCOUNT:
        line += ["--account", account]
    if cacert is not None:
        line += ["--cacert", str(cacert)]
    return shlex.join(line)
