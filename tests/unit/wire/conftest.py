"""Every test of the readers runs with each way of reading an object, and lines of them."""

from collections.abc import Iterator

import pytest

from tests.support.bodies import READERS, reading


@pytest.fixture(params=[False, True], ids=["in Python", "compiled"])
def compiled(request: pytest.FixtureRequest) -> bool:
    """Whether lines are read by what is compiled, if it is."""
    return bool(request.param)


@pytest.fixture(params=READERS, ids=["simdjson", "msgspec", "careful"])
def quick(request: pytest.FixtureRequest, compiled: bool) -> Iterator[None]:
    with reading(request.param, compiled=compiled):
        yield
