"""The readers of vectors bodies against each other: random bodies, most lines of them good."""

import json
import random
import sys
import time

from tests.support.bodies import READERS, reading
from vicinal.errors import Error
from vicinal.limits import Limits
from vicinal.wire import vectors
from vicinal.wire.rows import MemoryBatchWriter

DIMENSIONS = 3
LIMITS = Limits(batch_vectors_max=8)
CAREFUL = len(READERS) - 1  # the reader that is compared to
SEEDS = (
    b'{"id":"a","values":[1,2.5,-3e2]}\n',
    b'{"id":"b","values":[0.12345678,-0.9876543210123456,3.4028235e38]}\r\n',
    b'{"id":"\xc3\xa9","namespace":"n","metadata":{"k":["v\\"",{}],"n":null},"values":[1,2,3]}\n',
    b' {"metadata" : null , "values":[ 1 ,\t2 , 3 ],"namespace":null,"id":"c" } \n\n',
)
PIECES = (
    *(
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\n",
        b"\\",
        b" ",
        b"0",
        b"-",
        b".",
        b"e",
        b"\xff",
    ),
    *(b"null", b"NaN", b"1e400", b'"id":', b'"values":[', b'"metadata":{', b"1" * 20, b"\\u0041"),
    *(b"\xef\xbb\xbf", b"[" * 120, b"9" * 4_400, b'{"a.b":1}', b"\\/", b"\x00", b"--b\r\n"),
)


def body(source: random.Random) -> bytes:
    """Return lines, most of them good, some of them damaged, in some form."""
    text = bytearray(b"".join(source.choices(SEEDS, k=source.randrange(1, 6))))
    for _ in range(source.choice((0, 0, 1, 1, 2, 4))):
        start = source.randrange(len(text) + 1)
        text[start : start + source.choice((0, 0, 1, 3, 20))] = source.choice(PIECES)
    if source.random() < 0.3:
        del text[source.randrange(len(text) + 1) :]
    match source.randrange(8):
        case 0:
            return json.dumps(text.decode("latin-1")).encode()
        case 1:
            return b"[" + bytes(text).strip().replace(b"\n", b",") + b"]"
        case 2:
            return b'{"vectors":[' + bytes(text).strip().replace(b"\n", b",") + b"]}"
        case _:
            return bytes(text)


def outcome(given: bytes, way: int, cuts: list[int], *, compiled: bool, discard: bool) -> object:
    """Return all that a reading gives: the batch, or the error's class and text."""
    with reading(READERS[way], compiled=compiled):
        try:
            rows = MemoryBatchWriter(DIMENSIONS, 0, LIMITS.batch_vectors_max)
            reader = vectors.BodyReader(None, DIMENSIONS, LIMITS, rows, discard=discard)
            for start, end in zip([0, *cuts], [*cuts, len(given)], strict=True):
                reader.feed(given[start:end])
            batch = reader.finish()
        except Error as error:
            return type(error).__name__, str(error)
        return batch.ids, batch.values.tobytes(), batch.namespaces, batch.metadata


def differential(seconds: float, seed: int) -> None:
    """Compare what is compiled to what Python reads, whole and in parts."""
    source, count, accepted = random.Random(seed), 0, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        given, discard = body(source), source.random() < 0.5
        cuts = sorted(source.choices(range(len(given) + 1), k=source.randrange(4)))
        wanted = outcome(given, CAREFUL, [], compiled=False, discard=discard)
        for way in range(len(READERS)):
            for compiled in (False, True):
                for parts in ([], cuts):
                    found = outcome(given, way, parts, compiled=compiled, discard=discard)
                    if found != wanted:
                        print(f"{given!r}\nin parts {parts}, reader {way}, {compiled=}, {discard=}")
                        print(f"{found}\ninstead of\n{wanted}")
                        sys.exit(f"again with: FUZZ_ONLY=readers FUZZ_SEED={seed} make fuzz")
        count += 1
        accepted += len(wanted) == 4  # type: ignore[arg-type]  # a tuple either way
    print(
        f"readers: seed {seed}: {count} bodies, {accepted} accepted, no difference",
        flush=True,
    )
