"""A process that dies in the merge that builds a graph.

    python -m tests.support.graph_worker FOLDER MOMENT

It writes rows, says on standard output that they are acknowledged, merges, and kills itself at the
moment (one of `MOMENTS`). 4,500 rows are large here.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.clusters import clustered
from tests.support.engines import APPLIED_WITHIN_S, DOCS
from vicinal.ann import graph, graph_kind
from vicinal.ann.binary import BinaryKind
from vicinal.ann.graph_kind import GAPS, GraphKind
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.model import Effort, Floats, IndexConfig, Metric, Upsert, VectorBatch
from vicinal.segment import row_index, segment
from vicinal.storage import files

ROWS, QUERIES, DIMENSIONS = 4_500, 10, 64
OPTIONS = EngineOptions(memtable_rows_max=ROWS // 3, idle_s=3_600)
MOMENTS = ("linked", "measured", "written")
"""The rows have neighbours, the breadths are measured, the graph is a file of no segment yet."""


def make_few_rows_large(patch: pytest.MonkeyPatch) -> None:
    """Have segments of `ROWS` get a graph, and walks of any length pay."""
    kinds = (GraphKind(ROWS, dict.fromkeys(Effort, 0), GAPS[:1]), BinaryKind())
    patch.setattr(row_index, "KINDS", kinds)
    patch.setattr(segment, "KINDS", kinds)
    patch.setattr(graph_kind, "expanded_max", lambda _: 1_000_000)


def data() -> tuple[Floats, Floats]:
    """Return the rows, and queries."""
    values = clustered(ROWS + QUERIES, DIMENSIONS)
    return values[:ROWS], values[ROWS:]


def write(engine: EmbeddedEngine) -> None:
    """Write the rows, in three segments."""
    engine.create_index(DOCS, IndexConfig(DIMENSIONS, Metric.COSINE), None)
    values, part = data()[0], ROWS // 3
    for start in range(0, ROWS, part):
        ids = [f"v{row}" for row in range(start, start + part)]
        batch = VectorBatch(ids, values[start : start + part], [""] * part, [b""] * part)
        last = engine.append(DOCS, Upsert(batch)).result()
        assert engine.wait_applied(DOCS, last.seqno, APPLIED_WITHIN_S)


def _dying_after(real: Callable[..., Any], *, only: str = "") -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        result = real(*args)
        if not only or only in args:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


def main(folder: Path, moment: str) -> None:
    patch = pytest.MonkeyPatch()
    make_few_rows_large(patch)
    engine = EmbeddedEngine.open(folder, OPTIONS)
    write(engine)
    sys.stdout.write("acknowledged\n")
    sys.stdout.flush()
    if moment == "linked":
        patch.setattr(graph_kind, "build_neighbours", _dying_after(graph.build_neighbours))
    elif moment == "measured":
        patch.setattr(graph_kind, "breadths", _dying_after(graph_kind.breadths))
    else:
        patch.setattr(files, "write", _dying_after(files.write, only="graph"))
    engine.compact(DOCS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
