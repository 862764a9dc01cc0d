"""Whether an index can be written to and read: until it fails, is damaged or is closed.

A write for which the disk is too full, or that finds too many files open, is refused, and the
next one is tried as if nothing had been. Any other write to the log that fails leaves unknown
what is on disk. So it stops the index's writing: all is refused with `Unavailable` until it is
opened again, and then its log says what was kept; reading goes on from the newest snapshot.
Damage that is found stops reading, too, with `Corruption`.
"""

import logging
import threading
from collections.abc import Callable

from vicinal.budget import Budget
from vicinal.errors import Corruption, Error, Unavailable, untraced

logger = logging.getLogger(__name__)


class Health:
    """Why one index refuses work. Thread-safe.

    Args:
        queue: Notified when a writer that waits on it need not any more.

    Attributes:
        failure: Refuses writes once it is set.
        closed: Refuses writes and reads once it is set.
    """

    def __init__(self, name: str, queue: Budget) -> None:
        self.failure: Error | None = None
        self.closed: Error | None = None
        self._damage: Error | None = None
        self.name = name
        self._queue = queue
        self._changed = threading.Condition()

    @property
    def is_stopped(self) -> bool:
        """Whether writes are refused."""
        return self.failure is not None or self.closed is not None

    def check(self) -> None:
        """Raise why writes are refused, if they are."""
        _raise(self.failure or self.closed)

    def check_readable(self) -> None:
        """Raise why reads are refused, if they are."""
        _raise(self.closed or self._damage)

    def fail(self, error: Exception) -> None:
        """Refuse all writes from now on, and after `Corruption` all reads."""
        if isinstance(error, Error):
            if self.failure is None:
                # As text: a handler that keeps records would keep the error's frames.
                logger.error("index %r takes no writes from now on: %s", self.name, str(error))
        else:
            logger.error("index %r stopped", self.name, exc_info=error)
            error = Unavailable(f"index {self.name!r} has stopped, as it could not go on: {error}")
        self._refuse(error, is_readable=not isinstance(error, Corruption))

    def notify(self) -> None:
        """Have all in `wait_for` look again."""
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, is_done: Callable[[], bool], timeout_s: float) -> None:
        """Wait until something is done, or writes are refused."""
        with self._changed:
            self._changed.wait_for(lambda: is_done() or self.is_stopped, timeout_s)

    def _refuse(self, error: Error, *, is_readable: bool) -> None:
        error = untraced(error)
        self.failure = self.failure or error
        if not is_readable:
            self._damage = self._damage or error
        self.notify()
        self._queue.notify()


def _raise(error: Error | None) -> None:
    if error is not None:
        raise untraced(error)
