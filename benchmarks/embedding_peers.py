"""How many texts are embedded a second at 16, 64 and 256 tokens, beside fastembed and
sentence-transformers' ONNX backend on the same model and threads, and what does its int8 form give?

Texts are those of `embedding_rate`: runs of common English words, 64 a call. The libraries get the
weights of the packaged MiniLM as an ONNX file with the graph that Vicinal runs, which is faster
than an exported one, and each is run with several batch sizes, of which its best counts. All take
turns on the same cores, a number of rounds; the median of each batch size counts. int8 is made of
the same weights, a quarter of their size; its vectors are compared with those of float32 over real
texts.
"""

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from benchmarks import report, texts
from benchmarks.contender import Contender, Failed, python_of
from benchmarks.embedding_rate import LENGTHS, SEED, TEXTS, texts_of
from benchmarks.measure import Floats
from benchmarks.peers.embedding import BATCHES
from benchmarks.report import ROOT, Cell, Report, Table
from vicinal.embeddings import bert, encoder, models
from vicinal.embeddings.base import Embedder
from vicinal.embeddings.build import build_embedder
from vicinal.embeddings.pull import pull
from vicinal.embeddings.safetensors import read_tensors

FLOAT32 = "@hf/sentence-transformers/all-minilm-l6-v2"
INT8 = "@hf/sentence-transformers/all-minilm-l6-v2-int8"
PEERS = (
    Contender("fastembed", "fastembed", ("fastembed==0.9.1", "numpy>=2,<3")),
    Contender(
        "sentence-transformers", "sentence_transformers",
        ("sentence-transformers[onnx]==5.7.0", "torch==2.13.0", "numpy>=2,<3"),
    ),
)  # fmt: skip
LEVEL = 0.97  # of the best peer's rate: as near as two runs of one program are
_ROUNDS = 5
_COLUMNS = ("tokens", "contender", "texts/s", "of the best peer", "cosine to float32")
_COSINES = ("texts", "least", "1st percentile", "median", "nearest of 10 kept")
_LAST_WORDS = 2_000
_TOKENIZER_FILES = ("config.json", "tokenizer.json")

Rates = dict[tuple[str, int, int], list[float]]
"""By contender, number of tokens and batch size, 0 where none is asked for, each round's rate."""


def run(*, is_quick: bool) -> Report:
    """Run all in turn, and compare int8 with float32."""
    seconds, rounds = (0.2, 1) if is_quick else (3.0, _ROUNDS)
    cores = len(os.sched_getaffinity(0))
    folders = {
        name: pull(models.known(name), models.models_folder(), lambda _done, _total: None).folder
        for name in (FLOAT32, INT8)
    }
    embedder = build_embedder(threads=cores)
    groups = [texts_of(tokens) for tokens in LENGTHS]
    ours = {name: embedder.embed(name, [group[0] for group in groups]).values for name in folders}
    rates: Rates = {}
    cosines: dict[str, float] = {"vicinal": 1.0}
    notes: list[str] = []
    peers = list(PEERS)
    with tempfile.TemporaryDirectory() as folder:
        export(folders[FLOAT32], Path(folder))
        for _ in range(rounds):
            for label, name in (("vicinal", FLOAT32), ("vicinal int8", INT8)):
                for tokens, group in zip(LENGTHS, groups, strict=True):
                    rate = _rate(partial(embedder.embed, name, group), seconds)
                    rates.setdefault((label, tokens, 0), []).append(rate)
            for peer in list(peers):
                try:
                    measured, first = _peer(peer, Path(folder), cores, seconds, groups)
                except Failed as error:
                    peers.remove(peer)
                    notes.append(f"{peer.name} failed and is missing: {error}")
                    continue
                cosines[peer.name] = _least_cosine(first, ours[FLOAT32])
                for (tokens, batch), rate in measured.items():
                    rates.setdefault((peer.name, tokens, batch), []).append(rate)
    cosines["vicinal int8"] = _least_cosine(ours[INT8], ours[FLOAT32])
    median = _best_medians(rates)
    count = 200 if is_quick else 5_000
    report_ = Report(
        "embedding_peers", report.question(__doc__), is_quick,
        report.setup(
            model=FLOAT32, onnxruntime=onnxruntime.__version__, seed=str(SEED), threads=str(cores),
            method=f"{TEXTS} texts a call, {seconds:g} s a number, {rounds} rounds in turn, the "
            "first call not timed; tokenizing included",
        ),
        (
            Table("texts a second", _COLUMNS, tuple(_rows(median, cosines))),
            Table(f"{INT8} beside float32, cosines", _COSINES, (_compared(embedder, count),)),
        ),
        tuple(_marks(median)), tuple(notes),
    )  # fmt: skip
    embedder.close()
    return report_


def export(folder: Path, to: Path) -> None:
    """Write a model as an ONNX file with its weights in it, and the files that libraries need."""
    weights = folder / "model.safetensors"
    config = encoder.read_json(folder / "config.json", bert.BertConfig)
    serialized = bert.graph(config, weights, read_tensors(weights), location=weights.name)
    model = onnx.load_from_string(serialized)
    onnx.external_data_helper.load_external_data_for_model(model, str(folder))
    for initializer in model.graph.initializer:
        initializer.data_location = onnx.TensorProto.DEFAULT
    (to / "onnx").mkdir()
    onnx.save(model, to / "onnx" / "model.onnx")
    for name in _TOKENIZER_FILES:
        shutil.copy(folder / name, to / name)
    settings = {"model_max_length": 256, "pad_token": "[PAD]", "tokenizer_class": "BertTokenizer"}
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]",
               "sep_token": "[SEP]", "mask_token": "[MASK]"}  # fmt: skip
    (to / "tokenizer_config.json").write_text(json.dumps(settings | special))
    (to / "special_tokens_map.json").write_text(json.dumps(special))


def _rate(embed: Callable[[], object], seconds: float) -> float:
    embed()
    calls = 0
    started = now = time.perf_counter()
    while now - started < seconds:
        embed()
        calls += 1
        now = time.perf_counter()
    return calls * TEXTS / (now - started)


def _peer(
    peer: Contender, folder: Path, threads: int, seconds: float, groups: Sequence[Sequence[str]]
) -> tuple[dict[tuple[int, int], float], Floats]:
    """Run a library; return its rates by number of tokens and batch size, and each first vector.

    Raises:
        Failed: it could not be installed, or failed.
    """
    ran = subprocess.run(
        [python_of(peer), "-P", "-m", "benchmarks.peers.embedding", peer.name, str(folder),
         str(threads), str(seconds)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}, cwd=folder,
        input=json.dumps([list(group) for group in groups]), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if ran.returncode:
        raise Failed(f"{peer.name}: {ran.stderr.strip()[-_LAST_WORDS:]}")
    results = json.loads(ran.stdout.splitlines()[-1])
    rates = {
        (tokens, batch): rate
        for batch, by_tokens in zip(BATCHES, results, strict=True)
        for tokens, (rate, _) in zip(LENGTHS, by_tokens, strict=True)
    }
    return rates, np.array([vector for _, vector in results[0]], np.float32)


def _best_medians(rates: Rates) -> dict[tuple[str, int], float]:
    """Return by contender and number of tokens the median rate of its best batch size."""
    best: dict[tuple[str, int], float] = {}
    for (name, tokens, _), each in rates.items():
        best[name, tokens] = max(best.get((name, tokens), 0.0), statistics.median(each))
    return best


def _rows(
    rates: Mapping[tuple[str, int], float], cosines: Mapping[str, float]
) -> Sequence[tuple[Cell, ...]]:
    names = list(dict.fromkeys(name for name, _ in rates))
    rows: list[tuple[Cell, ...]] = []
    for tokens in LENGTHS:
        best = _best_peer(rates, tokens)
        for name in names:
            rate = rates[name, tokens]
            rows.append((tokens, name, rate, rate / best if best else None, cosines[name]))
    return rows


def _best_peer(rates: Mapping[tuple[str, int], float], tokens: int) -> float | None:
    names = {peer.name for peer in PEERS}
    of_peers = [rate for (name, size), rate in rates.items() if name in names and size == tokens]
    return max(of_peers, default=None)


def _marks(rates: Mapping[tuple[str, int], float]) -> Sequence[report.Mark]:
    marks = []
    for tokens in LENGTHS:
        best = _best_peer(rates, tokens)
        measured = rates["vicinal", tokens] / best if best else None
        marks.append(
            report.at_least(f"texts/s of {tokens} tokens, of the best peer", measured, LEVEL)
        )
    return marks


def _compared(embedder: Embedder, count: int) -> tuple[Cell, ...]:
    """Compare int8 with float32 over real texts: cosines, and how many nearest texts it keeps."""
    chosen = [text.text for text in texts.corpus(count).texts]
    exact, coarse = (_embedded(embedder, name, chosen) for name in (FLOAT32, INT8))
    cosines = (exact * coarse).sum(axis=1)
    queries = slice(0, min(200, len(chosen) // 2))
    kept = [
        len(set(near) & set(nearly)) / 10
        for near, nearly in zip(_ten(exact, queries), _ten(coarse, queries), strict=True)
    ]
    return (
        len(chosen), float(cosines.min()), float(np.percentile(cosines, 1)),
        float(np.median(cosines)), float(np.mean(kept)),
    )  # fmt: skip


def _embedded(embedder: Embedder, name: str, chosen: Sequence[str]) -> Floats:
    parts = [
        embedder.embed(name, chosen[start : start + 500]).values
        for start in range(0, len(chosen), 500)
    ]
    return np.concatenate(parts)


def _ten(rows: Floats, queries: slice) -> list[list[int]]:
    """Return the ten nearest of some rows, themselves left out."""
    scores = rows[queries] @ rows.T
    np.fill_diagonal(scores, -2)
    nearest: list[list[int]] = np.argsort(-scores, axis=1)[:, :10].tolist()
    return nearest


def _least_cosine(rows: Floats, others: Floats) -> float:
    return float((rows * others).sum(axis=1).min())
