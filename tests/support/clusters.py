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
