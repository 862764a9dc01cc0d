"""A run of tests ends, whatever a test has left behind.

A thread that never ends holds up its interpreter. Of several processes of tests, one that has no
test left waits for the others, as long as those take, and is ended by the process that runs them:
so only that one has a bound.
"""

import faulthandler

import pytest

WITHIN_S = 120.0  # of the interpreter, after the last test


def bound(config: pytest.Config) -> None:
    """Bound what comes after the last test of a run; says where it hangs, on standard error."""
    if not hasattr(config, "workerinput"):
        faulthandler.dump_traceback_later(WITHIN_S, exit=True, file=2)
