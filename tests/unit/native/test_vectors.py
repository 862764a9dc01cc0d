"""The loops over numbers compute the same for every kind of processor, as far as this is one."""

import ctypes

import numpy as np
import pytest
from numpy.typing import NDArray

KINDS = ("plain", "avx2", "avx512")
SEED = 12

CALLED = """
#include "vectors.h"

#define RUN(KIND)                                                                                \\
    matrix_product_##KIND(rows, count, others, other_count, dimensions, products);               \\
    row_products_##KIND(rows, dimensions, others, 0, count, 0, dots);                            \\
    row_products_##KIND(rows, dimensions, others, listed, count, 1, distances);                  \\
    hadamard_##KIND(numbers, flips, scale, length);                                              \\
    return 0;

int64_t run(int64_t kind, const float *rows, int64_t count, const float *others,
            int64_t other_count, int64_t dimensions, const uint32_t *listed, float *products,
            float *dots, float *distances, float *numbers, const float *flips, float scale,
            int64_t length) {
    if (kind == 0) { RUN(plain) }
#if defined(__x86_64__)
    if (kind == 1 && HAS("avx2") && HAS("fma")) { RUN(avx2) }
    if (kind == 2 && HAS("avx512f")) { RUN(avx512) }
#endif
    return -1;
}
"""


def hadamard(length: int) -> NDArray[np.float64]:
    """Return the matrix of Sylvester's construction."""
    matrix = np.ones((1, 1))
    while len(matrix) < length:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


@pytest.mark.parametrize("dimensions", [1, 3, 16, 17, 63, 64, 100, 384, 1536])
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_multiplied_and_added_up_for_every_kind(
    kind: str, dimensions: int, called: ctypes.CDLL
) -> None:
    """Tiles have 2 rows and 4 others: some of both are left over."""
    random = np.random.default_rng(SEED)
    rows = random.normal(size=(35, dimensions)).astype(np.float32)
    others = random.normal(size=(7, dimensions)).astype(np.float32)
    listed = random.permutation(len(rows)).astype(np.uint32)
    products = np.empty((len(rows), len(others)), np.float32)
    dots, distances = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    length = 1 << (dimensions - 1).bit_length()
    numbers = random.normal(size=length).astype(np.float32)
    flips = random.choice(np.array([-1, 1], np.float32), length)
    transformed = numbers.copy()
    integer, address = ctypes.c_int64, ctypes.c_void_p

    done = called.run(
        integer(KINDS.index(kind)), address(rows.ctypes.data), integer(len(rows)),
        address(others.ctypes.data), integer(len(others)), integer(dimensions),
        address(listed.ctypes.data), address(products.ctypes.data), address(dots.ctypes.data),
        address(distances.ctypes.data), address(transformed.ctypes.data),
        address(flips.ctypes.data), ctypes.c_float(0.5), integer(length),
    )  # fmt: skip

    if done < 0:
        pytest.skip(f"THIS PROCESSOR DOES NOT HAVE {kind}")
    exact, query = rows.astype(np.float64), others[0].astype(np.float64)
    rounded = 1e-6 * dimensions
    np.testing.assert_allclose(products, exact @ others.T, atol=rounded)
    np.testing.assert_allclose(dots, exact @ query, atol=rounded)
    squares = np.square(exact - query).sum(axis=1)
    np.testing.assert_allclose(distances, squares[listed], atol=rounded, rtol=1e-5)
    expected = hadamard(length) @ (numbers.astype(np.float64) * flips * 0.5)
    np.testing.assert_allclose(transformed, expected, atol=rounded)
