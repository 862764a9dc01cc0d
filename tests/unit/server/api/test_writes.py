"""How long a write waits to be visible, as RFC 7240 lets a client say."""

import pytest

from vicinal.server.api.writes import preferred_wait_s


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (b"wait=5", 5),
        (b"wait=0", 0),
        (b"Wait = 5", 5),
        (b'wait="5"', 5),
        (b"respond-async, wait=5", 5),
        (b"wait=5, respond-async", 5),
        (b"wait=5; priority=high", 5),
        (b"wait=600", 60),
        (b"return=minimal", None),
        (b"wait", None),
        (b"wait=", None),
        (b"wait=-1", None),
        (b"wait=1.5", None),
        (b"wait=soon", None),
        (b"dontwait=5", None),
        (b"", None),
    ],
)
def test_a_preference_is_followed_up_to_a_bound_and_ignored_when_unreadable(
    prefer: bytes, seconds: int | None
) -> None:
    assert preferred_wait_s({b"prefer": prefer}, wait_s_max=60) == seconds


def test_no_preference_is_no_wait() -> None:
    assert preferred_wait_s({}, wait_s_max=60) is None
