"""How many files the process may have open, and what part of them connections may be.

A connection is an open file, and so is each of an index's: connections that took all would keep
an index from sealing its tail. So what the system allows is used in full, and a reserve of it is
not for connections.
"""

from vicinal.errors import InvalidInput

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

RESERVE = 1_024
"""Ours: 256 indexes may be open at once, with three files each, and sealing needs some more."""

CONNECTIONS_MAX = 8_192
"""Ours: where nothing is set. Each takes 10 kB, and up to 512 kB while something is sent."""

_MANY = (1 << 20, 10_240)  # where there is no limit: Linux' and macOS' own most


def raise_limit() -> int | None:
    """Raise the soft limit on open files to the hard one, and return it; None for no limit."""
    if resource is None:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in _MANY if hard == resource.RLIM_INFINITY else (hard,):
        if soft != resource.RLIM_INFINITY and soft < wanted:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            except (OSError, ValueError):  # macOS takes less than it says
                continue
            soft = wanted
    return None if soft == resource.RLIM_INFINITY else soft


def most_files() -> int | None:
    """Return about what `raise_limit` would, and change nothing."""
    if resource is None:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        return hard
    return None if soft == resource.RLIM_INFINITY else max(soft, _MANY[-1])


def connections_max(asked: int, files_max: int | None) -> int:
    """Return how many connections there may be.

    Args:
        asked: The setting, 0 for as many as is sensible.
        files_max: How many files may be open, None for any number.

    Raises:
        InvalidInput: more are asked for than files may be open, less the reserve.
    """
    if files_max is None:
        return asked or CONNECTIONS_MAX
    most = files_max - min(RESERVE, 3 * files_max // 4)
    if asked > most:
        raise InvalidInput(
            f"connections_max is {asked}, but {files_max} files may be open, and all but {most} "
            f"are kept for indexes; raise the hard limit (ulimit -Hn, LimitNOFILE of systemd)"
        )
    return asked or min(CONNECTIONS_MAX, most)
