"""The loops for every kind of processor, as far as this one has them, give the same distances."""

import ctypes

import numpy as np
import pytest

KINDS = ("plain", "popcnt", "shuffle", "vpopcnt")
COUNT = 100
SEED = 11

CALLED = """
#include "kernels.h"

#define RUN(KIND)                                                                     \\
    hammings_##KIND(codes, count, code, lines, distances);                            \\
    listed_hammings_##KIND(codes, rows, count, code, lines, listed);                  \\
    return find_near_codes_##KIND(codes, count, code, lines, limit, near);

int64_t run(int64_t kind, const uint8_t *codes, int64_t count, const uint8_t *code, int64_t lines,
            int64_t limit, const uint32_t *rows, int32_t *distances, uint16_t *listed,
            NearCode *near) {
    if (kind == 0) { RUN(plain) }
#if defined(__x86_64__)
    if (kind == 1 && HAS("popcnt")) { RUN(popcnt) }
    if (kind == 2 && HAS("avx2") && HAS("popcnt")) { RUN(shuffle) }
    if (kind == 3 && HAS("avx512vpopcntdq")) { RUN(vpopcnt) }
#endif
    return -1;
}
"""


@pytest.mark.parametrize("lines", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_codes_differ_by_as_many_bits_for_every_kind(
    kind: str, lines: int, called: ctypes.CDLL
) -> None:
    random = np.random.default_rng(SEED)
    codes = random.integers(0, 256, (COUNT, 64 * lines), np.uint8)
    codes[0], codes[1], code = 0, 255, codes[2].copy()
    codes[3] = ~code  # differs in all bits, which a sum of bytes has to hold
    rows = random.permutation(COUNT).astype(np.uint32)
    expected = np.bitwise_count(codes ^ code).sum(axis=1, dtype=np.int64)
    limit = int(np.median(expected))
    distances = np.empty(COUNT, np.int32)
    listed = np.empty(COUNT, np.uint16)
    near = np.empty((COUNT + 1, 2), np.uint16)
    address = ctypes.c_void_p

    found = called.run(
        ctypes.c_int64(KINDS.index(kind)), address(codes.ctypes.data), ctypes.c_int64(COUNT),
        address(code.ctypes.data), ctypes.c_int64(lines), ctypes.c_int64(limit),
        address(rows.ctypes.data), address(distances.ctypes.data), address(listed.ctypes.data),
        address(near.ctypes.data),
    )  # fmt: skip

    if found < 0:
        pytest.skip(f"THIS PROCESSOR DOES NOT HAVE {kind}")
    assert distances.tolist() == expected.tolist()
    assert listed.tolist() == expected[rows].tolist()
    positions = np.flatnonzero(expected <= limit)
    assert near[:found].tolist() == np.column_stack([positions, expected[positions]]).tolist()
