/* The loops over numbers in which `binary.c` spends its time, once for each kind of processor
   (`kernels.h`): the Hadamard transform, thresholds, dot products.

   A vector is as long as the registers of its kind. Of longer ones gcc keeps all sums in memory:
   dot products took twelve times as long (docs/history/ann-kinds.md). Nothing here knows of metrics
   or searches.
*/

#ifndef VICINAL_VECTORS_H
#define VICINAL_VECTORS_H

#include "kernels.h"

typedef float Vector_plain __attribute__((vector_size(16), aligned(4), may_alias));
typedef float Vector_avx2 __attribute__((vector_size(32), aligned(4), may_alias));
typedef float Vector_avx512 __attribute__((vector_size(64), aligned(4), may_alias));

/* The numbers of a vector. */
#define WIDTH(KIND) ((int64_t)(sizeof(Vector_##KIND) / sizeof(float)))

/* ---- Hadamard transform ------------------------------------------------------------------ */

/* The numbers of a vector in another order; clang and old gcc have one builtin each. */
#if defined(__clang__)
#define REORDERED(KIND, X, ...) __builtin_shufflevector(X, X, __VA_ARGS__)
#else
typedef int32_t Order_plain __attribute__((vector_size(16)));
typedef int32_t Order_avx2 __attribute__((vector_size(32)));
typedef int32_t Order_avx512 __attribute__((vector_size(64)));
#define REORDERED(KIND, X, ...) __builtin_shuffle(X, (Order_##KIND){__VA_ARGS__})
#endif

/* The stages within a vector: a number is added to its partner or taken from it. */
INLINE void transform_plain(Vector_plain *numbers) {
    Vector_plain x = *numbers;
    x = REORDERED(plain, x, 1, 0, 3, 2) + x * (Vector_plain){1, -1, 1, -1};
    *numbers = REORDERED(plain, x, 2, 3, 0, 1) + x * (Vector_plain){1, 1, -1, -1};
}

#if defined(__x86_64__)
TARGET("avx2,fma") INLINE void transform_avx2(Vector_avx2 *numbers) {
    Vector_avx2 x = *numbers;
    x = REORDERED(avx2, x, 1, 0, 3, 2, 5, 4, 7, 6) + x * (Vector_avx2){1, -1, 1, -1, 1, -1, 1, -1};
    x = REORDERED(avx2, x, 2, 3, 0, 1, 6, 7, 4, 5) + x * (Vector_avx2){1, 1, -1, -1, 1, 1, -1, -1};
    *numbers =
        REORDERED(avx2, x, 4, 5, 6, 7, 0, 1, 2, 3) + x * (Vector_avx2){1, 1, 1, 1, -1, -1, -1, -1};
}

TARGET("avx512f") INLINE void transform_avx512(Vector_avx512 *numbers) {
    Vector_avx512 x = *numbers;
    x = REORDERED(avx512, x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14) +
        x * (Vector_avx512){1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1};
    x = REORDERED(avx512, x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13) +
        x * (Vector_avx512){1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1};
    x = REORDERED(avx512, x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11) +
        x * (Vector_avx512){1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1};
    *numbers = REORDERED(avx512, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7) +
               x * (Vector_avx512){1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1};
}
#endif

/* One stage, of partners that are `half` apart. */
INLINE void stage(float *numbers, int64_t length, int64_t half) {
    for (int64_t start = 0; start < length; start += 2 * half)
        for (int64_t at = start; at < start + half; at++) {
            const float one = numbers[at], other = numbers[at + half];
            numbers[at] = one + other;
            numbers[at + half] = one - other;
        }
}

/* The stages of `half`, at least a vector, and of twice as many, reading each number once. */
#define TWO_STAGES(KIND, ATTRIBUTE)                                                                \
    ATTRIBUTE INLINE void two_stages_##KIND(float *numbers, int64_t length, int64_t half) {        \
        typedef Vector_##KIND Vector;                                                              \
        for (int64_t start = 0; start < length; start += 4 * half)                                 \
            for (int64_t at = start; at < start + half; at += WIDTH(KIND)) {                       \
                Vector *const first = (Vector *)(numbers + at);                                    \
                Vector *const second = (Vector *)(numbers + at + half);                            \
                Vector *const third = (Vector *)(numbers + at + 2 * half);                         \
                Vector *const fourth = (Vector *)(numbers + at + 3 * half);                        \
                const Vector a = *first, b = *second, c = *third, d = *fourth;                     \
                const Vector ab = a + b, a_b = a - b, cd = c + d, c_d = c - d;                     \
                *first = ab + cd;                                                                  \
                *second = a_b + c_d;                                                               \
                *third = ab - cd;                                                                  \
                *fourth = a_b - c_d;                                                               \
            }                                                                                      \
    }

KINDS(TWO_STAGES)

/* Multiply `length` numbers, a power of two, by signs and a scale, and transform them. */
#define HADAMARD(KIND, ATTRIBUTE)                                                                  \
    ATTRIBUTE static void hadamard_##KIND(float *numbers, const float *flips, float scale,         \
                                          int64_t length) {                                        \
        int64_t half = length < WIDTH(KIND) ? 1 : WIDTH(KIND);                                     \
        for (int64_t at = 0; at < length % WIDTH(KIND); at++) numbers[at] *= flips[at] * scale;    \
        for (int64_t at = 0; at + WIDTH(KIND) <= length; at += WIDTH(KIND)) {                      \
            Vector_##KIND *const some = (Vector_##KIND *)(numbers + at);                           \
            *some *= *(const Vector_##KIND *)(flips + at) * scale;                                 \
            transform_##KIND(some);                                                                \
        }                                                                                          \
        for (; half >= WIDTH(KIND) && 4 * half <= length; half *= 4)                               \
            two_stages_##KIND(numbers, length, half);                                              \
        for (; half < length; half *= 2) stage(numbers, length, half);                             \
    }

KINDS(HADAMARD)

/* ---- thresholds -------------------------------------------------------------------------- */

/* Set those of `count` bits, the first one highest, whose numbers are above their thresholds. */
static void set_above_plain(const float *numbers, const float *thresholds, int64_t count,
                            uint8_t *bits) {
    for (int64_t byte = 0; byte < count / 8; byte++) {
        unsigned set = 0;
        for (int64_t at = 8 * byte; at < 8 * byte + 8; at++)
            set = set << 1 | (numbers[at] > thresholds[at]);
        bits[byte] = (uint8_t)set;
    }
}

#if defined(__x86_64__)
TARGET("avx2")
static void set_above_avx2(const float *numbers, const float *thresholds, int64_t count,
                           uint8_t *bits) {
    const __m256i backwards = _mm256_set_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for (int64_t at = 0; at < count; at += 8) {
        const __m256 above = _mm256_cmp_ps(_mm256_loadu_ps(numbers + at),
                                           _mm256_loadu_ps(thresholds + at), _CMP_GT_OQ);
        bits[at / 8] = (uint8_t)_mm256_movemask_ps(_mm256_permutevar8x32_ps(above, backwards));
    }
}
#endif

/* The same, for the processor it runs on; `count` is a multiple of 8. */
static void set_above(const float *numbers, const float *thresholds, int64_t count, uint8_t *bits) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        set_above_avx2(numbers, thresholds, count, bits);
        return;
    }
#endif
    set_above_plain(numbers, thresholds, count, bits);
}

/* ---- products ---------------------------------------------------------------------------- */

INLINE float total(const float *numbers, int64_t count) {
    float sum = 0;
    for (int64_t at = 0; at < count; at++) sum += numbers[at];
    return sum;
}

enum {
    SUMS = 4,      /* vectors that are added up side by side */
    AHEAD = 4,     /* rows whose start is fetched before their turn */
    FETCHED = 128, /* numbers of it: the processor foresees the others */
};

/* The dot product, or squared distance, of a row and a query. */
#define PRODUCT(KIND, ATTRIBUTE)                                                                   \
    ATTRIBUTE INLINE float product_##KIND(const float *row, const float *query,                    \
                                          int64_t dimensions, int is_euclidean) {                  \
        typedef Vector_##KIND Vector;                                                              \
        Vector sums[SUMS] = {{0}};                                                                 \
        int64_t at = 0;                                                                            \
        for (; at + SUMS * WIDTH(KIND) <= dimensions; at += SUMS * WIDTH(KIND))                    \
            for (int part = 0; part < SUMS; part++) {                                              \
                const Vector a = *(const Vector *)(row + at + part * WIDTH(KIND));                 \
                const Vector b = *(const Vector *)(query + at + part * WIDTH(KIND));               \
                sums[part] += is_euclidean ? (a - b) * (a - b) : a * b;                            \
            }                                                                                      \
        Vector all = (sums[0] + sums[1]) + (sums[2] + sums[3]);                                    \
        float sum = total((const float *)&all, WIDTH(KIND));                                       \
        for (; at < dimensions; at++) {                                                            \
            const float difference = row[at] - query[at];                                          \
            sum += is_euclidean ? difference * difference : row[at] * query[at];                   \
        }                                                                                          \
        return sum;                                                                                \
    }

KINDS(PRODUCT)

#define ROW_PRODUCTS(KIND, ATTRIBUTE)                                                              \
    ATTRIBUTE static void row_products_##KIND(const float *values, int64_t dimensions,             \
                                              const float *query, const uint32_t *rows,            \
                                              int64_t count, int is_euclidean, float *products) {  \
        for (int64_t at = 0; at < count; at++) {                                                   \
            const float *row = values + (rows ? rows[at] : at) * dimensions;                       \
            if (rows && at + AHEAD < count) { /* rows in order are foreseen by the processor */    \
                const float *later = values + rows[at + AHEAD] * dimensions;                       \
                for (int64_t line = 0; line < FETCHED && line < dimensions; line += 16)            \
                    __builtin_prefetch(later + line);                                              \
            }                                                                                      \
            products[at] = is_euclidean ? product_##KIND(row, query, dimensions, 1)                \
                                        : product_##KIND(row, query, dimensions, 0);               \
        }                                                                                          \
    }

KINDS(ROW_PRODUCTS)

enum {
    TILE_ROWS = 2,
    TILE_OTHERS = 4,
    CACHED_ROWS = 32, /* that stay near while all others pass by */
};

/* Write the dot products of TILE_ROWS rows and TILE_OTHERS others: what is loaded is used several
   times. `stride` is from one row of products to the next. */
#define PRODUCT_TILE(KIND, ATTRIBUTE)                                                              \
    ATTRIBUTE INLINE void product_tile_##KIND(const float *rows, const float *others,              \
                                              int64_t dimensions, int64_t stride,                  \
                                              float *products) {                                   \
        typedef Vector_##KIND Vector;                                                              \
        Vector sums[TILE_ROWS][TILE_OTHERS] = {{{0}}};                                             \
        int64_t at = 0;                                                                            \
        for (; at + WIDTH(KIND) <= dimensions; at += WIDTH(KIND))                                  \
            for (int row = 0; row < TILE_ROWS; row++) {                                            \
                const Vector a = *(const Vector *)(rows + row * dimensions + at);                  \
                for (int other = 0; other < TILE_OTHERS; other++)                                  \
                    sums[row][other] += a * *(const Vector *)(others + other * dimensions + at);   \
            }                                                                                      \
        for (int row = 0; row < TILE_ROWS; row++)                                                  \
            for (int other = 0; other < TILE_OTHERS; other++) {                                    \
                Vector lanes = sums[row][other];                                                   \
                float sum = total((const float *)&lanes, WIDTH(KIND));                             \
                for (int64_t rest = at; rest < dimensions; rest++)                                 \
                    sum += rows[row * dimensions + rest] * others[other * dimensions + rest];      \
                products[row * stride + other] = sum;                                              \
            }                                                                                      \
    }

KINDS(PRODUCT_TILE)

/* Write the dot products (count, other_count) of rows and others. */
#define MATRIX_PRODUCT(KIND, ATTRIBUTE)                                                            \
    ATTRIBUTE static void matrix_product_##KIND(const float *rows, int64_t count,                  \
                                                const float *others, int64_t other_count,          \
                                                int64_t dimensions, float *products) {             \
        const int64_t tiled_rows = count - count % TILE_ROWS;                                      \
        const int64_t tiled_others = other_count - other_count % TILE_OTHERS;                      \
        for (int64_t start = 0; start < tiled_rows; start += CACHED_ROWS)                          \
            for (int64_t other = 0; other < tiled_others; other += TILE_OTHERS)                    \
                for (int64_t row = start; row < tiled_rows && row < start + CACHED_ROWS;           \
                     row += TILE_ROWS)                                                             \
                    product_tile_##KIND(rows + row * dimensions, others + other * dimensions,      \
                                        dimensions, other_count,                                   \
                                        products + row * other_count + other);                     \
        for (int64_t row = 0; row < count; row++)                                                  \
            for (int64_t other = row < tiled_rows ? tiled_others : 0; other < other_count;         \
                 other++)                                                                          \
                products[row * other_count + other] = product_##KIND(                              \
                    rows + row * dimensions, others + other * dimensions, dimensions, 0);          \
    }

KINDS(MATRIX_PRODUCT)

#endif
