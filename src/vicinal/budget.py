"""A bound on what is held at one time: bytes of queued mutations, texts that wait for an encoder.

A base module: it knows no unit and raises no error of its own, since only the caller can name the
thing there is too much of.
"""

import threading


class Budget:
    """A count of units in use, over all that share it. Thread-safe.

    Args:
        bound: Units that may be in use together. An amount beyond it passes while nothing is in
            use, so none is too large for ever.

    Attributes:
        used: Units in use.
        changes: Number of calls of `release` and `notify`.
    """

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.used = 0
        self.changes = 0
        self._changed = threading.Condition()

    def acquire(self, amount: int, *, is_bounded: bool = True) -> bool:
        """Count `amount` units as in use; return False, and count nothing, if that is too many."""
        with self._changed:
            if is_bounded and self.used and self.used + amount > self.bound:
                return False
            self.used += amount
            return True

    def release(self, amount: int) -> None:
        """Count `amount` units as in use no more."""
        with self._changed:
            self.used -= amount
        self.notify()

    def notify(self) -> None:
        """Wake all in `wait_for_change`: something else that they wait for may have changed."""
        with self._changed:
            self.changes += 1
            self._changed.notify_all()

    def wait_for_change(self, seen: int, timeout_s: float) -> bool:
        """Wait until `changes` differs from `seen`; return whether it does after `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self.changes != seen, min(timeout_s, threading.TIMEOUT_MAX)
            )
