"""What all tests share: the real model, and how hypothesis runs.

It runs without deadlines, on machines whose speed nobody knows.
``pytest --hypothesis-profile=thorough`` takes minutes where the default takes seconds. A
failure prints what reproduces it.
"""

import pytest
from hypothesis import HealthCheck, settings

from tests.support.models import pull_minilm
from vicinal.errors import Unavailable

settings.register_profile(
    "ordinary", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("ordinary"), max_examples=5_000)
settings.load_profile("ordinary")


@pytest.fixture(scope="session")
def minilm() -> None:
    """The real model, on this machine; where it cannot be had the test is skipped, loudly."""
    try:
        pull_minilm()
    except Unavailable as error:
        pytest.skip(f"needs a real model: {error}")
