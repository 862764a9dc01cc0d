"""The memory of reading is that of a batch, however many rows a file has.

Each form is read in a process of its own, whose peak is compared between a short file and one of
many times the rows; the files are streams that are made while they are read, where that can be.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

DIMENSIONS = 64
PROGRAM = """
import io, json, sys, tempfile
import numpy as np
from vicinal.readers import build
from vicinal.readers.base import START, ColumnNames
from vicinal.readers.opening import FileSource

form, rows, dimensions = sys.argv[1], int(sys.argv[2]), 64
values = np.arange(dimensions, dtype=np.float32)
listed = json.dumps(values.tolist())

class Stream(io.RawIOBase):
    def __init__(self, parts):
        self.parts, self.rest = parts, b""
    def readable(self):
        return True
    def readinto(self, buffer):
        while not self.rest:
            self.rest = next(self.parts, None)
            if self.rest is None:
                self.rest = b""
                return 0
        part = self.rest[:len(buffer)]
        buffer[:len(part)] = part
        self.rest = self.rest[len(part):]
        return len(part)

def record(row):
    return b'{"id":"v%d","values":%b,"metadata":{"k":%d}}' % (row, listed.encode(), row)

def head():
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f4", "fortran_order": False, "shape": (rows, dimensions)})
    return file.getvalue()

def stream():
    match form:
        case "ndjson":
            return (record(row) + b"\\n" for row in range(rows))
        case "array":
            return (b"[" + record(row) if row == 0 else b"," + record(row) +
                    (b"]" if row == rows - 1 else b"") for row in range(rows))
        case "csv":
            return ((b"id,k,values\\n" if row == 0 else b"") +
                    b'v%d,%d,"%b"\\n' % (row, row, listed.encode()) for row in range(rows))
        case "npy":
            return (head() if row < 0 else values.tobytes() for row in range(-1, rows))

if len(sys.argv) > 3:
    from pathlib import Path
    source = FileSource.open(Path(sys.argv[3]))
elif form == "parquet":
    import pyarrow as pa, pyarrow.parquet as pq
    file = tempfile.NamedTemporaryFile()
    schema = pa.schema([("id", pa.string()), ("values", pa.list_(pa.float32()))])
    with pq.ParquetWriter(file.name, schema) as writer:
        for start in range(0, rows, 2000):
            part = [f"v{row}" for row in range(start, start + 2000)]
            writer.write_table(pa.table(
                {"id": part, "values": pa.array([values] * 2000, pa.list_(pa.float32()))}))
    from pathlib import Path
    source = FileSource.open(Path(file.name))
else:
    source = FileSource(None, io.BufferedReader(Stream(stream())))
names = ColumnNames()
reader = build.reader_of(source, build.recognised(source, names), names, dimensions,
                         bytes_max=4 << 20)
count = sum(len(batch.vectors) for batch in reader.batches(START, 1000))
with open("/proc/self/status") as status:  # ru_maxrss begins with the peak of whoever started this
    (peak,) = (int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
print(json.dumps([count, peak]))
"""


def measured(form: str, rows: int, *path: Path) -> tuple[int, float]:
    """Return the rows that were read and the peak of memory in MB."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, form, str(rows), *map(str, path)],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    count, kilobytes = json.loads(done.stdout)
    return count, kilobytes / 1024


FEW, MANY, GROWTH_MB = 4_000, 60_000, 12.0
"""As many rows as a few batches, and fifteen times as many: these alone are 15 to 30 MB of text."""

OF_ONE_GROUP = 30_000, 120_000
"""Rows of a group of parquet, 8 and 31 MB of values. Fewer do not fill the pages and dictionaries
that pyarrow reads at a time, nor its pool of memory: seen with 4,000 rows 93 MB, 30,000 108,
120,000 112, 240,000 117.7 and 1,000,000 117.8 MB."""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells the peak of a process")
@pytest.mark.parametrize("form", ["ndjson", "array", "csv", "npy", "parquet"])
def test_many_rows_take_no_more_memory_than_few(form: str) -> None:
    few_count, few_mb = measured(form, FEW)
    many_count, many_mb = measured(form, MANY)

    assert (few_count, many_count) == (FEW, MANY)
    assert many_mb < few_mb + GROWTH_MB


def write_file(form: str, rows: int, path: Path) -> None:
    """Write a form that is not made while it is read, as its program does by itself."""
    values = np.arange(rows * DIMENSIONS, dtype=np.float32).reshape(rows, DIMENSIONS)
    ids = [f"v{row}" for row in range(rows)]
    if form == "npz":
        with path.open("wb") as file:
            np.savez_compressed(file, ids=np.array(ids), values=values)
        return
    vector = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), DIMENSIONS)
    table = pyarrow.table({"id": ids, "values": vector})
    if form == "feather":
        pyarrow.feather.write_feather(table, path, compression="zstd", chunksize=2_000)
    else:
        pyarrow.parquet.write_table(table, path, row_group_size=rows)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells the peak of a process")
@pytest.mark.parametrize(
    ("form", "few", "many"),
    [
        ("npz", FEW, MANY),
        ("feather", FEW, MANY),
        ("one-group", *OF_ONE_GROUP),
        pytest.param("one-group", 250_000, 1_000_000, marks=pytest.mark.slow),
    ],
)
def test_many_rows_of_a_file_take_no_more_memory_than_few(
    tmp_path: Path, form: str, few: int, many: int
) -> None:
    peaks = []
    for rows in (few, many):
        write_file(form, rows, tmp_path / str(rows))
        count, megabytes = measured(form, rows, tmp_path / str(rows))
        assert count == rows
        peaks.append(megabytes)

    assert peaks[1] < peaks[0] + GROWTH_MB


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells the peak of a process")
@pytest.mark.parametrize("form", ["ndjson", "npy"])
def test_ten_million_rows_take_no_more_memory_than_few(form: str) -> None:
    _, few_mb = measured(form, FEW)
    count, mb = measured(form, 10_000_000 if form == "npy" else 1_000_000)

    assert count >= 1_000_000
    assert mb < few_mb + GROWTH_MB
