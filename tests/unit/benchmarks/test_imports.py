"""The files that are imported hold the same vectors, and peers read them as they are."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import imports
from benchmarks.peers import importing
from vicinal.readers import build
from vicinal.readers.base import START, ColumnNames
from vicinal.readers.opening import FileSource

ROWS = np.random.default_rng(5).standard_normal((25, 6)).astype(np.float32)


@pytest.mark.parametrize("form", imports.FORMS)
def test_a_file_has_the_same_vectors_for_the_command_and_for_a_peer(
    tmp_path: Path, form: str
) -> None:
    path = tmp_path / f"file.{form}"
    imports.FORMS[form](path, ROWS)
    source, names = FileSource.open(path), ColumnNames()

    reader = build.reader_of(source, build.recognised(source, names), names, 6, bytes_max=1 << 20)
    ours = list(reader.batches(START, 10))
    source.close()
    if form in ("ndjson", "csv"):
        pytest.importorskip("orjson", reason="peers have it in their own environment")
    theirs = list(importing.READERS[form](path, 10))

    assert [list(batch.vectors.ids) for batch in ours] == [ids for ids, _ in theirs]
    for batch, (_, values) in zip(ours, theirs, strict=True):
        assert np.abs(np.asarray(batch.vectors.values) - values).max() < 1e-7
    assert sum(len(ids) for ids, _ in theirs) == len(ROWS)
