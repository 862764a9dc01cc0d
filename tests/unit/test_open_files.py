"""Connections take no more of the files that may be open than indexes can spare."""

import subprocess
import sys

import pytest

from vicinal.errors import InvalidInput
from vicinal.open_files import CONNECTIONS_MAX, RESERVE, connections_max

resource = pytest.importorskip("resource", reason="Windows has no limit on open files")


@pytest.mark.parametrize(
    ("files", "most"),
    [
        (64, 16),
        (256, 64),
        (1_024, 256),
        (4_096, 4_096 - RESERVE),
        (1 << 20, CONNECTIONS_MAX),
        (None, CONNECTIONS_MAX),
    ],
)
def test_where_nothing_is_set_a_part_of_the_files_is_for_connections(
    files: int | None, most: int
) -> None:
    assert connections_max(0, files) == most


def test_what_is_set_holds_as_far_as_there_are_files() -> None:
    assert connections_max(3_072, 4_096) == 3_072
    assert connections_max(100_000, None) == 100_000
    with pytest.raises(InvalidInput, match="connections_max is 3073, but 4096 files may be open"):
        connections_max(3_073, 4_096)


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))
from vicinal.open_files import most_files, raise_limit
print(most_files(), raise_limit(), raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["300", "300", "300", "300", "300"]
