/* libFuzzer's entry to binary.c: searches and encodings of all shapes, in memory of exactly the
   length they need, on each kind of processor that this one can stand for.

   An input is a list of numbers: the shape of a search, and the seed of its rows. What is found
   is held against rows measured in double precision: whoever is nearer than the k-th of all that
   were opened must be among them. */

#include <float.h>

static int is_pretended(const char *feature);
static int has_avx512f(void) { return __builtin_cpu_supports("avx512f") != 0; }
static int has_avx512vpopcntdq(void) { return __builtin_cpu_supports("avx512vpopcntdq") != 0; }
static int has_avx2(void) { return __builtin_cpu_supports("avx2") != 0; }
static int has_fma(void) { return __builtin_cpu_supports("fma") != 0; }
static int has_popcnt(void) { return __builtin_cpu_supports("popcnt") != 0; }
#define __builtin_cpu_supports is_pretended

#include "binary.c"

enum {
    NUMBERS_MAX = 40000,
    ROWS_MAX = 3000,
    K_MAX = 200,
    FOUND_MAX = 4096,
    ROUNDS = 3,
    ENCODED_MAX = 60
};

static int processor; /* 0 is the plainest */

static int is_pretended(const char *feature) {
    if (strcmp(feature, "popcnt") == 0) return processor >= 1 && has_popcnt();
    if (strcmp(feature, "avx2") == 0) return processor >= 2 && has_avx2();
    if (strcmp(feature, "fma") == 0) return processor >= 2 && has_fma();
    if (strcmp(feature, "avx512f") == 0) return processor >= 3 && has_avx512f();
    if (strcmp(feature, "avx512vpopcntdq") == 0) return processor >= 3 && has_avx512vpopcntdq();
    abort();
}

/* ---- what is made of an input ------------------------------------------------------------ */

typedef struct {
    const uint8_t *data;
    size_t size;
    uint64_t state;
} Source;

/* Return a number from `low` to `high` of the input's next two bytes. */
static int64_t chosen(Source *source, int64_t low, int64_t high) {
    unsigned value = 0;
    for (int byte = 0; byte < 2 && source->size; byte++, source->size--)
        value = value << 8 | *source->data++;
    return low + value % (high - low + 1);
}

static uint64_t any(Source *source) { /* splitmix64 */
    uint64_t z = source->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static const float UNUSUAL[] = {0,      -0.0f,   1e38f, -1e38f, 3.4e38f, -3.4e38f, 1e-38f,
                                1e-45f, -1e-45f, 1e20f, -1e20f, FLT_MIN, 1.8e19f,  -1.9e19f};

enum { USUAL, FEW, COPIES, NEAR_COPIES, SMALL, LARGE, SUBNORMAL, MIXED, KINDS };

static float number(Source *source, int kind) {
    const float usual = (float)((double)(any(source) >> 11) * 0x1p-52 - 1);
    switch (kind) {
    case FEW: return (float)(any(source) % 3) - 1;
    case SMALL: return usual * 1e-20f;
    case LARGE: return usual * 1e17f;
    case SUBNORMAL: return (float)(any(source) % 5) * 1.4e-45f;
    case MIXED:
        return any(source) % 50 ? usual : UNUSUAL[any(source) % (sizeof UNUSUAL / sizeof *UNUSUAL)];
    default: return usual;
    }
}

static void fill(Source *source, float *numbers, int64_t count, int kind) {
    for (int64_t at = 0; at < count; at++) numbers[at] = number(source, kind);
}

/* Memory whose last byte is the last there is; its start is as aligned as `unit` bytes. */
typedef struct {
    char *all;
    void *start;
} Memory;

static Memory memory(Source *source, int64_t count, int64_t size, int64_t unit) {
    const int64_t before = (int64_t)(any(source) % 64) / unit * unit;
    char *all = malloc((size_t)(before + count * size) + 1);
    if (!all) abort();
    char *exact = realloc(all, (size_t)(before + count * size) + (before + count * size == 0));
    if (!exact) abort();
    return (Memory){exact, exact + before};
}

/* ---- a search ---------------------------------------------------------------------------- */

/* The numbers of rows that pass a test, and of others. */
static const int32_t INTERVALS[] = {1, 2, 5, 7}, PASSING[] = {1, 5, 6, 1}, OTHER[] = {-1, 0, 4, 7};

/* Return whether a row is meant, from a search's mask, test or list. */
static uint8_t *meant(const CodeSearch *search, int64_t rows) {
    uint8_t *is_meant = calloc((size_t)rows, 1);
    if (!is_meant) abort();
    for (int64_t row = 0; row < rows; row++)
        is_meant[row] = search->listed ? 0 : search->allowed ? search->allowed[row] != 0 : 1;
    for (int64_t row = 0; search->tested && row < rows; row++)
        for (int at = 0; at < 4; at++)
            if (search->tested[row] == OTHER[at]) is_meant[row] = 0;
    for (int64_t place = 0; place < search->listed_count; place++)
        is_meant[search->listed[place]] = 1;
    return is_meant;
}

static double distance(const CodedRows *coded, const float *query, int64_t row) {
    const int64_t dimensions = coded->projection.dimensions;
    const float *values = coded->values + row * dimensions;
    double sum = 0, square = 0;
    for (int64_t at = 0; at < dimensions; at++) {
        const double value = values[at], difference = value - query[at];
        square += value * value;
        sum += coded->projection.metric == EUCLIDEAN ? difference * difference : -value * query[at];
    }
    return coded->projection.metric == COSINE && square > 0 ? sum / sqrt(square) : sum;
}

static int ascending(const void *one, const void *other) {
    const double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

/* Hold the candidates against what they promise. */
static void check(const CodedRows *coded, const CodeSearch *search, int64_t status) {
    if (status == UNSETTLED || status == NO_MEMORY) return;
    const int64_t rows = coded->row_count;
    if (status < 0 || status > search->candidates_max || status > search->rescored_count) abort();
    uint8_t *is_meant = meant(search, rows);
    uint8_t *is_found = calloc((size_t)rows, 1);
    double *distances = malloc((size_t)search->eligible_count * sizeof *distances);
    if (!is_found || !distances) abort();
    for (int64_t at = 0; at < status; at++) {
        const int64_t row = search->candidates[at];
        if (row < 0 || row >= rows || !is_meant[row] || is_found[row]) abort();
        is_found[row] = 1;
    }
    const int64_t least = search->rescored_min < search->eligible_count ? search->rescored_min
                                                                        : search->eligible_count;
    if (search->rescored_count < least || search->rescored_count > search->eligible_count) abort();
    if (status < (search->k < least ? search->k : least)) abort();
    if (search->rescored_count == search->eligible_count) { /* so all were measured */
        int64_t count = 0;
        for (int64_t row = 0; row < rows; row++)
            if (is_meant[row]) distances[count++] = distance(coded, search->query, row);
        qsort(distances, (size_t)count, sizeof *distances, ascending);
        const double farthest = search->k < count ? distances[search->k - 1] : INFINITY;
        for (int64_t row = 0; row < rows; row++)
            if (is_meant[row] && !is_found[row] && distance(coded, search->query, row) < farthest)
                abort();
    }
    free(is_meant);
    free(is_found);
    free(distances);
}

static void search_once(Source *source, const CodedRows *coded) {
    const int64_t rows = coded->row_count, dimensions = coded->projection.dimensions;
    const Memory query = memory(source, dimensions, sizeof(float), sizeof(float));
    if (chosen(source, 0, 2))
        fill(source, query.start, dimensions, (int)chosen(source, 0, KINDS - 1));
    else
        memcpy(query.start, coded->values + chosen(source, 0, rows - 1) * dimensions,
               (size_t)dimensions * sizeof(float));
    CodeSearch search = {
        .query = query.start, .eligible_count = rows, .k = chosen(source, 1, K_MAX)};
    const int64_t way = chosen(source, 0, 3), share = chosen(source, 1, 1000);
    const Memory mask = memory(source, rows, 1, 1);
    const Memory list = memory(source, rows, sizeof(int64_t), sizeof(int64_t));
    int64_t *listed = list.start, count = 0;
    if (way) {
        memset(mask.start, 0, (size_t)rows);
        const int64_t sure = (int64_t)(any(source) % (uint64_t)rows);
        for (int64_t row = 0; row < rows; row++)
            if (row == sure || (int64_t)(any(source) % 1000) < share) {
                ((uint8_t *)mask.start)[row] = 1;
                listed[count++] = row;
            }
        search.eligible_count = count;
    }
    const Memory exact = memory(source, count, sizeof(int64_t), sizeof(int64_t));
    const Memory tested = memory(source, rows, sizeof(int32_t), sizeof(int32_t));
    if (way == 1) search.allowed = mask.start;
    if (way == 3) { /* a row that is not meant fails the test, the mask or both */
        const int has_mask = (int)chosen(source, 0, 1);
        uint8_t *is_meant = mask.start;
        for (int64_t row = 0; row < rows; row++) {
            const uint64_t number = any(source);
            const int passes = is_meant[row] || (has_mask && number & 8);
            ((int32_t *)tested.start)[row] = (passes ? PASSING : OTHER)[number % 4];
            if (has_mask && !passes) is_meant[row] = number >> 4 & 1;
        }
        if (has_mask) search.allowed = mask.start;
        search.tested = tested.start;
        search.intervals = INTERVALS;
        search.interval_count = 2;
    }
    if (way == 2) { /* in any order */
        for (int64_t place = count - 1; place > 0 && chosen(source, 0, 1); place--) {
            const int64_t other = (int64_t)(any(source) % (uint64_t)(place + 1)),
                          row = listed[place];
            listed[place] = listed[other];
            listed[other] = row;
        }
        memcpy(exact.start, listed, (size_t)count * sizeof *listed);
        search.listed = exact.start;
        search.listed_count = count;
    }
    search.margin = chosen(source, 0, 8 * CODE_BYTES_MAX + 2);
    search.rescored_min = chosen(source, 1, 2 * K_MAX);
    search.rescored_expected = search.rescored_min + chosen(source, 0, ROWS_MAX);
    search.rescored_max = chosen(source, 1, ROWS_MAX);
    search.candidates_max = chosen(source, 1, FOUND_MAX);
    if (chosen(source, 0, 1)) { /* so that all are opened, and so can be compared */
        search.margin = 8 * CODE_BYTES_MAX;
        search.rescored_max = ROWS_MAX;
        search.candidates_max = FOUND_MAX;
    }
    const Memory hidden = memory(source, rows, sizeof(int64_t), sizeof(int64_t));
    if (way != 2 && chosen(source, 0, 1)) {
        search.breadth = chosen(source, 1, ROWS_MAX);
        search.expanded_max = chosen(source, 0, ROWS_MAX);
        search.hidden_count = chosen(source, 0, 1) ? 0 : chosen(source, 0, rows);
        search.hidden = hidden.start;
        for (int64_t at = 0; at < search.hidden_count; at++)
            ((int64_t *)hidden.start)[at] = (int64_t)(any(source) % (uint64_t)rows);
    }
    const Memory found = memory(source, search.candidates_max, sizeof(int64_t), sizeof(int64_t));
    search.candidates = found.start;
    check(coded, &search, vicinal_search(coded, &search));
    free(query.all);
    free(mask.all);
    free(list.all);
    free(exact.all);
    free(tested.all);
    free(hidden.all);
    free(found.all);
}

/* ---- rows, and all that is known of them -------------------------------------------------- */

static void multiply(Source *source, const float *values, int64_t rows, int64_t dimensions) {
    const int64_t count = chosen(source, 0, rows < 9 ? rows : 9);
    const int64_t others = chosen(source, 0, rows < 13 ? rows : 13);
    const Memory found = memory(source, count * others, sizeof(float), sizeof(float));
    vicinal_products(values, count, values + (rows - others) * dimensions, others, dimensions,
                     found.start);
    free(found.all);
}

/* Hold the distances of all codes, and products with all rows and with listed ones, against those
   computed one by one. */
static void scan(Source *source, const CodedRows *coded) {
    const int64_t rows = coded->row_count, dimensions = coded->projection.dimensions;
    const int64_t code_bytes = coded->projection.code_bytes,
                  chosen_row = chosen(source, 0, rows - 1);
    const uint8_t *code = coded->codes + chosen_row * code_bytes;
    const Memory distances = memory(source, rows, sizeof(int32_t), sizeof(int32_t));
    vicinal_hammings(coded->codes, rows, code, code_bytes / LINE_BYTES, distances.start);
    for (int64_t row = 0; row < rows; row++) {
        int64_t hamming = 0;
        for (int64_t at = 0; at < code_bytes; at++)
            hamming += __builtin_popcount(coded->codes[row * code_bytes + at] ^ code[at]);
        if (((int32_t *)distances.start)[row] != hamming) abort();
    }
    const int64_t is_euclidean = chosen(source, 0, 1), count = chosen(source, 0, rows);
    const float *query = coded->values + chosen_row * dimensions;
    const Memory list = memory(source, count, sizeof(uint32_t), sizeof(uint32_t));
    for (int64_t at = 0; at < count; at++)
        ((uint32_t *)list.start)[at] = (uint32_t)(any(source) % (uint64_t)rows);
    const Memory all = memory(source, rows, sizeof(float), sizeof(float));
    const Memory some = memory(source, count, sizeof(float), sizeof(float));
    vicinal_row_products(coded->values, dimensions, query, NULL, rows, is_euclidean, all.start);
    vicinal_row_products(coded->values, dimensions, query, list.start, count, is_euclidean,
                         some.start);
    for (int64_t at = 0; at < count; at++)
        if (memcmp((float *)some.start + at, (float *)all.start + ((uint32_t *)list.start)[at],
                   sizeof(float)))
            abort();
    free(distances.all);
    free(list.all);
    free(all.all);
    free(some.all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Source source = {data, size, 0};
    processor = (int)chosen(&source, 0, 3);
    const int64_t metric = chosen(&source, 0, 2), kind = chosen(&source, 0, KINDS - 1);
    int64_t dimensions = chosen(&source, 1, chosen(&source, 0, 2) ? 1537 : 8);
    if (dimensions == 1537) dimensions = 4096;
    int64_t rows_max = NUMBERS_MAX / dimensions;
    const int64_t rows = chosen(&source, 1, rows_max < ROWS_MAX ? rows_max : ROWS_MAX);
    const int64_t code_bytes = LINE_BYTES * chosen(&source, 1, CODE_BYTES_MAX / LINE_BYTES);
    const int is_encoded = (int)chosen(&source, 0, 1);
    source.state = (uint64_t)chosen(&source, 0, 65535);

    Projection projection = {.rounds = ROUNDS,
                             .length = 2,
                             .code_bytes = code_bytes,
                             .dimensions = dimensions,
                             .metric = metric,
                             .scale = 1};
    while (projection.length < dimensions + (metric == DOT_PRODUCT)) projection.length *= 2;
    projection.blocks = (8 * code_bytes + projection.length - 1) / projection.length;
    const int64_t flip_count = projection.rounds * projection.blocks * projection.length;
    const Memory flips = memory(&source, flip_count, sizeof(float), sizeof(float));
    for (int64_t at = 0; at < flip_count; at++)
        ((float *)flips.start)[at] = any(&source) % 2 ? 1 : -1;
    const Memory offset = memory(&source, 8 * code_bytes, sizeof(float), sizeof(float));
    fill(&source, offset.start, 8 * code_bytes, SMALL);
    projection.flips = flips.start;
    projection.offset = offset.start;

    const Memory values = memory(&source, rows * dimensions, sizeof(float), sizeof(float));
    fill(&source, values.start, rows * dimensions, (int)kind);
    for (int64_t row = 1; (kind == COPIES || kind == NEAR_COPIES) && row < rows; row++) {
        float *copy = (float *)values.start + row * dimensions;
        if (any(&source) % 4) memcpy(copy, values.start, (size_t)dimensions * sizeof(float));
        for (int64_t at = 0; kind == NEAR_COPIES && at < dimensions; at++)
            if (any(&source) % 2) copy[at] = nextafterf(copy[at], 2); /* rounding decides */
    }
    const Memory norms = memory(&source, rows, sizeof(float), sizeof(float));
    vicinal_norms(values.start, rows, dimensions, norms.start);
    for (int64_t row = 0; row < rows; row++)
        if (((float *)norms.start)[row] > projection.scale)
            projection.scale = ((float *)norms.start)[row];

    const Memory codes = memory(&source, rows * code_bytes, 1, 1);
    const int64_t encoded = is_encoded ? (rows < ENCODED_MAX ? rows : ENCODED_MAX) : 0;
    if (vicinal_encode(&projection, values.start, encoded, codes.start) < 0) abort();
    for (int64_t row = encoded; row < rows; row++) { /* like one of them, or like none */
        uint8_t *code = (uint8_t *)codes.start + row * code_bytes;
        for (int64_t at = 0; at < code_bytes; at++)
            code[at] = encoded ? ((uint8_t *)codes.start)[row % encoded * code_bytes + at]
                               : (uint8_t)any(&source);
        if (any(&source) % 2) code[any(&source) % (uint64_t)code_bytes] ^= (uint8_t)any(&source);
    }
    CodedRows coded = {.projection = projection,
                       .codes = codes.start,
                       .values = values.start,
                       .norms = norms.start,
                       .row_count = rows,
                       .sample_step = (rows + SAMPLE_ROWS - 1) / SAMPLE_ROWS};
    coded.sample_count = (rows + coded.sample_step - 1) / coded.sample_step;
    const Memory sample = memory(&source, coded.sample_count * code_bytes, 1, 1);
    for (int64_t at = 0; at < coded.sample_count; at++)
        memcpy((uint8_t *)sample.start + at * code_bytes,
               coded.codes + at * coded.sample_step * code_bytes, (size_t)code_bytes);
    coded.sample = sample.start;
    coded.neighbour_count = chosen(&source, 1, NEIGHBOURS_MAX);
    const int64_t link_count = rows * coded.neighbour_count;
    const Memory neighbours = memory(&source, link_count, sizeof(uint32_t), sizeof(uint32_t));
    for (int64_t at = 0; at < link_count; at++) /* some are no rows */
        ((uint32_t *)neighbours.start)[at] =
            any(&source) % 20 ? (uint32_t)(any(&source) % (uint64_t)rows) : (uint32_t)any(&source);
    coded.neighbours = neighbours.start;
    coded.entry_count = chosen(&source, 1, rows);
    const Memory entries = memory(&source, coded.entry_count, sizeof(uint32_t), sizeof(uint32_t));
    const Memory words = memory(&source, coded.entry_count * ENTRY_WORDS, 8, 8);
    for (int64_t at = 0; at < coded.entry_count; at++) {
        const uint32_t row = (uint32_t)(any(&source) % (uint64_t)rows);
        ((uint32_t *)entries.start)[at] = row;
        for (int64_t word = 0; word < ENTRY_WORDS; word++)
            memcpy((uint64_t *)words.start + word * coded.entry_count + at,
                   coded.codes + row * code_bytes + 8 * word, 8);
    }
    coded.entries = entries.start;
    coded.entry_words = words.start;
    coded.relative_error = (float)(dimensions + 8) * 0x1p-23f; /* as `exact` has them */
    coded.absolute_error = (float)dimensions * FLT_MIN;

    for (int64_t left = chosen(&source, 1, 3); left; left--) search_once(&source, &coded);
    multiply(&source, values.start, rows, dimensions);
    scan(&source, &coded);
    free(flips.all);
    free(offset.all);
    free(values.all);
    free(norms.all);
    free(codes.all);
    free(sample.all);
    free(neighbours.all);
    free(entries.all);
    free(words.all);
    return 0;
}
