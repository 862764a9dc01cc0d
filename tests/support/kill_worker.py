"""A process to be killed: an engine, its recovered state on standard output, then writers.

    python -m tests.support.kill_worker FOLDER SEED FIRST_STEP_OF_EACH_WRITER

When it is opened again, words are searched for and their scores compared with the vectors that are
there. Lines of JSON: ``{"found": …, "applied": …}`` once, then ``{"begun": [writer, step]}``
before a step is sent, ``{"acknowledged": [writer, step], "seqno": …}`` when it is durable,
and ``{"applied": …}`` now and then. A line that is printed was true before.
"""

import json
import math
import sys
import threading
from collections import deque
from concurrent.futures import Future
from pathlib import Path

from tests.support.engines import DOCS, create, received
from tests.support.killing import DIMENSIONS, WRITERS, ids_of, step_of
from tests.support.model_engine import bm25
from vicinal import metadata
from vicinal.engine import blob_files
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.errors import Overloaded
from vicinal.keywords.analyzer import analyzer
from vicinal.model import (
    Accepted,
    CreateMetadataIndex,
    IndexType,
    Insert,
    MetadataIndex,
    Query,
    Upsert,
)
from vicinal.ranking import TextQuery

AHEAD = 3  # steps that a writer begins before it has an answer to the first
# So small a memtable that it seals and merges all the time.
OPTIONS = EngineOptions(memtable_rows_max=30, memtables_max=100, idle_s=0.05)
FILE_BYTES_MIN = 110  # so that some records are in files of their own, and some are not

TEXT_INDEX = MetadataIndex("step", IndexType.TEXT)

_print_lock = threading.Lock()


def say(**line: object) -> None:
    with _print_lock:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def found(engine: EmbeddedEngine) -> dict[str, tuple[list[float], str]]:
    everyone = [id_ for writer in range(WRITERS) for id_ in ids_of(writer)]
    return {
        vector.id: (vector.values.tolist(), metadata.decode(vector.metadata)["step"])
        for vector in engine.get(DOCS, everyone)
    }


def wrong_words(engine: EmbeddedEngine, steps: dict[str, str]) -> list[str]:
    """Return words that do not find what is there, with scores of the vectors that are there."""
    if not engine.list_metadata_indexes(DOCS):
        engine.append(DOCS, CreateMetadataIndex(TEXT_INDEX, backfill=True)).result()
        return []  # killed before it had one
    documents = {id_: analyzer(None).terms([step]) for id_, step in steps.items()}
    wrong = []
    for text in sorted(set(steps.values()))[:20]:
        expected = bm25(documents, analyzer(None).terms([text]))
        query = Query(len(documents), text=TextQuery(text))
        scores = {match.id: match.score for match in engine.query(DOCS, query).matches}
        if scores.keys() != expected.keys() or not all(
            math.isclose(scores[id_], expected[id_], rel_tol=1e-9) for id_ in expected
        ):
            wrong.append(text)
    return wrong


def write(engine: EmbeddedEngine, seed: int, writer: int, first: int) -> None:
    waiting: deque[tuple[int, Future[Accepted]]] = deque()
    number = first
    while True:
        say(begun=[writer, number])
        try:
            mutation = step_of(seed, writer, number).mutation()
            future = (
                received(engine, type(mutation), mutation.batch)
                if isinstance(mutation, Insert | Upsert) and number % 2
                else engine.append(DOCS, mutation)
            )
        except Overloaded:
            continue
        waiting.append((number, future))
        number += 1
        if len(waiting) >= AHEAD:
            done, future = waiting.popleft()
            say(acknowledged=[writer, done], seqno=future.result().seqno)


def main(folder: Path, seed: int, firsts: list[int]) -> None:
    blob_files.FILE_BYTES_MIN = blob_files.CHUNK_BYTES = FILE_BYTES_MIN
    engine = EmbeddedEngine.open(folder, OPTIONS)
    if not engine.list_indexes(DOCS.account):
        create(engine, dimensions=DIMENSIONS)
    vectors = found(engine)
    words = wrong_words(engine, {id_: step for id_, (_, step) in vectors.items()})
    status = engine.status(DOCS)
    say(wrong_words=words, found=vectors, applied=status.applied_seqno, count=status.vector_count)
    for writer, first in enumerate(firsts):
        threading.Thread(target=write, args=(engine, seed, writer, first), daemon=True).start()
    while True:
        say(applied=engine.status(DOCS).applied_seqno)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
