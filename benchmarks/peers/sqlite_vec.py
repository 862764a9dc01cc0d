"""sqlite-vec: exact search in a virtual table, through APSW, whose SQLite loads extensions."""

import threading
from collections.abc import Sequence
from typing import Any

import apsw
import sqlite_vec

from benchmarks.measure import Floats
from benchmarks.peers import worker
from benchmarks.peers.worker import Document, Opening, Setting

_METRICS = {"cosine": "cosine", "euclidean": "l2"}  # it has no dot product


class SqliteVec:
    """See `worker.Database`."""

    def __init__(self, opening: Opening) -> None:
        self._path = f"{opening.folder}/vectors.db"
        self._own = threading.local()
        self._fields = opening.fields
        columns = "".join(f", {field} integer" for field in opening.fields)
        titles = ", +title text" if opening.fields else ""
        self._connection.execute("pragma journal_mode=wal")
        self._connection.execute(
            "create virtual table if not exists rows using vec0(row integer primary key, "
            f"vector float[{opening.dimensions}] distance_metric={_METRICS[opening.metric]}"
            f"{columns}{titles})"
        )

    @property
    def _connection(self) -> apsw.Connection:
        """This thread's connection."""
        if not hasattr(self._own, "connection"):
            connection = apsw.Connection(self._path)
            connection.enable_load_extension(True)
            connection.load_extension(sqlite_vec.loadable_path())
            self._own.connection = connection
        opened: apsw.Connection = self._own.connection
        return opened

    def insert(self, first: int, values: Floats, documents: Sequence[Document] | None) -> None:
        """See `worker.Database`."""
        names = [*self._fields, "title"] if documents else []
        marks = ", ".join("?" * (2 + len(names)))
        rows = [
            (row, vector.tobytes(), *(documents[row - first][name] for name in names))
            if documents
            else (row, vector.tobytes())
            for row, vector in enumerate(values, first)
        ]
        with self._connection:
            self._connection.executemany(
                f"insert into rows({', '.join(['row', 'vector', *names])}) values ({marks})", rows
            )

    def build(self) -> None:
        """See `worker.Database`. There is no index."""

    def tune(self, setting: Setting) -> None:
        """See `worker.Database`. There is nothing to set."""

    def asked(self, query: Floats) -> Any:
        """See `worker.Database`."""
        return query.tobytes()

    def search(self, query: Any, k: int, where: tuple[str, int] | None, *, fetch: bool) -> Any:
        """See `worker.Database`."""
        more = f", {', '.join([*self._fields, 'title'])}" if fetch else ""
        term = f" and {where[0]} = ?" if where else ""
        return self._connection.execute(
            f"select row, distance{more} from rows where vector match ? and k = ?{term}",
            (query, k, where[1]) if where else (query, k),
        ).fetchall()

    def rows(self, result: Any) -> list[int]:
        """See `worker.Database`."""
        return [row[0] for row in result]

    def close(self) -> None:
        """See `worker.Database`."""
        self._connection.close()


if __name__ == "__main__":
    worker.main(SqliteVec)
