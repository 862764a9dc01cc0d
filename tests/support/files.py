"""The same vectors in every form of file that is imported."""

import gzip
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet

from vicinal.model import Floats
from vicinal.readers.base import ColumnNames

Rows = list[dict[str, Any]]
"""Rows with `id`, `values` and whatever else is metadata."""


def ndjson(rows: Rows) -> bytes:
    return b"".join(json.dumps(_record(row)).encode() + b"\n" for row in rows)


def array(rows: Rows) -> bytes:
    return json.dumps([_record(row) for row in rows], indent=1).encode()


def vectors_object(rows: Rows) -> bytes:
    return json.dumps({"vectors": [_record(row) for row in rows]}).encode()


def csv(rows: Rows) -> bytes:
    names = _names(rows)
    lines = [",".join(names)]
    for row in rows:
        cells = [json.dumps(row[name]) if name == "values" else row.get(name) for name in names]
        lines.append(",".join(_cell(cell) for cell in cells))
    return ("\n".join(lines) + "\n").encode()


def npy(rows: Rows) -> bytes:
    """Values alone: ids of this form are numbers of rows."""
    return _saved(_values(rows))


def fortran(rows: Rows) -> bytes:
    return _saved(np.asfortranarray(_values(rows).astype(np.float64)))


def npz(rows: Rows) -> bytes:
    file = io.BytesIO()
    others = {name: np.array([row[name] for row in rows]) for name in _names(rows)[2:]}
    columns = {"ids": np.array([row["id"] for row in rows]), "values": _values(rows), **others}
    np.savez(file, **columns)  # type: ignore[arg-type]  # takes arrays by any name
    return file.getvalue()


def parquet(rows: Rows) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(_table(rows), file, row_group_size=3)
    return file.getvalue()


def feather(rows: Rows) -> bytes:
    file = io.BytesIO()
    pyarrow.feather.write_feather(_table(rows), file)
    return file.getvalue()


def arrow_stream(rows: Rows) -> bytes:
    file = io.BytesIO()
    table = _table(rows)
    with pyarrow.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


FORMS: Mapping[str, Callable[[Rows], bytes]] = {
    "ndjson": ndjson,
    "array": array,
    "object": vectors_object,
    "csv": csv,
    "npy": npy,
    "fortran": fortran,
    "npz": npz,
    "parquet": parquet,
    "feather": feather,
    "stream": arrow_stream,
}

NUMBERED = ("npy", "fortran")
"""Forms without ids and metadata."""

TABLES = ("csv", "npz", "parquet", "feather", "stream")
"""Forms whose further columns are metadata."""

COMPRESSED: Mapping[str, Callable[[bytes], bytes]] = {
    "plain": lambda text: text,
    "gzip": gzip.compress,
    "zstd": lambda text: bytes(pyarrow.compress(text, codec="zstd", asbytes=True)),
}

USUAL = ColumnNames()


def _record(row: dict[str, Any]) -> dict[str, Any]:
    others = {name: value for name, value in row.items() if name not in ("id", "values")}
    document = others.pop("metadata", others)
    return {name: row[name] for name in ("id", "values") if name in row} | (
        {"metadata": document} if document or document is None else {}
    )


def _names(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text


def _values(rows: Rows) -> Floats:
    return np.array([row["values"] for row in rows], np.float32)


def _table(rows: Rows) -> Any:
    return pyarrow.table({name: [row.get(name) for row in rows] for name in _names(rows)})


def _saved(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()
