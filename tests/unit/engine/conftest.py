"""Engines write to memory where there is room: what they wait for a disk is no part of a test."""

from pathlib import Path

import pytest


@pytest.fixture
def tmp_path(memory_path: Path) -> Path:
    return memory_path
