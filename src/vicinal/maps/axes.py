"""The principal axes of vectors: the two directions in which they differ most (PCA).

A map along them keeps distances as far as two numbers can, is the same at each call, and costs one
product of matrices. The axes are found by subspace iteration from a fixed start: a few directions
are multiplied by the covariance again and again, which turns them towards the greatest ones. For a
picture that is near enough after a dozen turns, and it never builds the covariance itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vicinal import interruption
from vicinal.model import Floats, Metric

_DIRECTIONS = 8  # that are turned at one time; more than two, so that the first two settle soon
_TURNS = 12


@dataclass(frozen=True, slots=True)
class Axes:
    """Where a map is seen from.

    Attributes:
        scale: Values are divided by it, so that nothing is beyond float32.
        mean: ``(d,)``, of the scaled values.
        directions: ``(d, 2)``, of length 1, or 0 where the vectors do not differ.
        explained: Share of the variance along each of the two, from 0 to 1.
    """

    scale: float
    mean: Floats
    directions: Floats
    explained: tuple[float, float]

    def project(self, rows: Floats) -> Floats:
        """Return ``(n, 2)`` finite positions of rows, which are as `comparable` returns them."""
        with np.errstate(over="ignore", invalid="ignore"):
            positions = (rows / np.float32(self.scale) - self.mean) @ self.directions
        finite: Floats = np.nan_to_num(positions, nan=0.0, posinf=1e30, neginf=-1e30)
        return finite


def comparable(rows: Floats, metric: Metric) -> Floats:
    """Return rows whose Euclidean distances mean what the metric's do: of length 1 for cosine."""
    if metric is not Metric.COSINE:
        return rows
    greatest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    scaled = rows / np.where(greatest > 0.0, greatest, np.float32(1.0))
    lengths = np.sqrt(np.square(scaled).sum(axis=1, keepdims=True))
    unit: Floats = (scaled / np.maximum(lengths, np.float32(1e-30))).astype(np.float32)
    return unit


def fit(rows: Floats) -> Axes:
    """Return the axes of rows, ``(n, d)``, as `comparable` returns them."""
    dimensions = rows.shape[1]
    scale = float(np.abs(rows).max(initial=0.0)) or 1.0
    scaled = rows / np.float32(scale)
    mean = scaled.mean(axis=0, dtype=np.float64) if len(rows) else np.zeros(dimensions)
    centered = scaled - mean.astype(np.float32)
    variance = float(np.square(centered, dtype=np.float64).sum())
    directions, strengths = _greatest(centered)
    explained = np.square(strengths) / variance if variance > 0.0 else np.zeros(2)
    return Axes(
        scale,
        mean.astype(np.float32),
        directions,
        (float(min(explained[0], 1.0)), float(min(explained[1], 1.0))),
    )


def _greatest(centered: Floats) -> tuple[Floats, NDArray[np.float64]]:
    """Return the two directions ``(d, 2)`` of the greatest variance, and its square roots."""
    dimensions = centered.shape[1]
    count = min(_DIRECTIONS, dimensions)
    random = np.random.default_rng(0)
    basis, _ = np.linalg.qr(random.standard_normal((dimensions, count)).astype(np.float32))
    for _ in interruption.parts(range(_TURNS)):
        basis, _ = np.linalg.qr(centered.T @ (centered @ basis))
    _, strengths, turned = np.linalg.svd(centered @ basis, full_matrices=False)
    directions = np.zeros((dimensions, 2), np.float32)
    known = min(2, len(strengths))
    directions[:, :known] = basis @ turned[:known].T
    # The sign of a direction is arbitrary: the greatest part of it is positive.
    greatest = np.abs(directions).argmax(axis=0)
    directions *= np.where(directions[greatest, range(2)] < 0.0, -1.0, 1.0).astype(np.float32)
    both = np.zeros(2)
    both[:known] = strengths[:known]
    return directions, both
