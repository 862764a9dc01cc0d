"""What all tests share: the real model, a folder in memory, and how hypothesis runs.

It runs without deadlines, on machines whose speed nobody knows.
``pytest --hypothesis-profile=thorough`` takes minutes where the default takes seconds. A
failure prints what reproduces it.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.models import pull_minilm
from vicinal.errors import Unavailable

settings.register_profile(
    "ordinary", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("ordinary"), max_examples=5_000)
settings.load_profile("ordinary")

MEMORY = Path("/dev/shm")  # where there is Linux
MEMORY_BYTES_MIN = 1 << 30


@pytest.fixture(scope="session")
def minilm() -> None:
    """The real model, on this machine; where it cannot be had the test is skipped, loudly."""
    try:
        pull_minilm()
    except Unavailable as error:
        pytest.skip(f"needs a real model: {error}")


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A temporary folder in memory where there is room: syncing costs nothing there."""
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < MEMORY_BYTES_MIN:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="vicinal-") as folder:
        yield Path(folder)
