"""A process killed while it deletes or patches by filter comes back with all of it, or nothing.

SIGKILL at moments chosen by a seed that every failure names. What was acknowledged is there.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.engines import DOCS
from vicinal import metadata
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.filters.nodes import Operator, Predicate
from vicinal.model import Scope

ROOT = Path(__file__).parents[2]
COUNT, GROUPS = 6_000, 6
HOLD_S_MAX = 0.08  # a change of a thousand vectors takes less


def group(number: int) -> Scope:
    return Scope(filter=(Predicate("g", Operator.EQ, (float(number),)),))


def kill_in_changes(folder: Path, kills: int) -> None:
    seed = int(os.environ.get("VICINAL_KILL_SEED", random.SystemRandom().randrange(10**9)))
    print(f"VICINAL_KILL_SEED={seed}")  # noqa: T201 shown when the test fails
    random_ = random.Random(seed)
    run(folder, "fill")
    for step in range(kills):
        kind = random_.choice(["delete", "patch"])
        number = random_.randrange(GROUPS)
        acknowledged = run(folder, kind, number, step, hold_s=random_.random() * HOLD_S_MAX)
        check(folder, kind, number, step, is_acknowledged=acknowledged)


def run(folder: Path, *arguments: object, hold_s: float | None = None) -> bool:
    """Run the worker, kill it some time after it began; return whether it was acknowledged."""
    worker = [sys.executable, "-m", "tests.support.change_worker"]
    command = [*worker, str(folder), *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        if hold_s is not None:
            time.sleep(hold_s)  # any moment will do
            process.kill()
        said = process.stdout.read()
    return "acknowledged" in said


def check(folder: Path, kind: str, number: int, step: int, *, is_acknowledged: bool) -> None:
    engine = EmbeddedEngine.open(folder)
    try:
        count = engine.count(DOCS, group(number))
        if kind == "delete":
            assert count in (0, COUNT // GROUPS)
            assert count == 0 or not is_acknowledged
        else:
            ids = [f"v{n}" for n in range(number, COUNT, GROUPS)]
            stored = engine.get(DOCS, ids)
            steps = {metadata.decode(each.metadata).get("step") for each in stored}
            assert len(stored) == count
            assert len(steps) <= 1, f"part of a patch: {steps}"
            assert not is_acknowledged or not stored or steps == {step}
            assert all(each.values.tolist() == [int(each.id[1:]), 1.0] for each in stored)
        others = engine.status(DOCS).vector_count - count
        assert others % (COUNT // GROUPS) == 0
    finally:
        engine.close()


def test_a_killed_change_of_a_scope_is_all_or_nothing(memory_path: Path) -> None:
    kill_in_changes(memory_path, 5)


@pytest.mark.slow
def test_a_killed_change_of_a_scope_is_all_or_nothing_for_long(memory_path: Path) -> None:
    kill_in_changes(memory_path, 60)
