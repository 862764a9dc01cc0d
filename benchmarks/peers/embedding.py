"""Texts embedded by another library with the ONNX file that it is given, timed.

    python -P -m benchmarks.peers.embedding LIBRARY FOLDER THREADS SECONDS < TEXTS

FOLDER has the files of the model; TEXTS is a JSON list of lists of texts. Prints a JSON list with a
list for every batch size of `BATCHES`: for each list of texts the texts a second of wall time, of
which the first call is not timed, and the first text's vector.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Floats

Embed = Callable[[Sequence[str], int], Floats]
"""Embeds texts, with at most so many of them in a run of the model."""

BATCHES = (8, 16, 64)
_DIMENSIONS = 384


def fastembed(folder: Path, threads: int) -> Embed:
    """Load the model with fastembed."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    name = "benchmark/model"
    TextEmbedding.add_custom_model(
        model=name, pooling=PoolingType.MEAN, normalization=True,
        sources=ModelSource(hf=name), dim=_DIMENSIONS, model_file="onnx/model.onnx",
    )  # fmt: skip
    model = TextEmbedding(name, threads=threads, specific_model_path=str(folder))

    def embed(texts: Sequence[str], batch: int) -> Floats:
        return np.stack(list(model.embed(texts, batch_size=batch)))

    return embed


def sentence_transformers(folder: Path, threads: int) -> Embed:
    """Load the model with sentence-transformers' ONNX backend."""
    import onnxruntime
    from sentence_transformers import SentenceTransformer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    kwargs = {
        "file_name": "onnx/model.onnx", "provider": "CPUExecutionProvider",
        "session_options": options,
    }  # fmt: skip
    model: Any = SentenceTransformer(
        str(folder), backend="onnx", device="cpu", model_kwargs=kwargs, local_files_only=True
    )

    def embed(texts: Sequence[str], batch: int) -> Floats:
        rows: Floats = model.encode(
            list(texts), batch_size=batch, normalize_embeddings=True, show_progress_bar=False
        )
        return rows

    return embed


LIBRARIES = {"fastembed": fastembed, "sentence-transformers": sentence_transformers}


def main(library: str, folder: str, threads: str, seconds: str) -> None:
    """Embed the texts of standard input, and print the rates."""
    embed = LIBRARIES[library](Path(folder), int(threads))
    groups: list[list[str]] = json.load(sys.stdin)
    results = [
        [_measured(embed, texts, batch, float(seconds)) for texts in groups] for batch in BATCHES
    ]
    print(json.dumps(results))


def _measured(
    embed: Embed, texts: Sequence[str], batch: int, seconds: float
) -> tuple[float, list[float]]:
    first = embed(texts, batch)
    calls = 0
    started = now = time.perf_counter()
    while now - started < seconds:
        embed(texts, batch)
        calls += 1
        now = time.perf_counter()
    return calls * len(texts) / (now - started), first[0].tolist()


if __name__ == "__main__":
    main(*sys.argv[1:])
