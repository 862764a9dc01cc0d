/* Codes of rows and queries (`ann.projection`), for `binary.c`.

   Signs of projections: random signs and Hadamard transforms (`kernels.h`), compared with the
   mean's projection. Knows nothing of searches but where a query's code goes.
*/

#ifndef VICINAL_ENCODING_H
#define VICINAL_ENCODING_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "structures.h"
#include "vectors.h"

static double norm_of(const float *vector, int64_t dimensions) {
    double squares[8] = {0}; /* side by side, so that no sum waits for another */
    int64_t at = 0;
    for (; at + 8 <= dimensions; at += 8)
        for (int lane = 0; lane < 8; lane++)
            squares[lane] += (double)vector[at + lane] * vector[at + lane];
    for (; at < dimensions; at++) squares[0] += (double)vector[at] * vector[at];
    double sum = 0;
    for (int lane = 0; lane < 8; lane++) sum += squares[lane];
    return sqrt(sum);
}

/* Write the norms of rows (count, dimensions). */
void vicinal_norms(const float *rows, int64_t count, int64_t dimensions, float *norms) {
    for (int64_t row = 0; row < count; row++)
        norms[row] = (float)norm_of(rows + row * dimensions, dimensions);
}

/* Write the code of a lifted vector, which is filled up with zeros; `rotated` is scratch. */
static void encode(const Projection *projection, const float *lifted, float *rotated,
                   uint8_t *code) {
    const int64_t bits = 8 * projection->code_bytes, length = projection->length;
    const float scale = (float)(1 / sqrt((double)length));
    memset(code, 0, projection->code_bytes);
    for (int64_t block = 0; block < projection->blocks; block++) {
        memcpy(rotated, lifted, length * sizeof *rotated);
        for (int64_t round = 0; round < projection->rounds; round++) {
            const int64_t turn = round * projection->blocks + block;
            BEST(hadamard)(rotated, projection->flips + turn * length, scale, length);
        }
        const int64_t first = block * length;
        const int64_t count = bits - first < length ? bits - first : length;
        const float *offset = projection->offset + first;
        if (length % 8 == 0)
            set_above(rotated, offset, count, code + first / 8);
        else
            for (int64_t bit = 0; bit < count; bit++)
                code[(first + bit) / 8] |=
                    (uint8_t)((rotated[bit] > offset[bit]) << (7 - (first + bit) % 8));
    }
}

/* Write the query's norm and code; return 0 if there is no memory. */
static int encode_query(const Projection *projection, CodeSearch *search) {
    float *lifted = calloc(2 * projection->length, sizeof *lifted);
    if (!lifted) return 0;
    const double norm = norm_of(search->query, projection->dimensions);
    const double divisor = projection->metric == EUCLIDEAN || norm == 0 ? 1 : norm;
    for (int64_t at = 0; at < projection->dimensions; at++)
        lifted[at] = (float)(search->query[at] / divisor);
    encode(projection, lifted, lifted + projection->length, search->query_code);
    search->query_norm = (float)norm;
    free(lifted);
    return 1;
}

/* Write the codes (count, code_bytes) of rows (count, dimensions); return 0 or NO_MEMORY. */
int64_t vicinal_encode(const Projection *projection, const float *rows, int64_t count,
                       uint8_t *codes) {
    const int64_t dimensions = projection->dimensions, metric = projection->metric;
    float *lifted = calloc(2 * projection->length, sizeof *lifted);
    if (!lifted) return NO_MEMORY;
    for (int64_t row = 0; row < count; row++) {
        const float *values = rows + row * dimensions;
        const double norm = norm_of(values, dimensions);
        const double divisor = metric == DOT_PRODUCT          ? projection->scale
                               : metric == COSINE && norm > 0 ? norm
                                                              : 1;
        const double factor = 1 / divisor;
        for (int64_t at = 0; at < dimensions; at++) lifted[at] = (float)(values[at] * factor);
        if (metric == DOT_PRODUCT) {
            const double height = 1 - norm / projection->scale * (norm / projection->scale);
            lifted[dimensions] = (float)sqrt(height > 0 ? height : 0);
        }
        encode(projection, lifted, lifted + projection->length,
               codes + row * projection->code_bytes);
    }
    free(lifted);
    return 0;
}

#endif
