"""How many texts does a core embed in a second, at 16, 64 and 256 tokens?

    python -m benchmarks.embedding_rate [MODEL] [--seconds 2]    or: -m benchmarks embedding_rate

Texts are runs of common English words, so that a word is a token; 64 a call. The rate is
per second of CPU time of this process, so that other load counts little; the second rate
is per second of wall time with a thread per core. Tokenizing is included. The first call
of each length is not timed. Prints one table.
"""

import argparse
import os
import random
import time
from collections.abc import Callable
from functools import partial

import onnxruntime

from benchmarks import report
from benchmarks.report import Report, Table
from vicinal.embeddings.build import build_embedder
from vicinal.embeddings.models import matching

MODEL = "all-minilm-l6-v2"
LENGTHS = (16, 64, 256)
TEXTS = 64
SEED = 1
WORDS = (
    "time year people way day man thing woman life child world school state family student "
    "group country problem hand part place case week company system program question work "
    "number night point home water room mother area money story fact month right study book"
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=report.question(__doc__))
    parser.add_argument("model", nargs="?", default=MODEL)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each number (default: 2)")
    arguments = parser.parse_args()
    print(report.text(measured(arguments.model, arguments.seconds, is_quick=False)))


def run(*, is_quick: bool) -> Report:
    """Measure the packaged model."""
    return measured(MODEL, 0.2 if is_quick else 2.0, is_quick=is_quick)


def measured(name: str, seconds: float, *, is_quick: bool) -> Report:
    """Measure a model for a number of seconds."""
    model = matching(name).name
    cores = len(os.sched_getaffinity(0))
    started = time.perf_counter()
    one, all_cores = build_embedder(threads=1), build_embedder(threads=cores)
    one.preload(model)
    loaded_s = time.perf_counter() - started
    all_cores.preload(model)
    rows = []
    for tokens in LENGTHS:
        texts = texts_of(tokens)
        made = one.embed(model, texts)
        assert made.token_count == tokens * TEXTS, "a word is a token"
        per_core = rate(partial(one.embed, model, texts), time.process_time, seconds)
        together = rate(partial(all_cores.embed, model, texts), time.perf_counter, seconds)
        rows.append((tokens, per_core, together))
    return Report(
        "embedding_rate", report.question(__doc__), is_quick,
        report.setup(
            model=f"{model}, loaded in {loaded_s:.2f} s",
            onnxruntime=onnxruntime.__version__,
            seed=str(SEED),
            method=f"{TEXTS} texts a call, {seconds:g} s a number, the first call not timed",
        ),
        (
            Table(
                model, ("tokens", "texts/s per core", f"texts/s on {cores} cores"), tuple(rows)
            ),
        ),
    )  # fmt: skip


def texts_of(tokens: int) -> list[str]:
    """Return texts of `tokens` tokens each, two of which are special."""
    chooser = random.Random(SEED)
    return [" ".join(chooser.choices(WORDS.split(), k=tokens - 2)) for _ in range(TEXTS)]


def rate(embed: Callable[[], object], clock: Callable[[], float], seconds: float) -> float:
    """Return texts per second by `clock`, over calls that together take `seconds`."""
    embed()
    calls = 0
    started = now = clock()
    while now - started < seconds:
        embed()
        calls += 1
        now = clock()
    return calls * TEXTS / (now - started)


if __name__ == "__main__":
    main()
