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


def grown(rows: int, base: int, queries: int, seed: int = 5) -> tuple[Floats, Floats]:
    """Return rows of which all but `base` lie between near ones of these, and held-out queries of
    the kind that the base is: farther from every row than rows are."""
    random = np.random.default_rng(seed)
    values, held_out = grouped(base, queries)
    squares = np.square(values).sum(axis=1)
    near = np.argpartition(squares - 2 * values @ values.T, 9, axis=1)[:, :9]
    new = rows - base
    of = random.integers(0, base, new)
    one, other = (values[near[of, random.integers(0, 9, new)]] for _ in range(2))
    a, b = (0.5 * random.random((new, 1), np.float32) for _ in range(2))
    between = values[of] + a * (one - values[of]) + b * (other - values[of])
    return np.concatenate([values, between]), held_out
