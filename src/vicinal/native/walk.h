/* A walk through the graph of a large segment's codes (`ann.graph`), for `binary.c`.

   A walk begins at the entries, rows near all others, whose codes are nearest by their first words,
   and always goes on from the nearest rows that it has compared and not left yet, to all neighbours
   of these rows. `ann.walk` is the reference: same steps, same names, same rows in the same order.

   Rules: rows that a filter does not allow are walked through and not counted. A walk that would
   cost as much as comparing every code closes itself, and the caller does that.
*/

#ifndef VICINAL_WALK_H
#define VICINAL_WALK_H

#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "structures.h"

enum {
    SAMPLE_ROWS = 2048,            /* at most: as in `ann.hamming` */
    ENTRIES = 128,                 /* rows where a walk begins, each the nearest of a group */
    ENTRY_BITS = 32,               /* enough for the number of an entry */
    ENTRIES_BREADTH = 1024,        /* from which on all entries are compared: as in `ann.walk` */
    BEAM_WIDTH = 4,                /* rows that a walk goes on from at one time: as in `ann.walk` */
    BINS = 8 * CODE_BYTES_MAX + 2, /* one for each distance of the longest codes, and one more */
    WORD_BITS = 64,
};

/* All rows that a walk has compared, in that order. A bin is a list of those of one distance that
   it has not gone on from: the last is at its head, and -1 is its end. */
typedef struct {
    uint64_t *seen; /* a bit for each row */
    uint32_t *rows;
    uint16_t *hammings;
    int32_t *next;
    int64_t count, capacity;
    int32_t heads[BINS];
    int64_t nearest;      /* no bin before this one has any row */
    int64_t counts[BINS]; /* eligible rows of each distance */
    int64_t bound;        /* the least distance within which there are `breadth` eligible rows */
    int64_t within;       /* how many there are */
    int is_open;
} Walk;

static int is_filtered(const CodeSearch *search) { return search->allowed || search->tested; }

/* Tell whether the search may return a row, where it has no list. */
static int is_eligible(const CodeSearch *search, int64_t row) {
    if (search->allowed && !search->allowed[row]) return 0;
    if (!search->tested) return 1;
    const int32_t number = search->tested[row], *interval = search->intervals;
    for (int64_t at = 0; at < search->interval_count; at++, interval += 2)
        if (interval[0] <= number && number < interval[1]) return 1;
    return 0;
}

static int see(Walk *walk, uint32_t row) {
    const uint64_t bit = UINT64_C(1) << (row % WORD_BITS);
    if (walk->seen[row / WORD_BITS] & bit) return 0;
    walk->seen[row / WORD_BITS] |= bit;
    return 1;
}

/* Give the walk a capacity of this many rows more; return 0 if there is no memory. */
static int reserve_walk(Walk *walk, int64_t more) {
    if (walk->count + more <= walk->capacity) return 1;
    const int64_t capacity = 2 * (walk->count + more);
    uint32_t *rows = realloc(walk->rows, capacity * sizeof *rows);
    if (rows) walk->rows = rows;
    uint16_t *hammings = realloc(walk->hammings, capacity * sizeof *hammings);
    if (hammings) walk->hammings = hammings;
    int32_t *next = realloc(walk->next, capacity * sizeof *next);
    if (next) walk->next = next;
    if (!rows || !hammings || !next) return 0;
    walk->capacity = capacity;
    return 1;
}

/* Have memory bring what `compare_rows` reads of a row. */
static void fetch(const CodedRows *coded, const CodeSearch *search, uint32_t row) {
    const int64_t bytes = coded->projection.code_bytes;
    for (int64_t line = 0; line < bytes; line += LINE_BYTES)
        fetch_line(coded->codes + row * bytes + line);
    if (search->tested) fetch_line(search->tested + row);
}

/* Have memory bring what `go_on` reads of a row. */
static void fetch_neighbours(const CodedRows *coded, uint32_t row) {
    const uint32_t *neighbours = coded->neighbours + row * coded->neighbour_count;
    for (int64_t at = 0; at < coded->neighbour_count; at += LINE_BYTES / sizeof *neighbours)
        fetch_line(neighbours + at);
}

/* Compare rows that were not seen before; return 0 if there is no memory. */
static int compare_rows(Walk *walk, const CodedRows *coded, CodeSearch *search,
                        const uint32_t *rows, int64_t count) {
    if (!count) return 1;
    if (!reserve_walk(walk, count)) return 0;
    const int64_t lines = coded->projection.code_bytes / LINE_BYTES;
    uint16_t *hammings = walk->hammings + walk->count;
    BEST_POPCNT(listed_hammings)(coded->codes, rows, count, search->query_code, lines, hammings);
    search->compared_count += count;
    for (int64_t at = 0; at < count; at++) {
        const int64_t hamming = hammings[at];
        walk->rows[walk->count] = rows[at];
        walk->next[walk->count] = walk->heads[hamming];
        walk->heads[hamming] = (int32_t)walk->count++;
        if (hamming < walk->nearest) walk->nearest = hamming;
        if (hamming <= walk->bound) fetch_neighbours(coded, rows[at]);
        if (!is_eligible(search, rows[at])) continue;
        walk->counts[hamming]++;
        if (hamming > walk->bound) continue;
        walk->within++;
        while (walk->within - walk->counts[walk->bound] >= search->breadth)
            walk->within -= walk->counts[walk->bound--];
    }
    return 1;
}

/* Find the nearest row that the walk has not gone on from; return its distance, or BINS. */
static int64_t nearest_hamming(Walk *walk) {
    while (walk->nearest < BINS && walk->heads[walk->nearest] < 0) walk->nearest++;
    return walk->nearest;
}

/* Go on from the nearest rows within `limit`, at most BEAM_WIDTH: the codes of their neighbours are
   on their way at one time. Return 0 if there is no memory. */
static int go_on(Walk *walk, const CodedRows *coded, CodeSearch *search, int64_t limit) {
    const int64_t degree = coded->neighbour_count;
    uint32_t unseen[BEAM_WIDTH * NEIGHBOURS_MAX];
    int64_t count = 0;
    for (int64_t width = 0; width < BEAM_WIDTH; width++) {
        if (search->expanded_count == search->expanded_max || nearest_hamming(walk) > limit) break;
        const int32_t from = walk->heads[walk->nearest];
        const uint32_t *neighbours = coded->neighbours + walk->rows[from] * degree;
        walk->heads[walk->nearest] = walk->next[from];
        search->expanded_count++;
        for (int64_t at = 0; at < degree; at++) {
            const uint32_t row = neighbours[at];
            if (row >= coded->row_count || !see(walk, row)) continue;
            fetch(coded, search, row);
            unseen[count++] = row;
        }
    }
    return compare_rows(walk, coded, search, unseen, count);
}

/* Go on while there is a row within `limit`, or within the bound if that is negative; return 1,
   NO_MEMORY, or UNSETTLED when the walk has become too long and closed. */
static int walk_within(Walk *walk, const CodedRows *coded, CodeSearch *search, int64_t limit) {
    if (limit >= BINS) limit = BINS - 1;
    while (nearest_hamming(walk) <= (limit < 0 ? walk->bound : limit)) {
        if (search->expanded_count >= search->expanded_max) {
            walk->is_open = 0;
            return UNSETTLED;
        }
        if (!go_on(walk, coded, search, limit < 0 ? walk->bound : limit)) return NO_MEMORY;
    }
    return 1;
}

/* Where a list of entries begins, or ends for the one before it. */
static int64_t entry_start(const CodedRows *coded, int64_t list) {
    return list < coded->list_count ? coded->entry_starts[list] : coded->entry_count;
}

/* Return the least distance within which the lists' pivots have the share of the entries that is
   compared. */
static int64_t lists_limit(const CodedRows *coded, int64_t breadth, const int32_t *hammings) {
    const int64_t wanted =
        (coded->entry_count * breadth + ENTRIES_BREADTH - 1) / ENTRIES_BREADTH; /* at least 1 */
    int64_t counts[BINS] = {0}, sum = 0, limit = 0;
    for (int64_t list = 0; list < coded->list_count; list++)
        counts[hammings[list]] += entry_start(coded, list + 1) - entry_start(coded, list);
    while (limit < BINS - 1 && (sum += counts[limit]) < wanted) limit++;
    return limit;
}

/* Make entries from `start` to `end` the nearest of their groups where they are nearer than those
   before them; groups take turns. A key is a distance and, below it, the entry. */
INLINE void keep_nearer(const CodedRows *coded, const uint64_t *code, int64_t start, int64_t end,
                        int64_t *keys) {
    const uint64_t *words = coded->entry_words + start * ENTRY_WORDS;
    for (int64_t entry = start; entry < end; entry++, words += ENTRY_WORDS) {
        int64_t hamming = 0;
        for (int64_t word = 0; word < ENTRY_WORDS; word++)
            hamming += __builtin_popcountll(words[word] ^ code[word]);
        const int64_t key = hamming << ENTRY_BITS | entry, group = entry % ENTRIES;
        keys[group] = key < keys[group] ? key : keys[group];
    }
}

/* Of the lists whose pivots are within `limit` find the nearest entry of each group; of two that
   are as near the first. Write their keys; INT64_MAX for none. */
#define NEAREST_ENTRIES(NAME, ATTRIBUTE)                                                           \
    ATTRIBUTE static void NAME(const CodedRows *coded, const uint64_t *code, int64_t limit,        \
                               const int32_t *hammings, int64_t *keys) {                           \
        for (int64_t group = 0; group < ENTRIES; group++) keys[group] = INT64_MAX;                 \
        for (int64_t list = 0; list < coded->list_count; list++)                                   \
            if (hammings[list] <= limit)                                                           \
                keep_nearer(coded, code, entry_start(coded, list), entry_start(coded, list + 1),   \
                            keys);                                                                 \
    }

NEAREST_ENTRIES(nearest_entries_plain, )
#if defined(__x86_64__)
NEAREST_ENTRIES(nearest_entries_popcnt, TARGET("popcnt"))
NEAREST_ENTRIES(nearest_entries_shuffle, SHUFFLE)
NEAREST_ENTRIES(nearest_entries_vpopcnt, VPOPCNT)
#endif

/* See an entry and return it. Of one that is hidden the first neighbour that is not: without the
   entry that, or one like it, would be an entry. Return `row_count` if there is none. */
static uint32_t begin_at(Walk *walk, const CodedRows *coded, uint32_t entry) {
    const uint32_t *neighbours = coded->neighbours + entry * coded->neighbour_count;
    if (see(walk, entry)) return entry;
    for (int64_t at = 0; at < coded->neighbour_count; at++)
        if (neighbours[at] < coded->row_count && see(walk, neighbours[at])) return neighbours[at];
    return (uint32_t)coded->row_count;
}

/* Begin a walk; return 1 or NO_MEMORY. */
static int begin_walk(Walk *walk, const CodedRows *coded, CodeSearch *search) {
    int64_t keys[ENTRIES];
    uint64_t code[ENTRY_WORDS];
    uint32_t entries[ENTRIES];
    int32_t hammings[LISTS_MAX];
    int64_t count = 0;
    walk->seen = calloc(coded->row_count / WORD_BITS + 1, sizeof *walk->seen);
    if (!walk->seen) return NO_MEMORY;
    memset(walk->heads, -1, sizeof walk->heads);
    walk->nearest = BINS;
    walk->bound = 8 * coded->projection.code_bytes;
    walk->is_open = 1;
    for (int64_t at = 0; at < search->hidden_count; at++) see(walk, (uint32_t)search->hidden[at]);
    memcpy(code, search->query_code, sizeof code);
    BEST_POPCNT(hammings)(coded->pivot_codes, coded->list_count, search->query_code,
                          coded->projection.code_bytes / LINE_BYTES, hammings);
    const int64_t limit = lists_limit(coded, search->breadth, hammings);
    BEST_POPCNT(nearest_entries)(coded, code, limit, hammings, keys);
    for (int64_t group = 0; group < ENTRIES; group++) {
        if (keys[group] == INT64_MAX) continue;
        const int64_t entry = keys[group] & ((INT64_C(1) << ENTRY_BITS) - 1);
        const uint32_t row = begin_at(walk, coded, coded->entries[entry]);
        if (row >= coded->row_count) continue;
        fetch(coded, search, row);
        entries[count++] = row;
    }
    return compare_rows(walk, coded, search, entries, count) ? 1 : NO_MEMORY;
}

static void end_walk(Walk *walk) {
    free(walk->seen);
    free(walk->rows);
    free(walk->hammings);
    free(walk->next);
}

#endif
