"""Which index should a segment have: what CPU time does a query cost with each kind at equal
recall, by number of rows and dimensions, by metric, on awkward data, and under masks?

Kinds are compared bare, rows in and ordinals out, all with exact rescoring of what they
propose. For each the cheapest settings that reach recall 0.99 and 0.999 are shown. These
numbers are behind the thresholds in `vicinal.ann` and `vicinal.segment`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks import data, measure, report
from benchmarks.measure import Floats, Rows, Wide
from benchmarks.report import Cell, Report, Table
from benchmarks.texts import SEED
from vicinal.ann import calibration, projection, quantizer
from vicinal.ann.base import AnnIndex, Selection
from vicinal.ann.binary import BinaryIndex
from vicinal.ann.exact import ExactIndex, norms
from vicinal.ann.quantizer import QuantizerParameters
from vicinal.model import Effort, Metric

K = 10
TARGETS = (0.99, 0.999)
_SHARES = (0.5, 0.1, 0.01, 0.001)
_CANDIDATES = (50, 100, 200, 400, 800, 1_600, 3_200)
_MARGINS = (0, 4, 8, 12, 16, 20, 25, 30, 40, 60)  # of 512 bits
_RANKED = 400
_TUNING_QUERIES = 100
_BUDGET_S = 20.0
_ONE_HOT = 768
_DISTINCT = 500
_NORMS_SIGMA = 0.3
_GRAPHED_ROWS, _GRAPHED_DIMENSIONS = 100_000, 768
_COLUMNS = (
    "data", "kind", "build CPU s", "bytes/vector",
    "for 0.99", "recall@10", "CPU ms", "for 0.999", "recall@10 ", "CPU ms ",
)  # fmt: skip

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Rows and queries under one metric, and the true distances, ``(q, k)``."""

    label: str
    values: Floats
    queries: Floats
    metric: Metric
    nearest: Wide


@dataclass(frozen=True, slots=True)
class Setting:
    """How far to search: `effort` is of the kind (nprobe, ef, bits), then candidates."""

    label: str
    effort: int
    candidates: int


class Kind(Protocol):
    """An index that has been built over a corpus."""

    label: str
    settings: Sequence[Setting]
    bytes_per_vector: float

    def propose(self, query: Floats, setting: Setting, allowed: Mask | None) -> Rows:
        """Return candidates; faiss raises RuntimeError where it can take no mask, graphs are
        not asked."""
        ...


class Exact:
    """A scan of all rows in float32."""

    label = "exact float32"
    settings: Sequence[Setting] = (Setting("-", 0, K),)

    def __init__(self, corpus: Corpus) -> None:
        self._index = _exact(corpus)
        self.bytes_per_vector = 4.0 * corpus.values.shape[1]

    def propose(self, query: Floats, setting: Setting, allowed: Mask | None) -> Rows:
        """See `Kind`."""
        return _search(self._index, query, _selection(self._index, allowed))


def _selection(index: AnnIndex, allowed: Mask | None) -> Selection:
    return Selection(index.row_count) if allowed is None else Selection.of_mask(allowed)


def _search(
    index: AnnIndex, query: Floats, selection: Selection, effort: Effort = Effort.STANDARD
) -> Rows:
    return index.prepare(query, K, selection, effort).run().rows


class Listed:
    """A scan of the allowed rows alone; only under masks."""

    label = "exact, allowed rows only"
    settings: Sequence[Setting] = (Setting("-", 0, K),)

    def __init__(self, corpus: Corpus) -> None:
        self._index = _exact(corpus)
        self.bytes_per_vector = 4.0 * corpus.values.shape[1]

    def propose(self, query: Floats, setting: Setting, allowed: Mask | None) -> Rows:
        """See `Kind`."""
        assert allowed is not None
        return _search(self._index, query, Selection.of_rows(np.flatnonzero(allowed)))


class Signs:
    """Binary codes of one length (`vicinal.ann.binary`), with ever larger margins."""

    def __init__(self, corpus: Corpus, bits: int) -> None:
        self.label = f"sign codes, {bits} bits"
        self._index = _exact(corpus)
        scale = 1.0
        if corpus.metric is Metric.DOT_PRODUCT:
            scale = float(norms(corpus.values).max())
        codes = quantizer.encode(corpus.values, corpus.metric, _parameters(bits, scale, 0))
        margins = [round(share * bits / 512) for share in _MARGINS]
        self.settings: Sequence[Setting] = [
            Setting(f"slack {margin}", margin, K) for margin in margins
        ]
        self._indexes = {
            margin: BinaryIndex(
                replace(codes, parameters=_parameters(bits, scale, margin)), self._index
            )
            for margin in margins
        }
        self.bytes_per_vector = bits / 8

    def propose(self, query: Floats, setting: Setting, allowed: Mask | None) -> Rows:
        """See `Kind`."""
        return _search(
            self._indexes[setting.effort], query, _selection(self._indexes[setting.effort], allowed)
        )


def _parameters(bits: int, scale: float, margin: int) -> QuantizerParameters:
    both = (margin, margin)
    return QuantizerParameters(bits, scale, (both, both, both), (_RANKED, _RANKED))


class AsBuilt:
    """Binary codes as `calibration.build` chooses them, or a scan where it makes none."""

    def __init__(self, corpus: Corpus) -> None:
        values = corpus.values
        codes = calibration.build(values, norms(values), corpus.metric)
        self._exact = _exact(corpus)
        self._binary: BinaryIndex | None = None
        self.settings: Sequence[Setting] = [Setting("-", 0, K)]
        self.label, self.bytes_per_vector = "as built: no codes, exact", 0.0
        if codes is not None:
            parameters = codes.parameters
            self.label = f"as built: {parameters.bits} bits"
            self.settings = [
                Setting(f"{effort}: slack {parameters.margins[number][0]}", number, K)
                for number, effort in enumerate(quantizer.EFFORTS)
            ]
            self._binary = BinaryIndex(codes, self._exact)
            self.bytes_per_vector = parameters.bits / 8

    def propose(self, query: Floats, setting: Setting, allowed: Mask | None) -> Rows:
        """See `Kind`."""
        if self._binary is None:
            return _search(self._exact, query, _selection(self._exact, allowed))
        effort = quantizer.EFFORTS[setting.effort]
        return _search(self._binary, query, _selection(self._binary, allowed), effort)


class SignGraph:
    """An HNSW graph over binary codes, by Hamming distance."""

    def __init__(self, corpus: Corpus, bits: int) -> None:
        self.label = f"HNSW32 over {bits} sign bits"
        self.settings: Sequence[Setting] = [
            Setting(f"ef {ef}", ef, ef) for ef in (50, 100, 150, 200, 300, 400, 800, 1_600)
        ]
        self._metric = corpus.metric
        scale = 1.0
        if corpus.metric is Metric.DOT_PRODUCT:
            scale = float(norms(corpus.values).max())
        codes, self._offset = projection.encode(corpus.values, corpus.metric, scale, bits)
        self._index: Any = faiss.IndexBinaryHNSW(bits, 32)
        self._index.hnsw.efConstruction = 100
        self._index.add(codes)
        self.bytes_per_vector = faiss.serialize_index_binary(self._index).nbytes / len(codes)

    def propose(self, query: Floats, setting: Setting, allowed: Mask | None) -> Rows:
        """See `Kind`."""
        assert allowed is None  # faiss searches a graph of codes only without a mask
        self._index.hnsw.efSearch = setting.effort
        code = projection.code_of_query(query, self._metric, self._offset)
        rows: Rows = self._index.search(code[None], setting.candidates)[1][0]
        return rows[rows >= 0]


class ByteGraph:
    """An HNSW graph over bytes, whose distances faiss computes in integers."""

    def __init__(self, corpus: Corpus) -> None:
        self.label = "HNSW24 over unsigned bytes"
        self.settings: Sequence[Setting] = [
            Setting(f"ef {ef}", ef, 2 * K) for ef in (32, 48, 64, 96, 128, 192, 256, 512)
        ]
        self._unit = corpus.metric is Metric.COSINE
        values = _unit(corpus.values) if self._unit else corpus.values
        self._scale = 127 / np.quantile(np.abs(values[:5_000]), 0.999)
        quantizer = faiss.ScalarQuantizer.QT_8bit_direct
        self._index: Any = faiss.IndexHNSWSQ(values.shape[1], quantizer, 24, faiss.METRIC_L2)
        self._index.hnsw.efConstruction = 100
        self._index.is_trained = True
        self._index.add(self._bytes(values))
        self.bytes_per_vector = faiss.serialize_index(self._index).nbytes / len(values)

    def _bytes(self, values: Floats) -> Floats:
        scaled: Floats = np.clip(np.rint(values * self._scale) + 128, 0, 255).astype(np.float32)
        return scaled

    def propose(self, query: Floats, setting: Setting, allowed: Mask | None) -> Rows:
        """See `Kind`."""
        assert allowed is None  # under a narrow one a graph finds next to nothing
        query = _unit(query[None])[0] if self._unit else query
        rows: Rows = self._index.search(
            self._bytes(query[None]), setting.candidates,
            params=faiss.SearchParametersHNSW(efSearch=setting.effort),
        )[1][0]  # fmt: skip
        return rows[rows >= 0]


class Faiss:
    """An index of faiss by the name that its factory knows.

    `knob` names the parameter that `Setting.effort` goes to, if there is one.
    """

    def __init__(
        self, corpus: Corpus, spec: str, settings: Sequence[Setting], knob: str | None = None
    ) -> None:
        self.label = f"faiss {spec}"
        self.settings = settings
        self._knob = knob
        self._unit = corpus.metric is Metric.COSINE
        metric = faiss.METRIC_INNER_PRODUCT
        if corpus.metric is Metric.EUCLIDEAN:
            metric = faiss.METRIC_L2
        values = _unit(corpus.values) if self._unit else corpus.values
        self._index: Any = faiss.index_factory(values.shape[1], spec, metric)
        if spec.startswith("HNSW"):
            self._index.hnsw.efConstruction = 100
        if spec.startswith("IVF"):
            self._index.cp.niter = 8
        self._index.train(values)
        self._index.add(values)
        self.bytes_per_vector = faiss.serialize_index(self._index).nbytes / len(values)

    def propose(self, query: Floats, setting: Setting, allowed: Mask | None) -> Rows:
        """See `Kind`."""
        parameters = self._parameters(setting)
        if allowed is not None:
            packed = np.packbits(allowed, bitorder="little")
            parameters = parameters or faiss.SearchParameters()
            parameters.sel = faiss.IDSelectorBitmap(len(allowed), faiss.swig_ptr(packed))
        rows: Rows = self._index.search(query[None], setting.candidates, params=parameters)[1][0]
        return rows[rows >= 0]

    def _parameters(self, setting: Setting) -> Any:
        if self._knob == "nprobe":
            return faiss.SearchParametersIVF(nprobe=setting.effort)
        if self._knob == "efSearch":
            return faiss.SearchParametersHNSW(efSearch=setting.effort)
        return None


def _kinds(corpus: Corpus, *, with_graphs: bool) -> Iterator[tuple[Kind, float]]:
    """Yield each kind, built, and the CPU seconds that took; graphs take minutes each."""
    lists = int(2 ** np.round(np.log2(1.6 * np.sqrt(len(corpus.values)))))
    probes = [probe_count for probe_count in (8, 16, 32, 64, 128, 256, 512) if probe_count <= lists]
    flat = [Setting(f"{count} candidates", 0, count) for count in _CANDIDATES]
    coarse = [
        Setting(f"nprobe {probe_count}, {candidates} candidates", probe_count, candidates)
        for probe_count in probes
        for candidates in (100, 400)
    ]
    graph = [Setting(f"ef {ef}", ef, K) for ef in (16, 32, 64, 128, 256, 512, 1_024)]
    makes: list[Callable[[], Kind]] = [
        partial(Exact, corpus),
        partial(AsBuilt, corpus),
        *(partial(Signs, corpus, bits) for bits in (256, 512, 1024, 2048)),
        partial(Faiss, corpus, "RaBitQfs", flat),
        partial(Faiss, corpus, f"IVF{lists},RaBitQfs", coarse, "nprobe"),
        partial(Faiss, corpus, "SQ8", flat[:2]),
    ]
    if with_graphs:
        makes += [
            partial(Faiss, corpus, "HNSW16", graph, "efSearch"),
            partial(SignGraph, corpus, 512),
            partial(SignGraph, corpus, 1024),
            partial(ByteGraph, corpus),
        ]
    for make in makes:
        start = time.process_time()
        kind = make()
        yield kind, time.process_time() - start


def run(*, is_quick: bool) -> Report:
    """Measure kinds by size, by metric and data, and under masks."""
    faiss.omp_set_num_threads(1)
    count = 50 if is_quick else 300
    rows: list[tuple[Cell, ...]] = []
    graphed = f"{_GRAPHED_ROWS:,} x {_GRAPHED_DIMENSIONS}"
    for corpus in _corpora(is_quick=is_quick):
        for kind, built in _kinds(corpus, with_graphs=is_quick or corpus.label == graphed):
            start: tuple[Cell, ...] = (corpus.label, kind.label, built, kind.bytes_per_vector)
            rows.append(start + _at_targets(kind, corpus, count))
    masked = _corpus("masks", *_real(768, 2_000 if is_quick else 100_000, is_quick=is_quick))
    return Report(
        "ann_kinds", report.question(__doc__), is_quick,
        report.setup(
            seed=str(SEED),
            data="projections of text embeddings and GloVe word vectors as benchmarks/data.py "
            "makes them; lognormal: the same with norms exp(0.3 N(0, 1)); duplicates: rows "
            f"drawn from {_DISTINCT} distinct ones; one-hot: a random one of {_ONE_HOT}",
            method=f"up to {count} held-out queries, top {K}, on one thread; settings by the "
            f"first {_TUNING_QUERIES}",
        ),
        (
            Table("unfiltered", _COLUMNS, tuple(rows)),
            Table("under random masks", _COLUMNS, tuple(_masked(masked, count))),
        ),
        notes=(
            "A target that no setting reaches has a dash.",
            f"Graphs, at {_GRAPHED_ROWS:,} x {_GRAPHED_DIMENSIONS} alone, take no mask.",
        ),
    )  # fmt: skip


def _corpora(*, is_quick: bool) -> Iterator[Corpus]:
    sizes = (2_000,) if is_quick else (20_000, 100_000)
    for size in sizes:
        glove = data.glove(size)
        yield _corpus(f"{size:,} x 50 GloVe", np.asarray(glove.values), glove.queries)
        for dimensions in (384, 768, 1536):
            yield _corpus(f"{size:,} x {dimensions}", *_real(dimensions, size, is_quick=is_quick))
    values, queries = _real(768, sizes[-1], is_quick=is_quick)
    random = np.random.RandomState(SEED)
    spread = np.exp(_NORMS_SIGMA * random.standard_normal((len(values), 1))).astype(np.float32)
    for metric in (Metric.DOT_PRODUCT, Metric.EUCLIDEAN):
        yield _corpus(f"{sizes[-1]:,} x 768 lognormal", values * spread, queries, metric)
    drawn = values[random.randint(0, _DISTINCT, len(values))]
    yield _corpus(f"{sizes[-1]:,} x 768 duplicates", drawn, queries)
    hot = np.zeros((sizes[0], _ONE_HOT), np.float32)
    hot[np.arange(len(hot)), random.randint(0, _ONE_HOT, len(hot))] = 1
    yield _corpus(f"{sizes[0]:,} x {_ONE_HOT} one-hot", hot, hot[: data.QUERIES].copy())


def _real(dimensions: int, size: int, *, is_quick: bool) -> tuple[Floats, Floats]:
    vectors = data.real(dimensions, size, is_quick=is_quick)
    return np.asarray(vectors.values), vectors.queries


def _corpus(label: str, values: Floats, queries: Floats, metric: Metric = Metric.COSINE) -> Corpus:
    named = label if metric is Metric.COSINE else f"{label}, {metric}"
    nearest = data.exact(values, queries, K, str(metric))
    return Corpus(named, np.ascontiguousarray(values), queries, metric, nearest)


def _at_targets(
    kind: Kind, corpus: Corpus, count: int, allowed: Mask | None = None
) -> tuple[Cell, ...]:
    """Return setting, recall and CPU of the first setting that reaches each target."""
    index = _exact(corpus)
    cells: list[Cell] = []
    number = 0
    for target in TARGETS:
        best: tuple[Cell, Cell, Cell] = (None, None, None)
        while number < len(kind.settings):
            setting = kind.settings[number]
            if _run(kind, setting, index, corpus, _TUNING_QUERIES, allowed)[0] >= target:
                reached, cpu_ms = _run(kind, setting, index, corpus, count, allowed)
                best = (setting.label, reached, cpu_ms)
                break
            number += 1
        cells += best
    return tuple(cells)


def _run(
    kind: Kind, setting: Setting, index: ExactIndex, corpus: Corpus, count: int,
    allowed: Mask | None,
) -> tuple[float, float]:  # fmt: skip
    """Return recall and CPU milliseconds per query, rescoring included."""

    def search(query: Floats) -> Rows:
        return _search(index, query, Selection.of_rows(kind.propose(query, setting, allowed)))

    queries = corpus.queries[:count]
    timing, results = measure.run([partial(search, query) for query in queries], budget_s=_BUDGET_S)
    reached = measure.recall(
        [rows.tolist() for rows in results], corpus.values, queries, corpus.nearest,
        str(corpus.metric),
    )  # fmt: skip
    return reached, timing.cpu_ms


def _masked(corpus: Corpus, count: int) -> Iterator[tuple[Cell, ...]]:
    """Yield rows for each share of allowed rows."""
    random = np.random.RandomState(SEED)
    kinds = [*_kinds(corpus, with_graphs=False), (Listed(corpus), 0.0)]
    for share in _SHARES:
        allowed = random.random_sample(len(corpus.values)) < share
        where = data.Where(
            "allowed", allowed.astype(np.int64), np.ones(len(corpus.queries), np.int64)
        )
        nearest = data.exact(corpus.values, corpus.queries, K, str(corpus.metric), where)
        masked = Corpus("", corpus.values, corpus.queries, corpus.metric, nearest)
        for kind, built in kinds:
            try:
                cells = _at_targets(kind, masked, count, allowed)
            except RuntimeError:  # of faiss
                cells = ("takes no mask", None, None, None, None, None)
            size = f"{len(corpus.values):,} x {corpus.values.shape[1]}"
            yield (f"{share:.1%} of {size}", kind.label, built, kind.bytes_per_vector, *cells)


def _exact(corpus: Corpus) -> ExactIndex:
    return ExactIndex(corpus.values, norms(corpus.values), corpus.metric)


def _unit(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Floats = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return scaled
