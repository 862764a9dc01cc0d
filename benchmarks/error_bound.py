"""What would a guaranteed answer by codes cost: how many rows does RaBitQ's error bound leave to be
read, if every row is read that it cannot exclude, and how does that compare with reading all?

A row's code is the signs of its rotated residual, and gives an estimate of a product with a bound
on its error (Gao and Long, RaBitQ, 2024): so many standard deviations, 1.9 in the paper. Rows are
counted as if the true distance of the k-th neighbour were known from the start, which is the least
that any order of reading comes to; comparing the codes is not in the times. A bound that should
hold for each of so many rows takes about five standard deviations.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np

from benchmarks import data, report
from benchmarks.measure import Floats, Rows, Wide
from benchmarks.report import Cell, Report, Table
from benchmarks.texts import SEED
from vicinal.ann.base import Selection
from vicinal.ann.exact import ExactIndex, norms
from vicinal.model import Metric

K = 10
_BITS = (768, 2_048)
_DEVIATIONS = (1.9, 3.0, 4.0, 5.0)
_TIMED_QUERIES = 50
_ROUNDING = 1e-6
_COLUMNS = (
    "bits", "standard deviations", "rows to read, median", "90th percentile", "of all",
    "neighbours outside the bound", "CPU ms to read the median", "CPU ms to read all",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Codes:
    """Codes of unit vectors and what their estimates need.

    Attributes:
        signs: ``(n, bits)``, each ``±1 / sqrt(bits)``.
        lengths: ``(n,)``: of the residuals.
        aligned: ``(n,)``: products of each code with its own rotated residual of length one.
    """

    signs: Floats
    lengths: Floats
    aligned: Floats


def run(*, is_quick: bool) -> Report:
    """Count the rows that the bound leaves, for each length of code and deviation."""
    faiss.omp_set_num_threads(1)
    vectors = data.real(768, 2_000 if is_quick else 100_000, is_quick=is_quick)
    values = _unit(np.asarray(vectors.values))
    queries = _unit(vectors.queries[: 30 if is_quick else 300])
    kth = data.exact(values, queries, K, "cosine")[:, K - 1] + _ROUNDING
    near = [
        np.flatnonzero(1 - values @ query <= far) for query, far in zip(queries, kth, strict=True)
    ]
    exact = ExactIndex(values, norms(values), Metric.COSINE)
    scan_ms = _scan_ms(exact, queries)
    rows = [(*row, scan_ms) for bits in _BITS for row in _rows(exact, queries, bits, kth, near)]
    return Report(
        "error_bound", report.question(__doc__), is_quick,
        report.setup(
            data=vectors.description, seed=str(SEED),
            method=f"{len(queries)} held-out queries, top {K}, cosine, one thread",
        ),
        (Table(f"{len(values):,} x {values.shape[1]}", _COLUMNS, tuple(rows)),),
    )  # fmt: skip


def _rows(
    exact: ExactIndex, queries: Floats, bits: int, kth: Wide, near: Sequence[Rows]
) -> list[tuple[Cell, ...]]:
    values = exact.values
    mean = values.mean(axis=0)
    rotation = _rotation(values.shape[1], bits)
    codes = _coded(values - mean, rotation)
    # Of unit vectors half the squared distance of residuals is the distance under cosine.
    residuals = queries - mean
    lengths = np.linalg.norm(residuals, axis=1)
    turned = (residuals / lengths[:, None]) @ rotation.T
    spread = np.sqrt(np.maximum(1 / codes.aligned**2 - 1, 0) / (bits - 1))
    rows: list[tuple[Cell, ...]] = []
    for deviations in _DEVIATIONS:
        counts, missed = [], 0
        sample: Rows = np.empty(0, np.int64)
        for code, length, far, wanted in zip(turned, lengths, kth, near, strict=True):
            highest = codes.signs @ code / codes.aligned + deviations * spread
            squared = codes.lengths**2 + length**2 - 2 * codes.lengths * length * highest
            left = np.flatnonzero(squared / 2 <= far)
            missed += len(np.setdiff1d(wanted, left))
            counts.append(len(left))
            if len(counts) <= _TIMED_QUERIES and len(left) >= np.median(counts):
                sample = left
        median = float(np.median(counts))
        rows.append((
            bits, deviations, round(median), round(float(np.percentile(counts, 90))),
            median / len(values), missed, _read_ms(exact, queries, sample[: round(median)]),
        ))  # fmt: skip
    return rows


def _coded(residuals: Floats, rotation: Floats) -> _Codes:
    lengths = np.maximum(np.linalg.norm(residuals, axis=1), 1e-12)
    bits = len(rotation)
    signs = np.empty((len(residuals), bits), np.float32)
    aligned = np.empty(len(residuals), np.float32)
    for start in range(0, len(residuals), 10_000):
        end = min(start + 10_000, len(residuals))
        turned = (residuals[start:end] / lengths[start:end, None]) @ rotation.T
        signs[start:end] = np.where(turned > 0, 1, -1) / np.sqrt(bits)
        aligned[start:end] = (signs[start:end] * turned).sum(axis=1)
    return _Codes(signs, lengths, aligned)


def _rotation(dimensions: int, bits: int) -> Floats:
    """Return ``(bits, d)`` with orthonormal columns: it turns vectors filled up with zeros."""
    random = np.random.RandomState(SEED)
    return np.linalg.qr(random.normal(size=(bits, dimensions)))[0].astype(np.float32)


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.ascontiguousarray(unit, np.float32)


def _scan_ms(exact: ExactIndex, queries: Floats) -> float:
    start = time.thread_time()
    for query in queries[:_TIMED_QUERIES]:
        exact.find_candidates(query, K, Selection(exact.row_count))
    return (time.thread_time() - start) / len(queries[:_TIMED_QUERIES]) * 1e3


def _read_ms(exact: ExactIndex, queries: Floats, rows: Rows) -> float:
    start = time.thread_time()
    for query in queries[:_TIMED_QUERIES]:
        exact.find_candidates(query, K, Selection.of_rows(rows))
    return (time.thread_time() - start) / len(queries[:_TIMED_QUERIES]) * 1e3
