/* Binary quantization, compiled: encoding, and the whole search of `ann.binary` in one call.

   Where a segment has a graph, `walk.h` finds which codes to compare.
   `ann.projection` and `ann.binary` are the reference: same steps, same names, same candidates
   (tests/unit/ann/test_compiled.py, tests/unit/native/test_library.py). Unusual searches are left
   UNSETTLED, for Python to do: numbers that overflow, or more rows than `rescored_max`. A search
   that comes to rows which are not verified has its caller do that, or ends.

   Rules: C11 as gcc and clang have it; reads and writes only the memory it is given; keeps nothing,
   so any number of threads may call it. The hot loops are in `kernels.h`.
*/

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "encoding.h"
#include "kernels.h"
#include "structures.h"
#include "vectors.h"
#include "walk.h"

enum {
    BLOCK_BYTES = 1 << 15, /* of codes, compared before their rows are looked at */
    CODES_AHEAD = 64,      /* listed rows whose codes are fetched and then compared */
    GROWTH = 8,            /* how many times more rows are aimed at when a limit left too few */
    OUTLIERS = 11,         /* of 11 nearest rows one does not count: as in `ann.quantizer` */
};

/* All rows within a Hamming distance, those with the nearest codes first. */
typedef struct {
    uint32_t *rows;
    uint16_t *hammings;
    int64_t count, capacity;
    int64_t limit;
} NearRows;

/* Where a search gets its codes from, if not from all rows in order: rows that a walk comes to, or
   listed rows, with their distances (listed_count,). One or the other, or neither. */
typedef struct {
    Walk *walk;
    const int32_t *listed_hammings;
} CodeSource;

/* The k nearest of the rescored rows: a heap of estimates, the farthest at its root. */
typedef struct {
    float *estimates;
    uint32_t *positions; /* in the `NearRows` */
    int64_t count, k;
} NearestRows;

/* ---- comparing codes ----------------------------------------------------------------------- */

/* Have memory bring the codes of listed rows. */
static void fetch_listed(const CodedRows *coded, const int64_t *listed, int64_t start,
                         int64_t end) {
    const int64_t bytes = coded->projection.code_bytes;
    for (int64_t at = start; at < end; at++)
        for (int64_t line = 0; line < bytes; line += LINE_BYTES)
            fetch_line(coded->codes + listed[at] * bytes + line);
}

/* Write the Hamming distances of listed rows. */
static void compare_listed(const CodedRows *coded, CodeSearch *search, const int64_t *listed,
                           int64_t count, int32_t *hammings) {
    const int64_t lines = coded->projection.code_bytes / LINE_BYTES;
    uint32_t rows[CODES_AHEAD];
    uint16_t distances[CODES_AHEAD];
    int64_t end = count < CODES_AHEAD ? count : CODES_AHEAD;
    fetch_listed(coded, listed, 0, end);
    for (int64_t start = 0, next; start < count; start = end, end = next) {
        next = end + CODES_AHEAD < count ? end + CODES_AHEAD : count;
        fetch_listed(coded, listed, end, next);
        for (int64_t at = start; at < end; at++) rows[at - start] = (uint32_t)listed[at];
        BEST_POPCNT(listed_hammings)(coded->codes, rows, end - start, search->query_code, lines,
                                     distances);
        for (int64_t at = start; at < end; at++) hammings[at] = distances[at - start];
    }
    search->compared_count += count;
}

/* Append those of a block's rows that are near and eligible; `near` has the capacity for all. */
static void append_near(const CodedRows *coded, const CodeSearch *search, int64_t start,
                        int64_t count, int64_t limit, NearRows *near) {
    const int64_t bytes = coded->projection.code_bytes;
    NearCode near_codes[BLOCK_BYTES / LINE_BYTES + 1];
    const int64_t near_count =
        BEST_POPCNT(find_near_codes)(coded->codes + start * bytes, count, search->query_code,
                                     bytes / LINE_BYTES, limit, near_codes);
    for (int64_t at = 0; at < near_count; at++) {
        const int64_t row = start + near_codes[at].position;
        if (!is_eligible(search, row)) continue;
        near->rows[near->count] = (uint32_t)row;
        near->hammings[near->count++] = near_codes[at].hamming;
    }
}

/* Write the Hamming distances of codes (count, 64 lines) to one code. */
void vicinal_hammings(const uint8_t *codes, int64_t count, const uint8_t *code, int64_t lines,
                      int32_t *distances) {
    BEST_POPCNT(hammings)(codes, count, code, lines, distances);
}

/* ---- rescoring rows ------------------------------------------------------------------------ */

/* Write the dot products (count, other_count) of rows and others. */
void vicinal_products(const float *rows, int64_t count, const float *others, int64_t other_count,
                      int64_t dimensions, float *products) {
    BEST(matrix_product)(rows, count, others, other_count, dimensions, products);
}

/* Write squared distances, or dot products, of a query and listed rows, or the first `count`. */
void vicinal_row_products(const float *values, int64_t dimensions, const float *query,
                          const uint32_t *rows, int64_t count, int64_t is_euclidean,
                          float *products) {
    BEST(row_products)(values, dimensions, query, rows, count, is_euclidean != 0, products);
}

/* Write which of some rows lie in blocks that may not be read yet; return how many. */
static int64_t find_unverified(const CodedRows *coded, CodeSearch *search, const uint32_t *rows,
                               int64_t count) {
    const int64_t row_bytes = coded->projection.dimensions * (int64_t)sizeof *coded->values;
    int64_t unverified = 0;
    for (int64_t at = 0; at < count && unverified < search->candidates_max; at++) {
        const int64_t start = coded->values_start + rows[at] * row_bytes;
        const int64_t last = (start + row_bytes - 1) / coded->block_bytes;
        int64_t block = start / coded->block_bytes;
        while (block <= last && coded->verified[block]) block++;
        if (block <= last) search->candidates[unverified++] = rows[at];
    }
    search->unverified_count = unverified;
    return unverified;
}

/* Have rows verified that may not be read yet; return whether all may be read. */
static int verify(const CodedRows *coded, CodeSearch *search, const uint32_t *rows, int64_t count) {
    if (!coded->verified) return 1;
    while (find_unverified(coded, search, rows, count))
        if (!search->verify || !search->verify()) return 0;
    return 1;
}

/* Write distances that order rows as the metric does; return 1, UNVERIFIED when rows may not be
   read yet, or UNSETTLED: a distance is not finite, or a norm is not that they and their errors
   follow from. Norms that are divided by must not have been rounded by more than others are. */
static int estimate(const CodedRows *coded, CodeSearch *search, const uint32_t *rows, int64_t count,
                    float *estimates) {
    const int64_t metric = coded->projection.metric;
    if (!verify(coded, search, rows, count)) return UNVERIFIED;
    BEST(row_products)(coded->values, coded->projection.dimensions, search->query, rows, count,
                       metric == EUCLIDEAN, estimates);
    int is_sound = 1;
    for (int64_t at = 0; at < count; at++) {
        const float norm = coded->norms[rows[at]];
        if (metric == COSINE) {
            estimates[at] /= -norm;
            is_sound &= norm >= FLT_MIN;
        }
        if (metric == DOT_PRODUCT) estimates[at] = -estimates[at];
        is_sound &= isfinite(estimates[at]) != 0;
        if (metric != EUCLIDEAN) is_sound &= isfinite(norm) != 0;
    }
    return is_sound ? 1 : UNSETTLED;
}

/* The most by which the estimate of a row's distance is wrong. */
static float error(const CodedRows *coded, const CodeSearch *search, uint32_t row, float estimate) {
    const float norm = coded->norms[row], relative = coded->relative_error;
    switch (coded->projection.metric) {
    case COSINE: return relative * search->query_norm + coded->absolute_error / norm;
    case EUCLIDEAN: return relative * estimate + coded->absolute_error;
    default: return relative * search->query_norm * norm + coded->absolute_error;
    }
}

/* ---- the rows whose codes are near --------------------------------------------------------- */

/* Give `near` a capacity of at least this many rows; return 0 if there is no memory. */
static int reserve(NearRows *near, int64_t capacity) {
    if (capacity <= near->capacity) return 1;
    capacity *= 2;
    uint32_t *rows = realloc(near->rows, capacity * sizeof *rows);
    if (rows) near->rows = rows;
    uint16_t *hammings = realloc(near->hammings, capacity * sizeof *hammings);
    if (hammings) near->hammings = hammings;
    if (!rows || !hammings) return 0;
    near->capacity = capacity;
    return 1;
}

/* Order rows by their codes' distances, rows of one distance as they were; return 0 if there is no
   memory. */
static int sort(NearRows *near) {
    int64_t starts[BINS] = {0};
    uint32_t *rows = malloc(near->capacity * sizeof *rows);
    uint16_t *hammings = malloc(near->capacity * sizeof *hammings);
    if (!rows || !hammings) {
        free(rows);
        free(hammings);
        return 0;
    }
    for (int64_t at = 0; at < near->count; at++) starts[near->hammings[at] + 1]++;
    for (int bin = 1; bin < BINS; bin++) starts[bin] += starts[bin - 1];
    for (int64_t at = 0; at < near->count; at++) {
        const int64_t sorted = starts[near->hammings[at]]++;
        rows[sorted] = near->rows[at];
        hammings[sorted] = near->hammings[at];
    }
    free(near->rows);
    free(near->hammings);
    near->rows = rows;
    near->hammings = hammings;
    return 1;
}

/* Find the eligible rows within the Hamming distance `limit` that a walk has compared; return as
   `find_within` does. */
static int find_walked(const CodeSearch *search, const Walk *walk, int64_t limit, int64_t rows_max,
                       NearRows *near) {
    near->count = 0;
    near->limit = limit;
    for (int64_t at = 0; at < walk->count; at++) {
        if (walk->hammings[at] > limit) continue;
        if (!is_eligible(search, walk->rows[at])) continue;
        if (near->count > rows_max) return UNSETTLED;
        if (!reserve(near, near->count + 1)) return NO_MEMORY;
        near->rows[near->count] = walk->rows[at];
        near->hammings[near->count++] = walk->hammings[at];
    }
    return sort(near) ? 1 : NO_MEMORY;
}

/* Find the listed rows within the Hamming distance `limit`; return as `find_within` does. */
static int find_listed(const int64_t *listed, const int32_t *hammings, int64_t count, int64_t limit,
                       int64_t rows_max, NearRows *near) {
    near->count = 0;
    near->limit = limit;
    for (int64_t at = 0; at < count; at++) {
        if (hammings[at] > limit) continue;
        if (near->count > rows_max) return UNSETTLED;
        if (!reserve(near, near->count + 1)) return NO_MEMORY;
        near->rows[near->count] = (uint32_t)listed[at];
        near->hammings[near->count++] = (uint16_t)hammings[at];
    }
    return sort(near) ? 1 : NO_MEMORY;
}

/* Find all eligible rows within the Hamming distance `limit` that the source has; return 1,
   NO_MEMORY, or UNSETTLED when they are more than `rows_max`. */
static int find_within(const CodedRows *coded, CodeSearch *search, const CodeSource *source,
                       int64_t limit, int64_t rows_max, NearRows *near) {
    Walk *walk = source->walk;
    if (walk && walk->is_open) {
        const int status = walk_within(walk, coded, search, limit);
        if (status > 0) return find_walked(search, walk, limit, rows_max, near);
        if (status == NO_MEMORY) return status;
    }
    if (source->listed_hammings)
        return find_listed(search->listed, source->listed_hammings, search->listed_count, limit,
                           rows_max, near);
    const int64_t block = BLOCK_BYTES / coded->projection.code_bytes;
    search->compared_count += coded->row_count;
    near->count = 0;
    near->limit = limit;
    for (int64_t start = 0; start < coded->row_count; start += block) {
        const int64_t left = coded->row_count - start, count = left < block ? left : block;
        if (near->count > rows_max) return UNSETTLED;
        if (!reserve(near, near->count + count)) return NO_MEMORY;
        append_near(coded, search, start, count, limit, near);
    }
    return sort(near) ? 1 : NO_MEMORY;
}

/* Look at a sample of the eligible rows: all distances, ascending. */
static int compare_sample(const CodedRows *coded, CodeSearch *search, const CodeSource *source,
                          NearRows *near) {
    int64_t rows[SAMPLE_ROWS + 1], count = 0;
    int32_t hammings[SAMPLE_ROWS + 1];
    if (source->listed_hammings) {
        const int64_t step = (search->listed_count + SAMPLE_ROWS - 1) / SAMPLE_ROWS;
        for (int64_t at = 0; at < search->listed_count; at += step) {
            rows[count] = at;
            hammings[count++] = source->listed_hammings[at];
        }
    } else {
        int32_t all[SAMPLE_ROWS];
        BEST_POPCNT(hammings)(coded->sample, coded->sample_count, search->query_code,
                              coded->projection.code_bytes / LINE_BYTES, all);
        search->compared_count += coded->sample_count;
        for (int64_t at = 0; at < coded->sample_count; at++) {
            if (!is_eligible(search, at * coded->sample_step)) continue;
            rows[count] = at;
            hammings[count++] = all[at];
        }
    }
    return find_listed(rows, hammings, count, BINS, SAMPLE_ROWS, near);
}

/* Find the nearest `breadth` rows that the walk comes to; return 0 if these are too few, or the
   walk is too long. */
static int find_nearest_walked(const CodedRows *coded, CodeSearch *search, Walk *walk,
                               int64_t rows_min, int64_t rows_max, NearRows *near) {
    int status = walk_within(walk, coded, search, -1);
    if (status > 0) status = find_walked(search, walk, walk->bound, rows_max, near);
    if (status == NO_MEMORY || (status > 0 && near->count >= rows_min)) return status;
    walk->is_open = 0;
    return 0;
}

/* Find about `rescored_expected` rows, and at least `rescored_min`, or all that are eligible. */
static int find_nearest(const CodedRows *coded, CodeSearch *search, const CodeSource *source,
                        int64_t rows_max, NearRows *near) {
    Walk *walk = source->walk;
    const int64_t farthest = 8 * coded->projection.code_bytes, eligible = search->eligible_count;
    const int64_t rows_min = search->rescored_min < eligible ? search->rescored_min : eligible;
    if (walk) {
        const int status = find_nearest_walked(coded, search, walk, rows_min, rows_max, near);
        if (status) return status;
    }
    const int64_t row_count = search->listed ? search->listed_count : coded->row_count;
    if (row_count <= SAMPLE_ROWS && !is_filtered(search))
        return find_within(coded, search, source, farthest, rows_max, near);
    int status = compare_sample(coded, search, source, near);
    if (status < 0) return status;
    const int64_t sample_count = near->count;
    uint16_t sample[SAMPLE_ROWS + 1];
    memcpy(sample, near->hammings, sample_count * sizeof *sample);
    for (double aim = (double)search->rescored_expected;; aim *= GROWTH) {
        const double expected = aim / (double)eligible * (double)sample_count;
        const double quantile = ceil(expected + sqrt(expected));
        const int64_t limit =
            quantile < (double)sample_count ? sample[(int64_t)quantile] : farthest;
        status = find_within(coded, search, source, limit, rows_max, near);
        if (status < 0 || near->count >= rows_min || limit == farthest) return status;
    }
}

/* ---- the nearest rows ---------------------------------------------------------------------- */

static void push(NearestRows *nearest, float estimate, uint32_t position) {
    float *estimates = nearest->estimates;
    uint32_t *positions = nearest->positions;
    int64_t at;
    if (nearest->count < nearest->k) {
        for (at = nearest->count++; at && estimates[(at - 1) / 2] < estimate; at = (at - 1) / 2) {
            estimates[at] = estimates[(at - 1) / 2];
            positions[at] = positions[(at - 1) / 2];
        }
    } else {
        if (estimate >= estimates[0]) return;
        at = 0;
        for (int64_t child; (child = 2 * at + 1) < nearest->count; at = child) {
            if (child + 1 < nearest->count && estimates[child + 1] > estimates[child]) child++;
            if (estimates[child] <= estimate) break;
            estimates[at] = estimates[child];
            positions[at] = positions[child];
        }
    }
    estimates[at] = estimate;
    positions[at] = position;
}

/* The Hamming distance of the farthest code among the nearest rows, without outliers. */
static int64_t radius(const NearestRows *nearest, const NearRows *near) {
    int64_t counts[BINS] = {0}, left = nearest->count / OUTLIERS;
    for (int64_t at = 0; at < nearest->count; at++)
        counts[near->hammings[nearest->positions[at]]]++;
    int64_t hamming = BINS - 1;
    while ((left -= counts[hamming]) >= 0) hamming--;
    return hamming;
}

/* Write the rows that may be among the k nearest of all that were rescored; return how many. */
static int64_t write_candidates(const CodedRows *coded, CodeSearch *search, const NearRows *near,
                                const NearestRows *nearest, const float *estimates,
                                int64_t rescored_count) {
    float bound = INFINITY;
    if (!isfinite(search->query_norm)) return UNSETTLED; /* no error follows from it */
    if (rescored_count > search->k) {
        bound = -INFINITY;
        for (int64_t at = 0; at < nearest->count; at++) {
            const float estimate = nearest->estimates[at];
            const uint32_t row = near->rows[nearest->positions[at]];
            const float upper = estimate + error(coded, search, row, estimate);
            bound = upper > bound ? upper : bound;
        }
        if (!isfinite(bound)) return UNSETTLED;
    }
    int64_t count = 0;
    for (int64_t at = 0; at < rescored_count; at++) {
        const float lower = estimates[at] - error(coded, search, near->rows[at], estimates[at]);
        if (lower > bound) continue;
        if (count == search->candidates_max) return UNSETTLED;
        search->candidates[count++] = near->rows[at];
    }
    search->rescored_count = rescored_count;
    return count;
}

/* Rescore rows from the nearest codes on, until no row near the edge is among the k nearest. */
static int64_t rescore(const CodedRows *coded, CodeSearch *search, const CodeSource *source,
                       NearRows *near, NearestRows *nearest, float **estimates) {
    const int64_t first = search->rescored_min < near->count ? search->rescored_min : near->count;
    int64_t rescored = 0, limit = -1, margin = search->margin, capacity = 0;
    int64_t next_limit = near->hammings[first - 1];
    while (next_limit > limit) {
        if (next_limit > near->limit) {
            const int walked =
                find_within(coded, search, source, next_limit, search->rescored_max, near);
            if (walked < 0) return walked;
            /* A walk that goes on may come to rows that are nearer than some rescored ones. */
            if (source->walk) rescored = nearest->count = 0;
        }
        int64_t count = rescored;
        while (count < near->count && near->hammings[count] <= next_limit) count++;
        if (count > search->rescored_max) return UNSETTLED;
        if (count > capacity) {
            capacity = 2 * count;
            float *larger = realloc(*estimates, capacity * sizeof *larger);
            if (!larger) return NO_MEMORY;
            *estimates = larger;
        }
        const int status =
            estimate(coded, search, near->rows + rescored, count - rescored, *estimates + rescored);
        if (status < 0) return status;
        for (; rescored < count; rescored++)
            push(nearest, (*estimates)[rescored], (uint32_t)rescored);
        limit = next_limit;
        next_limit = radius(nearest, near) + margin;
        margin = search->margin / 2;
    }
    return write_candidates(coded, search, near, nearest, *estimates, rescored);
}

/* Write the candidates; return how many they are, UNSETTLED, UNVERIFIED or NO_MEMORY. */
int64_t vicinal_search(const CodedRows *coded, CodeSearch *search) {
    NearRows near = {0};
    NearestRows nearest = {
        .k = search->k,
        .estimates = malloc(search->k * sizeof(float)),
        .positions = malloc(search->k * sizeof(uint32_t)),
    };
    Walk walk = {0};
    int32_t *listed_hammings =
        search->listed ? malloc(search->listed_count * sizeof *listed_hammings) : NULL;
    const CodeSource source = {search->breadth ? &walk : NULL, listed_hammings};
    float *estimates = NULL;
    int64_t status = NO_MEMORY;
    search->compared_count = search->expanded_count = search->unverified_count = 0;
    if (nearest.estimates && nearest.positions && (listed_hammings || !search->listed) &&
        encode_query(&coded->projection, search) &&
        (!source.walk || begin_walk(&walk, coded, search) > 0)) {
        if (listed_hammings)
            compare_listed(coded, search, search->listed, search->listed_count, listed_hammings);
        /* A whole sample fits even where few rows may be rescored. */
        const int64_t rows_max =
            4 * (search->rescored_max > SAMPLE_ROWS ? search->rescored_max : SAMPLE_ROWS);
        status = find_nearest(coded, search, &source, rows_max, &near);
        if (status > 0)
            status = near.count ? rescore(coded, search, &source, &near, &nearest, &estimates) : 0;
    }
    free(near.rows);
    free(near.hammings);
    free(nearest.estimates);
    free(nearest.positions);
    free(estimates);
    free(listed_hammings);
    end_walk(&walk);
    return status;
}
