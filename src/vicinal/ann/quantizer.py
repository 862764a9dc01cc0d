"""Binary quantization of a block of rows: one bit per projection, and the parameters of a search.

Searching by codes rescores rows whose codes are near; how many it takes depends on the data.
`calibration` measures that on a segment's rows, and `QuantizerParameters` keep it for three
efforts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import log
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vicinal.ann import projection
from vicinal.ann.hamming import Bits, Hammings
from vicinal.model import Effort, Floats, Metric

ROWS_MIN = 4_000
"""Below this many rows exact search is as fast (benchmarks/ann_kinds.py)."""

RESCORED_MAX = 6_400
"""More rows than this, or than an eighth of all, are not rescored by their codes alone."""

DEPTHS = (10, 100)
"""The k for which margins are measured; in between they are interpolated."""

EFFORTS = (Effort.LOW, Effort.STANDARD, Effort.HIGH)

PerEffort = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Numbers for each of `EFFORTS` at each of `DEPTHS`."""

_DEPTHS_KEPT = 256  # most clients ask for the same few k
_RESCORED_MIN = 40
_RESCORED_TIMES_K = 2
_OUTLIERS = 11


@dataclass(frozen=True, slots=True)
class QuantizerParameters:
    """Parameters that were enough for some rows, and are used for others like them.

    Attributes:
        bits: Length of a code.
        scale: The s of the dot-product's lift, 1 otherwise.
        margins: Bits beyond the radius, for each of `EFFORTS` at each of `DEPTHS`.
        rescored: Rows that most searches rescore at standard effort, at each of `DEPTHS`.
    """

    bits: int
    scale: float
    margins: PerEffort
    rescored: tuple[int, int]

    def margin_for(self, k: int, effort: Effort) -> int:
        """Return the margin for the k nearest, in bits: linear in the logarithm of k."""
        near, far = self.margins[EFFORTS.index(effort)]
        return near + round(_depth(k) * (far - near))

    def rescored_for(self, k: int) -> int:
        """Return the number of rows that a search for the k nearest is likely to rescore."""
        return max(rescored_min(k), at_depth(*self.rescored, k))


def at_depth(near: int, far: int, k: float) -> int:
    """Return the count for the k nearest, of those at the two `DEPTHS`: linear in logarithms."""
    count: float = near * (far / near) ** _depth(k)
    return round(count)


@lru_cache(_DEPTHS_KEPT)
def _depth(k: float) -> float:
    """Return where k lies between the `DEPTHS`, from 0 to 1 on a logarithmic scale."""
    return min(max(log(k / DEPTHS[0]) / log(DEPTHS[1] / DEPTHS[0]), 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class BinaryCodes:
    """The codes of a block of rows.

    `codes` is ``(n, bits / 8)`` uint8, `offset` the projected mean ``(bits,)`` float32.
    """

    codes: Bits
    offset: Floats
    parameters: QuantizerParameters

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to store; `of` takes them back."""
        return {
            "codes": self.codes,
            "offset": self.offset,
            "scale": np.array([self.parameters.scale], np.float64),
            "slack": np.array(self.parameters.margins, np.int64),
            "scored": np.array(self.parameters.rescored, np.int64),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the codes of stored arrays.

        Raises:
            ValueError: the arrays contradict each other.
        """
        codes, offset = arrays["codes"], arrays["offset"]
        if 8 * codes.shape[1] != len(offset):
            raise ValueError("the codes are not of as many bits as their offset")
        low, standard, high = ((near, far) for near, far in arrays["slack"].tolist())
        near, far = arrays["scored"].tolist()
        if near < 1 or far < 0:
            raise ValueError("the codes say that searches rescore no rows")
        scale = float(arrays["scale"][0])
        parameters = QuantizerParameters(len(offset), scale, (low, standard, high), (near, far))
        return cls(codes, offset, parameters)


def encode(values: Floats, metric: Metric, parameters: QuantizerParameters) -> BinaryCodes:
    """Return the codes of rows like those that the parameters were measured on."""
    codes, offset = projection.encode(values, metric, parameters.scale, parameters.bits)
    return BinaryCodes(codes, offset, parameters)


def rescored_min(k: int) -> int:
    """Return the number of rows that every search for the k nearest rescores."""
    return max(_RESCORED_MIN, _RESCORED_TIMES_K * k)


def radius(hammings: Hammings) -> int:
    """Return the Hamming distance of the farthest of the nearest rows, outliers left out."""
    outliers = len(hammings) // _OUTLIERS
    if not outliers:
        return int(hammings.max())
    return int(np.partition(hammings, -outliers - 1)[-outliers - 1])
