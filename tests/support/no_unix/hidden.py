"""What `sitecustomize` hides."""

HIDDEN = frozenset(
    (
        *("fcntl", "resource", "pwd", "grp", "spwd", "termios", "tty", "pty", "syslog", "crypt"),
        *("uvloop", "httptools"),  # which are not installed there
    )
)
"""Modules."""

FUNCTIONS = (
    *("O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC", "pread", "preadv", "pwrite", "pwritev"),
    *("chown", "fchown", "lchown", "getuid", "geteuid", "getgid", "getegid", "sched_getaffinity"),
    *("fdatasync", "posix_fadvise", "killpg", "setsid"),
)
"""Names of ``os``, but for those that are asked for on Linux alone."""
