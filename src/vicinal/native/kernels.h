/* The loops over codes in which `binary.c` and `graph.c` spend their time, once for each kind of
   processor; those over numbers are in `vectors.h`.

   A macro makes one function for each target, and a function calls the one for the processor that
   it runs on. Nothing here knows of metrics or searches.
*/

#ifndef VICINAL_KERNELS_H
#define VICINAL_KERNELS_H

#include <string.h>

#include "structures.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#pragma GCC diagnostic ignored                                                                     \
    "-Wunused-function" /* of loops that one file needs and not another */

#define INLINE static inline __attribute__((always_inline))

/* Have memory bring a cache line that is read soon. To the second cache, as more lines are on their
   way to it at one time than to the first: 20,000 of a large file take half as long
   (docs/history/ann-kinds.md). */
INLINE void fetch_line(const void *address) { __builtin_prefetch(address, 0, 2); }

/* ---- kinds of processors ------------------------------------------------------------------ */

/* KINDS makes a function for each kind by a macro of its name and target; BEST is the one for the
   processor that this runs on, and BEST_POPCNT of functions that count bits. */
#if defined(__x86_64__)
#define HAS(FEATURE)     __builtin_cpu_supports(FEATURE)
#define TARGET(FEATURES) __attribute__((target(FEATURES)))
#define VPOPCNT          TARGET("avx512f,avx512vpopcntdq")
#define SHUFFLE          TARGET("avx2,popcnt")
#define KINDS(MACRO) MACRO(plain, ) MACRO(avx2, TARGET("avx2,fma")) MACRO(avx512, TARGET("avx512f"))
#define BEST(NAME)                                                                                 \
    (HAS("avx512f") ? NAME##_avx512 : HAS("avx2") && HAS("fma") ? NAME##_avx2 : NAME##_plain)
#define BEST_POPCNT(NAME)                                                                          \
    (HAS("avx512vpopcntdq")         ? NAME##_vpopcnt                                               \
     : HAS("avx2") && HAS("popcnt") ? NAME##_shuffle                                               \
     : HAS("popcnt")                ? NAME##_popcnt                                                \
                                    : NAME##_plain)
#else
#define KINDS(MACRO)      MACRO(plain, )
#define BEST(NAME)        NAME##_plain
#define BEST_POPCNT(NAME) NAME##_plain
#endif

/* ---- comparing codes --------------------------------------------------------------------- */

/* The position of a code in its block, and how far it is from the query's. */
typedef struct {
    uint16_t position, hamming;
} NearCode;

typedef uint64_t Word __attribute__((aligned(1), may_alias));

/* The Hamming distance of two codes. */
INLINE int64_t hamming_of(const uint8_t *one, const uint8_t *other, int64_t lines) {
    int64_t hamming = 0;
    for (int64_t word = 0; word < lines * LINE_BYTES / 8; word++)
        hamming += __builtin_popcountll(((Word *)one)[word] ^ ((Word *)other)[word]);
    return hamming;
}

#if defined(__x86_64__)
/* The same by a table of the bits of half a byte, 32 bytes at a time: 0.7 of the time that words
   take (docs/history/ann-kinds.md). A byte of a sum is at most 64. */
SHUFFLE INLINE int64_t hamming_by_shuffle(const uint8_t *one, const uint8_t *other, int64_t lines) {
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i bits =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    __m256i sums = _mm256_setzero_si256();
    for (int64_t at = 0; at < lines * LINE_BYTES; at += sizeof sums) {
        const __m256i differ = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(one + at)),
                                                _mm256_loadu_si256((const __m256i *)(other + at)));
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(differ, 4), low);
        sums = _mm256_add_epi8(sums, _mm256_shuffle_epi8(bits, _mm256_and_si256(differ, low)));
        sums = _mm256_add_epi8(sums, _mm256_shuffle_epi8(bits, high));
    }
    sums = _mm256_sad_epu8(sums, _mm256_setzero_si256());
    const __m128i halves =
        _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    return _mm_cvtsi128_si64(halves) + _mm_extract_epi64(halves, 1);
}
#endif

/* Write which of a block's codes are within the distance `limit`, and return how many. Nothing is
   prefetched: the processor sees for itself that they are read one after another. */
#define FIND_NEAR_CODES(NAME, ATTRIBUTE, HAMMING)                                                  \
    ATTRIBUTE static int64_t NAME(const uint8_t *codes, int64_t count, const uint8_t *code,        \
                                  int64_t lines, int64_t limit, NearCode *near_codes) {            \
        int64_t near_count = 0;                                                                    \
        for (int64_t position = 0; position < count; position++, codes += lines * LINE_BYTES) {    \
            const int64_t hamming = lines == 1   ? HAMMING(codes, code, 1)                         \
                                    : lines == 2 ? HAMMING(codes, code, 2)                         \
                                                 : HAMMING(codes, code, lines);                    \
            near_codes[near_count] = (NearCode){(uint16_t)position, (uint16_t)hamming};            \
            near_count += hamming <= limit;                                                        \
        }                                                                                          \
        return near_count;                                                                         \
    }

FIND_NEAR_CODES(find_near_codes_plain, , hamming_of)

#if defined(__x86_64__)
FIND_NEAR_CODES(find_near_codes_popcnt, TARGET("popcnt"), hamming_of)
FIND_NEAR_CODES(find_near_codes_shuffle, SHUFFLE, hamming_by_shuffle)

/* Add up pairs of lanes: half as many vectors, with the sums of twice as many. */
VPOPCNT INLINE __m512i halved(__m512i one, __m512i other) {
    return _mm512_add_epi64(_mm512_shuffle_i64x2(one, other, 0x88),
                            _mm512_shuffle_i64x2(one, other, 0xdd));
}

/* Eight rows at a time: a lane for each in the end. */
VPOPCNT INLINE int64_t find_near_codes_in_lanes(const uint8_t *codes, int64_t count,
                                                const uint8_t *code, int64_t lines, int64_t limit,
                                                NearCode *near_codes) {
    int64_t near_count = 0, position = 0;
    for (; position + 8 <= count; position += 8) {
        __m512i sums[8];
        for (int row = 0; row < 8; row++) {
            sums[row] = _mm512_setzero_si512();
            for (int64_t line = 0; line < lines; line++, codes += LINE_BYTES) {
                const __m512i differ = _mm512_xor_si512(
                    _mm512_loadu_si512(codes), _mm512_loadu_si512(code + line * LINE_BYTES));
                sums[row] = _mm512_add_epi64(sums[row], _mm512_popcnt_epi64(differ));
            }
        }
        for (int row = 0; row < 8; row += 2)
            sums[row / 2] = _mm512_add_epi64(_mm512_unpacklo_epi64(sums[row], sums[row + 1]),
                                             _mm512_unpackhi_epi64(sums[row], sums[row + 1]));
        const __m512i hammings = halved(halved(sums[0], sums[1]), halved(sums[2], sums[3]));
        int near = _mm512_cmple_epi64_mask(hammings, _mm512_set1_epi64(limit));
        if (!near) continue;
        int64_t lanes[8];
        _mm512_storeu_si512(lanes, hammings);
        for (; near; near &= near - 1) {
            const int lane = __builtin_ctz((unsigned)near);
            near_codes[near_count++] =
                (NearCode){(uint16_t)(position + lane), (uint16_t)lanes[lane]};
        }
    }
    const int64_t rest = find_near_codes_popcnt(codes, count - position, code, lines, limit,
                                                near_codes + near_count);
    for (int64_t at = near_count; at < near_count + rest; at++)
        near_codes[at].position += (uint16_t)position;
    return near_count + rest;
}

VPOPCNT static int64_t find_near_codes_vpopcnt(const uint8_t *codes, int64_t count,
                                               const uint8_t *code, int64_t lines, int64_t limit,
                                               NearCode *near_codes) {
    if (lines == 1) return find_near_codes_in_lanes(codes, count, code, 1, limit, near_codes);
    if (lines == 4) return find_near_codes_in_lanes(codes, count, code, 4, limit, near_codes);
    if (lines == 2) return find_near_codes_in_lanes(codes, count, code, 2, limit, near_codes);
    return find_near_codes_in_lanes(codes, count, code, lines, limit, near_codes);
}
#endif

/* Write the distances of all codes; most have two lines or one, and loops that know it take 0.7 of
   the time (docs/history/ann-kinds.md). */
#define HAMMINGS(NAME, ATTRIBUTE, HAMMING)                                                         \
    ATTRIBUTE static void NAME(const uint8_t *codes, int64_t count, const uint8_t *code,           \
                               int64_t lines, int32_t *distances) {                                \
        if (lines == 2)                                                                            \
            for (int64_t at = 0; at < count; at++)                                                 \
                distances[at] = (int32_t)HAMMING(codes + at * 2 * LINE_BYTES, code, 2);            \
        else if (lines == 1)                                                                       \
            for (int64_t at = 0; at < count; at++)                                                 \
                distances[at] = (int32_t)HAMMING(codes + at * LINE_BYTES, code, 1);                \
        else                                                                                       \
            for (int64_t at = 0; at < count; at++)                                                 \
                distances[at] = (int32_t)HAMMING(codes + at * lines * LINE_BYTES, code, lines);    \
    }

HAMMINGS(hammings_plain, , hamming_of)
#if defined(__x86_64__)
HAMMINGS(hammings_popcnt, TARGET("popcnt"), hamming_of)
HAMMINGS(hammings_shuffle, SHUFFLE, hamming_by_shuffle)
HAMMINGS(hammings_vpopcnt, VPOPCNT, hamming_of)
#endif

/* Write the distances of listed codes, which the caller has fetched. */
#define LISTED_HAMMINGS(NAME, ATTRIBUTE, HAMMING)                                                  \
    ATTRIBUTE static void NAME(const uint8_t *codes, const uint32_t *rows, int64_t count,          \
                               const uint8_t *code, int64_t lines, uint16_t *distances) {          \
        for (int64_t at = 0; at < count; at++) {                                                   \
            const uint8_t *other = codes + rows[at] * lines * LINE_BYTES;                          \
            const int64_t hamming = lines == 2   ? HAMMING(other, code, 2)                         \
                                    : lines == 1 ? HAMMING(other, code, 1)                         \
                                                 : HAMMING(other, code, lines);                    \
            distances[at] = (uint16_t)hamming;                                                     \
        }                                                                                          \
    }

LISTED_HAMMINGS(listed_hammings_plain, , hamming_of)
#if defined(__x86_64__)
LISTED_HAMMINGS(listed_hammings_popcnt, TARGET("popcnt"), hamming_of)
LISTED_HAMMINGS(listed_hammings_shuffle, SHUFFLE, hamming_by_shuffle)
LISTED_HAMMINGS(listed_hammings_vpopcnt, VPOPCNT, hamming_of)
#endif

#endif
