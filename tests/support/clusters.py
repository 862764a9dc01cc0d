"""Vectors that lie as embeddings do: in clusters within clusters."""

import numpy as np

from vicinal.model import Floats


def clustered(rows: int, dimensions: int, seed: int = 7) -> Floats:
    """Return rows in clusters within clusters, of unequal length."""
    random = np.random.default_rng(seed)
    values = np.zeros((rows, dimensions))
    for count, scale in ((8, 1.0), (200, 0.7), (rows, 0.5)):
        centres = random.normal(scale=scale, size=(count, dimensions))
        values += centres[random.integers(0, count, rows)] if count < rows else centres
    values *= random.lognormal(sigma=0.1, size=(rows, 1))
    return values.astype(np.float32)


def grouped(rows: int, queries: int, seed: int = 20_240_521) -> tuple[Floats, Floats]:
    """Return rows and held-out queries of 96 dimensions that lie as texts do: on a bent
    surface, in groups."""
    random = np.random.default_rng(seed)
    surface = random.standard_normal((24, 96))
    centres = random.standard_normal((rows // 60, 24))
    points = centres[random.integers(0, len(centres), rows + queries)]
    points = points + 0.6 * random.standard_normal(points.shape)
    bent = np.tanh(points @ surface / np.sqrt(24)) + 0.05 * random.standard_normal(
        (len(points), 96)
    )
    everything = bent.astype(np.float32)
    return everything[:rows], everything[rows:]
