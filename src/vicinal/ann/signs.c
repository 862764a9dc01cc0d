/* Sign codes, compiled: encoding, and the whole search of `signs.SignIndex` in one call.

   `projection.py` and `signs.py` are the reference: same steps, same names, same answers
   (tests/unit/ann/test_compiled.py, test_library.py). What is unusual is left *unsettled*, for
   Python to do: numbers that overflow, or more rows than `most`. `library.py` finds this,
   `compiled.py` searches with it. All of it runs without the interpreter's lock.

   Rules: C11 as gcc and clang have it; reads and writes only what it is given; keeps nothing,
   so any number of threads may call it. The hot loops are in `kernels.h`.
*/

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

enum { COSINE, EUCLIDEAN, DOT_PRODUCT };
enum { UNSETTLED = -1, NO_MEMORY = -2 };
enum {
    BLOCK_BYTES = 1 << 15, /* of codes, compared before their rows are looked at */
    AHEAD = 32,            /* listed rows whose codes are fetched before their turn */
    SAMPLED = 2048,        /* as many rows as in `hamming` */
    MORE = 8,              /* times as many rows are aimed at when a limit left too few */
    OUTLIERS = 11,         /* as in `signs` */
    CODE_BYTES_MAX = 256,
    BINS = 8 * CODE_BYTES_MAX + 2, /* one for each distance of the longest codes */
};

/* How rows and queries get their codes (`projection`). */
typedef struct {
    const float *signs;  /* (rounds, blocks, length) */
    const float *offset; /* (8 code_bytes,): the mean's projection */
    int64_t rounds, blocks, length, code_bytes, dimensions, metric;
    double scale; /* of rows under dot-product: the largest norm */
} Projection;

/* What stays the same from query to query. */
typedef struct Segment {
    Projection projection;
    const uint8_t *codes;  /* (row_count, code_bytes), a multiple of 64 bytes each */
    const uint8_t *sample; /* (sample_count, code_bytes): every `step`-th of them */
    const float *values;   /* (row_count, dimensions) */
    const float *norms;    /* (row_count,) */
    int64_t row_count, sample_count, step;
    float relative, absolute; /* errors of a product (`exact`): by the norms, and beside that */
} Segment;

typedef struct Search {
    const float *query;     /* (dimensions,) */
    const uint8_t *allowed; /* (row_count,), or NULL for all */
    const int64_t *listed;  /* (listed_count,), or NULL: just these rows */
    int64_t listed_count, count; /* count: how many rows are meant */
    int64_t k, slack, wanted, at_least, most;
    int64_t *found;           /* (capacity,), written */
    int64_t capacity, opened_count; /* opened_count is written */
    float size;                     /* the query's norm: written */
    uint8_t code[CODE_BYTES_MAX];   /* the query's code: written */
} Search;

/* All rows within a Hamming distance, the nearest codes first. */
typedef struct {
    uint32_t *rows;
    uint16_t *hammings;
    int64_t count, room;
    int64_t limit;
} Near;

/* The k nearest rows so far: a heap of estimates, the farthest at its root. */
typedef struct {
    float *estimates;
    uint32_t *places;
    int64_t count, k;
} Nearest;

/* ---- codes of rows and queries (`projection`) --------------------------------------------- */

static double norm_of(const float *vector, int64_t dimensions) {
    double squares[8] = {0}; /* side by side: each waits for itself alone */
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

/* Write the code of a lifted vector, which is filled up with zeros; `numbers` is scratch. */
static void encode(const Projection *by, const float *lifted, float *numbers, uint8_t *code) {
    const int64_t bits = 8 * by->code_bytes;
    const float scale = (float)(1 / sqrt((double)by->length));
    memset(code, 0, by->code_bytes);
    for (int64_t block = 0; block < by->blocks; block++) {
        memcpy(numbers, lifted, by->length * sizeof *numbers);
        for (int64_t round = 0; round < by->rounds; round++) {
            const float *signs = by->signs + (round * by->blocks + block) * by->length;
            turn(numbers, signs, scale, by->length);
        }
        const int64_t first = block * by->length;
        const int64_t count = bits - first < by->length ? bits - first : by->length;
        if (by->length % 8 == 0) {
            set_above(numbers, by->offset + first, count, code + first / 8);
            continue;
        }
        for (int64_t bit = first; bit < first + count; bit++)
            code[bit / 8] |= (uint8_t)((numbers[bit - first] > by->offset[bit]) << (7 - bit % 8));
    }
}

/* Write the query's norm and code; return 0 if there is no memory. */
static int encode_query(const Projection *by, Search *search) {
    float *lifted = calloc(2 * by->length, sizeof *lifted);
    if (!lifted) return 0;
    const double norm = norm_of(search->query, by->dimensions);
    const double divisor = by->metric == EUCLIDEAN || norm == 0 ? 1 : norm;
    for (int64_t at = 0; at < by->dimensions; at++)
        lifted[at] = (float)(search->query[at] / divisor);
    encode(by, lifted, lifted + by->length, search->code);
    search->size = (float)norm;
    free(lifted);
    return 1;
}

/* Write the codes (count, code_bytes) of rows (count, dimensions); return 0 or NO_MEMORY. */
int64_t vicinal_encode(const Projection *by, const float *rows, int64_t count, uint8_t *codes) {
    float *lifted = calloc(2 * by->length, sizeof *lifted);
    if (!lifted) return NO_MEMORY;
    for (int64_t row = 0; row < count; row++) {
        const float *values = rows + row * by->dimensions;
        const double norm = norm_of(values, by->dimensions);
        const double divisor =
            by->metric == DOT_PRODUCT ? by->scale : by->metric == COSINE && norm > 0 ? norm : 1;
        const double factor = 1 / divisor;
        for (int64_t at = 0; at < by->dimensions; at++) lifted[at] = (float)(values[at] * factor);
        if (by->metric == DOT_PRODUCT) {
            const double height = 1 - norm / by->scale * (norm / by->scale);
            lifted[by->dimensions] = (float)sqrt(height > 0 ? height : 0);
        }
        encode(by, lifted, lifted + by->length, codes + row * by->code_bytes);
    }
    free(lifted);
    return 0;
}

/* ---- comparing codes --------------------------------------------------------------------- */

/* Copy the codes of a block's listed rows side by side. */
static void gather(const Segment *segment, const int64_t *listed, int64_t count, uint8_t *codes) {
    const int64_t bytes = segment->projection.code_bytes;
    for (int64_t place = 0; place < count; place++) {
        if (place + AHEAD < count)
            __builtin_prefetch(segment->codes + listed[place + AHEAD] * bytes);
        memcpy(codes + place * bytes, segment->codes + listed[place] * bytes, bytes);
    }
}

/* Add those of a block's rows that are near and allowed; `near` has room for all. */
static void add_near(const Segment *segment, const Search *search, int64_t start, int64_t count,
                     int64_t limit, Near *near) {
    const int64_t bytes = segment->projection.code_bytes;
    uint8_t gathered[BLOCK_BYTES];
    Noted noted[BLOCK_BYTES / LINE + 1];
    const uint8_t *codes = segment->codes + start * bytes;
    if (search->listed) {
        gather(segment, search->listed + start, count, gathered);
        codes = gathered;
    }
    const int64_t end = note_near(codes, count, search->code, bytes / LINE, limit, noted);
    for (int64_t at = 0; at < end; at++) {
        const int64_t place = start + noted[at].place;
        const int64_t row = search->listed ? search->listed[place] : place;
        if (search->allowed && !search->allowed[row]) continue;
        near->rows[near->count] = (uint32_t)row;
        near->hammings[near->count++] = noted[at].hamming;
    }
}

/* ---- measuring rows ---------------------------------------------------------------------- */

/* Write the dot products (count, other_count) of rows and others. */
void vicinal_products(const float *rows, int64_t count, const float *others, int64_t other_count,
                      int64_t dimensions, float *found) {
    matrix(rows, count, others, other_count, dimensions, found);
}

/* Write distances that order rows as the metric does; return whether all are finite, and so are
   the norms that they and their errors follow from. Norms that are divided by must not have been
   rounded by more than others are. */
static int estimate(const Segment *segment, const Search *search, const uint32_t *rows,
                    int64_t count, float *found) {
    const Projection *by = &segment->projection;
    products(segment->values, by->dimensions, search->query, rows, count,
             by->metric == EUCLIDEAN, found);
    int is_sound = 1;
    for (int64_t place = 0; place < count; place++) {
        if (by->metric == COSINE) {
            found[place] /= -segment->norms[rows[place]];
            is_sound &= segment->norms[rows[place]] >= FLT_MIN;
        }
        if (by->metric == DOT_PRODUCT) found[place] = -found[place];
        is_sound &= isfinite(found[place]) != 0;
        if (by->metric != EUCLIDEAN) is_sound &= isfinite(segment->norms[rows[place]]) != 0;
    }
    return is_sound;
}

/* How far the estimate of a row may be off. */
static float error(const Segment *segment, const Search *search, uint32_t row, float estimate) {
    const float norm = segment->norms[row], size = search->size;
    switch (segment->projection.metric) {
    case COSINE: return segment->relative * size + segment->absolute / norm;
    case EUCLIDEAN: return segment->relative * estimate + segment->absolute;
    default: return segment->relative * size * norm + segment->absolute;
    }
}

/* ---- the rows whose codes are near ------------------------------------------------------- */

static int64_t total(const Segment *segment, const Search *search) {
    return search->listed ? search->listed_count : segment->row_count;
}

static int make_room(Near *near, int64_t room) {
    if (room <= near->room) return 1;
    room *= 2;
    uint32_t *rows = realloc(near->rows, room * sizeof *rows);
    if (rows) near->rows = rows;
    uint16_t *hammings = realloc(near->hammings, room * sizeof *hammings);
    if (hammings) near->hammings = hammings;
    if (!rows || !hammings) return 0;
    near->room = room;
    return 1;
}

/* Order rows by their codes' distances; rows of one distance stay in order. */
static int sort(Near *near) {
    int64_t starts[BINS] = {0};
    uint32_t *rows = malloc(near->room * sizeof *rows);
    uint16_t *hammings = malloc(near->room * sizeof *hammings);
    if (!rows || !hammings) {
        free(rows);
        free(hammings);
        return 0;
    }
    for (int64_t place = 0; place < near->count; place++) starts[near->hammings[place] + 1]++;
    for (int bin = 1; bin < BINS; bin++) starts[bin] += starts[bin - 1];
    for (int64_t place = 0; place < near->count; place++) {
        const int64_t sorted = starts[near->hammings[place]]++;
        rows[sorted] = near->rows[place];
        hammings[sorted] = near->hammings[place];
    }
    free(near->rows);
    free(near->hammings);
    near->rows = rows;
    near->hammings = hammings;
    return 1;
}

/* Find all rows at most so far; more than `most` of them are UNSETTLED. */
static int within(const Segment *segment, const Search *search, int64_t limit, int64_t most,
                  Near *near) {
    const int64_t rows = total(segment, search);
    const int64_t block = BLOCK_BYTES / segment->projection.code_bytes;
    near->count = 0;
    near->limit = limit;
    for (int64_t start = 0; start < rows; start += block) {
        const int64_t count = rows - start < block ? rows - start : block;
        if (near->count > most) return UNSETTLED;
        if (!make_room(near, near->count + count)) return NO_MEMORY;
        add_near(segment, search, start, count, limit, near);
    }
    return sort(near) ? 1 : NO_MEMORY;
}

/* Compare a sample of the rows that are meant: all distances, ascending. */
static int compare_sample(const Segment *segment, const Search *search, Near *near) {
    int64_t listed[SAMPLED + 1], count = 0;
    Segment sampled = *segment;
    Search all = *search;
    all.allowed = NULL;
    if (search->listed) {
        const int64_t step = (search->listed_count + SAMPLED - 1) / SAMPLED;
        for (int64_t place = 0; place < search->listed_count; place += step)
            listed[count++] = search->listed[place];
        all.listed = listed;
        all.listed_count = count;
    } else {
        sampled.codes = segment->sample;
        sampled.row_count = segment->sample_count;
        if (search->allowed) {
            for (int64_t place = 0; place < segment->sample_count; place++)
                if (search->allowed[place * segment->step]) listed[count++] = place;
            all.listed = listed;
            all.listed_count = count;
        }
    }
    return within(&sampled, &all, BINS, SAMPLED, near);
}

/* Find about `wanted` rows, and `at_least` so many, or all that are meant. */
static int nearest(const Segment *segment, const Search *search, int64_t most, Near *near) {
    const int64_t farthest = 8 * segment->projection.code_bytes;
    if (total(segment, search) <= SAMPLED && !search->allowed)
        return within(segment, search, farthest, most, near);
    int status = compare_sample(segment, search, near);
    if (status < 0) return status;
    const int64_t sample_count = near->count;
    uint16_t sample[SAMPLED + 1];
    memcpy(sample, near->hammings, sample_count * sizeof *sample);
    const int64_t at_least = search->at_least < search->count ? search->at_least : search->count;
    for (double wanted = (double)search->wanted;; wanted *= MORE) {
        const double expected = wanted / (double)search->count * (double)sample_count;
        const double place = ceil(expected + sqrt(expected));
        const int64_t limit = place < (double)sample_count ? sample[(int64_t)place] : farthest;
        status = within(segment, search, limit, most, near);
        if (status < 0 || near->count >= at_least || limit == farthest) return status;
    }
}

/* ---- the nearest rows -------------------------------------------------------------------- */

static void push(Nearest *nearest, float estimate, uint32_t place) {
    float *estimates = nearest->estimates;
    uint32_t *places = nearest->places;
    int64_t at;
    if (nearest->count < nearest->k) {
        for (at = nearest->count++; at && estimates[(at - 1) / 2] < estimate; at = (at - 1) / 2) {
            estimates[at] = estimates[(at - 1) / 2];
            places[at] = places[(at - 1) / 2];
        }
    } else {
        if (estimate >= estimates[0]) return;
        at = 0;
        for (int64_t child; (child = 2 * at + 1) < nearest->count; at = child) {
            if (child + 1 < nearest->count && estimates[child + 1] > estimates[child]) child++;
            if (estimates[child] <= estimate) break;
            estimates[at] = estimates[child];
            places[at] = places[child];
        }
    }
    estimates[at] = estimate;
    places[at] = place;
}

/* How far the codes of the nearest rows are, but for one in OUTLIERS. */
static int64_t reach(const Nearest *nearest, const Near *near) {
    int64_t counts[BINS] = {0}, left = nearest->count / OUTLIERS;
    for (int64_t at = 0; at < nearest->count; at++) counts[near->hammings[nearest->places[at]]]++;
    int64_t hamming = BINS - 1;
    while ((left -= counts[hamming]) >= 0) hamming--;
    return hamming;
}

/* Write the rows that may be among the k nearest of all that were opened. */
static int64_t propose(const Segment *segment, Search *search, const Near *near,
                       const Nearest *nearest, const float *estimates, int64_t opened) {
    float bound = INFINITY;
    if (!isfinite(search->size)) return UNSETTLED; /* no error follows from it */
    if (opened > search->k) {
        bound = -INFINITY;
        for (int64_t at = 0; at < nearest->count; at++) {
            const float each = nearest->estimates[at];
            const uint32_t row = near->rows[nearest->places[at]];
            const float upper = each + error(segment, search, row, each);
            bound = upper > bound ? upper : bound;
        }
        if (!isfinite(bound)) return UNSETTLED;
    }
    int64_t count = 0;
    for (int64_t place = 0; place < opened; place++) {
        const float each = estimates[place];
        const float lower = each - error(segment, search, near->rows[place], each);
        if (lower <= bound) {
            if (count == search->capacity) return UNSETTLED;
            search->found[count++] = near->rows[place];
        }
    }
    search->opened_count = opened;
    return count;
}

/* Open rows from the nearest codes on, until none near the edge is among the k nearest. */
static int64_t open_rows(const Segment *segment, Search *search, Near *near, Nearest *nearest,
                         float **estimates) {
    const int64_t first = search->at_least < near->count ? search->at_least : near->count;
    int64_t opened = 0, limit = -1, beyond = search->slack, room = 0;
    int64_t farther = near->hammings[first - 1];
    while (farther > limit) {
        if (farther > near->limit) {
            const int status = within(segment, search, farther, search->most, near);
            if (status < 0) return status;
        }
        int64_t count = opened;
        while (count < near->count && near->hammings[count] <= farther) count++;
        if (count > search->most) return UNSETTLED;
        if (count > room) {
            room = 2 * count;
            float *more = realloc(*estimates, room * sizeof *more);
            if (!more) return NO_MEMORY;
            *estimates = more;
        }
        if (!estimate(segment, search, near->rows + opened, count - opened, *estimates + opened))
            return UNSETTLED;
        for (; opened < count; opened++) push(nearest, (*estimates)[opened], (uint32_t)opened);
        limit = farther;
        farther = reach(nearest, near) + beyond;
        beyond = search->slack / 2;
    }
    return propose(segment, search, near, nearest, *estimates, opened);
}

/* Write the proposed rows; return how many they are, UNSETTLED or NO_MEMORY. */
int64_t vicinal_search(const Segment *segment, Search *search) {
    Near near = {0};
    Nearest nearest_rows = {
        .k = search->k,
        .estimates = malloc(search->k * sizeof(float)),
        .places = malloc(search->k * sizeof(uint32_t)),
    };
    float *estimates = NULL;
    int64_t found = NO_MEMORY;
    if (nearest_rows.estimates && nearest_rows.places &&
        encode_query(&segment->projection, search)) {
        /* So many as are sampled fit even where few may be opened. */
        const int64_t most = 4 * (search->most > SAMPLED ? search->most : SAMPLED);
        found = nearest(segment, search, most, &near);
        if (found > 0)
            found = near.count
                        ? open_rows(segment, search, &near, &nearest_rows, &estimates)
                        : 0;
    }
    free(near.rows);
    free(near.hammings);
    free(nearest_rows.estimates);
    free(nearest_rows.places);
    free(estimates);
    return found;
}
