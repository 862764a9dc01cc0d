/* The two loops in which a search spends its time, over the kernels of one library: SIMSIMD,
   NUMKONG (a code or row at a time), NUMKONG_PACKED (a block of codes at a time), or ours. Of the
   others the kernels for the newest processors are called, if this one has them. */

#include <stdint.h>

#if defined(SIMSIMD)
#define SIMSIMD_TARGET_HASWELL 1
#define SIMSIMD_TARGET_SKYLAKE 1
#define SIMSIMD_TARGET_ICE     1
#define SIMSIMD_NATIVE_F16     0
#define SIMSIMD_NATIVE_BF16    0
#include <simsimd/simsimd.h>

#define IS_NEW __builtin_cpu_supports("avx512vpopcntdq")

static inline int64_t hamming_of(const uint8_t *a, const uint8_t *b, int64_t bytes) {
    simsimd_distance_t distance;
    (IS_NEW ? simsimd_hamming_b8_ice : simsimd_hamming_b8_haswell)(a, b, (simsimd_size_t)bytes,
                                                                   &distance);
    return (int64_t)distance;
}

static inline float product_of(const float *a, const float *b, int64_t length, int is_euclidean) {
    simsimd_distance_t product;
    if (is_euclidean)
        (IS_NEW ? simsimd_l2sq_f32_skylake : simsimd_l2sq_f32_haswell)(a, b, length, &product);
    else
        (IS_NEW ? simsimd_dot_f32_skylake : simsimd_dot_f32_haswell)(a, b, length, &product);
    return (float)product;
}

#elif defined(NUMKONG) || defined(NUMKONG_PACKED)
#define NK_TARGET_HASWELL 1
#define NK_TARGET_SKYLAKE 1
#define NK_TARGET_ICELAKE 1
#include <numkong/numkong.h>

#define IS_NEW __builtin_cpu_supports("avx512vpopcntdq")

static inline int64_t hamming_of(const uint8_t *a, const uint8_t *b, int64_t bytes) {
    nk_u32_t distance;
    (IS_NEW ? nk_hamming_u1_icelake : nk_hamming_u1_haswell)(a, b, (nk_size_t)(8 * bytes),
                                                             &distance);
    return distance;
}

static inline float product_of(const float *a, const float *b, int64_t length, int is_euclidean) {
    nk_f64_t product;
    if (is_euclidean)
        (IS_NEW ? nk_sqeuclidean_f32_skylake : nk_sqeuclidean_f32_haswell)(a, b, length, &product);
    else
        (IS_NEW ? nk_dot_f32_skylake : nk_dot_f32_haswell)(a, b, length, &product);
    return (float)product;
}

#else
#include "kernels.h"
#endif

enum { BLOCK_BYTES = 1 << 15 };

/* Write the positions of the codes within a distance, block by block; return how many there are. */
int64_t near_codes(const uint8_t *codes, int64_t count, const uint8_t *code, int64_t bytes,
                   int64_t limit, uint32_t *near) {
    int64_t near_count = 0;
    const int64_t block = BLOCK_BYTES / bytes;
#if defined(NUMKONG_PACKED)
    static _Thread_local uint8_t packed[1 << 16] __attribute__((aligned(64)));
    nk_dots_pack_u1_icelake(code, 1, (nk_size_t)(8 * bytes), (nk_size_t)bytes, packed);
#endif
    for (int64_t start = 0; start < count; start += block) {
        const int64_t block_count = count - start < block ? count - start : block;
        const uint8_t *block_codes = codes + start * bytes;
#if defined(NUMKONG_PACKED)
        nk_u32_t distances[BLOCK_BYTES / 64];
        nk_hammings_packed_u1_icelake(block_codes, packed, distances, (nk_size_t)block_count, 1,
                                      (nk_size_t)(8 * bytes), (nk_size_t)bytes, sizeof *distances);
        for (int64_t at = 0; at < block_count; at++) {
            near[near_count] = (uint32_t)(start + at);
            near_count += distances[at] <= limit;
        }
#elif defined(SIMSIMD) || defined(NUMKONG)
        for (int64_t at = 0; at < block_count; at++) {
            near[near_count] = (uint32_t)(start + at);
            near_count += hamming_of(block_codes + at * bytes, code, bytes) <= limit;
        }
#else
        NearCode block_near[BLOCK_BYTES / LINE_BYTES + 1];
        const int64_t end = BEST_POPCNT(find_near_codes)(block_codes, block_count, code,
                                                         bytes / LINE_BYTES, limit, block_near);
        for (int64_t at = 0; at < end; at++)
            near[near_count++] = (uint32_t)(start + block_near[at].position);
#endif
    }
    return near_count;
}

/* Write squared distances, or dot products, of a query and listed rows, or the first `count`. */
void score_rows(const float *values, int64_t dimensions, const float *query, const uint32_t *rows,
                int64_t count, int64_t is_euclidean, float *products) {
#if defined(SIMSIMD) || defined(NUMKONG) || defined(NUMKONG_PACKED)
    for (int64_t at = 0; at < count; at++) {
        if (rows && at + 2 < count) /* as ours does */
            for (int64_t ahead = 0; ahead < dimensions; ahead += 16)
                __builtin_prefetch(values + rows[at + 2] * dimensions + ahead, 0, 2);
        products[at] = product_of(values + (rows ? rows[at] : at) * dimensions, query, dimensions,
                                  is_euclidean != 0);
    }
#else
    BEST(row_products)(values, dimensions, query, rows, count, is_euclidean != 0, products);
#endif
}
