"""Tests are run where calls cost what they do, however far down."""

import resource

from tests.support.frames import with_room

CALLS, DEPTHS = 500, 400
WHOSE = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)


def call_with_many_names() -> int:
    a = b = c = d = e = f = g = h = i = j = k = m = n = o = p = q = r = s = t = u = v = w = x = 1
    return a + b + c + d + e + f + g + h + i + j + k + m + n + o + p + q + r + s + t + u + v + w + x


def faults_of_calls(depth: int) -> int:
    """Return how many pages of memory are touched first by calls that begin so far down."""
    if depth:
        return faults_of_calls(depth - 1)
    before = resource.getrusage(WHOSE).ru_minflt
    for _ in range(CALLS):
        call_with_many_names()
    return resource.getrusage(WHOSE).ru_minflt - before


def test_calls_map_no_memory_of_their_own_however_far_down_they_are() -> None:
    faults = [faults_of_calls(depth) for depth in range(DEPTHS)]

    assert max(faults) < CALLS / 2, f"{faults.index(max(faults))} calls down"


def test_room_for_frames_changes_nothing_else() -> None:
    assert with_room(lambda: "returned") == "returned"
