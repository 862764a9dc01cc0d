"""The limit on open files of the process, and the number of connections that follows from it.

A connection is an open file, as is every file of an index: if connections took all, an index could
not seal its memtable. So the limit is raised to the most that the system allows, and a reserve of
it is not for connections.
"""

from vicinal.errors import InvalidInput

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

RESERVE = 1_024
"""Ours: 256 indexes may be open at once, with three files each, and sealing needs some more."""

CONNECTIONS_MAX = 8_192
"""Ours: where nothing is set. A connection takes 10 kB, and up to 512 kB while it sends."""

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
    """Return about the same number as `raise_limit`, without raising the limit."""
    if resource is None:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        return hard
    return None if soft == resource.RLIM_INFINITY else max(soft, _MANY[-1])


def connections_max(setting: int, files_max: int | None) -> int:
    """Return the number of connections that may be open.

    Args:

        files_max: How many files may be open, None for any number.

    Raises:
        InvalidInput: the setting is more than `files_max` less the reserve.
    """
    if files_max is None:
        return setting or CONNECTIONS_MAX
    most = files_max - min(RESERVE, 3 * files_max // 4)
    if setting > most:
        raise InvalidInput(
            f"connections_max is {setting}, but {files_max} files may be open, and all but {most} "
            f"are kept for indexes; raise the hard limit (ulimit -Hn, LimitNOFILE of systemd)"
        )
    return setting or min(CONNECTIONS_MAX, most)
