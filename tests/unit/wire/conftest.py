"""Every test of the readers runs with each way of reading an object."""

import pytest

from vicinal.wire import members
from vicinal.wire.members import Members, Text


def never(text: Text, array: str) -> Members | None:
    """Leave everything to the careful reader."""
    return None


@pytest.fixture(params=[members.quick_with_simdjson, members.quick_with_msgspec, never])
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "quick", request.param)
