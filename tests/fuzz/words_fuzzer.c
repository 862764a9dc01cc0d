/* libFuzzer's entry to words.c: a text column whose arrays have exactly the lengths that it says,
   with numbers of any size in them, or ones that are right. Of a right column the best rows must be
   those with the best scores. */

#include <stdlib.h>

#include "words.c"

enum { TERMS_MAX = 6, ROWS_MAX = 5000, POSTINGS_MAX = 64 };

static const uint8_t *input;
static size_t input_size;

static uint64_t number(uint64_t below) {
    uint64_t value = 0;
    for (int byte = 0; byte < 2; byte++)
        if (input_size) value = value << 8 | *input++, input_size--;
    return value % below;
}

static void *array(size_t count, size_t size) { return calloc(count + !count, size); }

/* Compares with scores of all rows; the search may return more than the best. */
static void check(WordSearch *search) {
    const int64_t count = search->row_count;
    int64_t *rows = array(count, sizeof *rows), better = 0, at = 0;
    double *scores = array(count, sizeof *scores);
    for (int64_t row = 0; row < count; row++) rows[row] = row;
    vicinal_word_scores(search, rows, count, scores);
    const double least = needed(search);
    for (int64_t row = 0; row < count; row++) {
        if (search->allowed && !search->allowed[row]) continue;
        better += scores[row] > least;
        if (scores[row] <= 0.0 || scores[row] < least) continue;
        if (at == search->found_count || search->rows[at] != row) abort();
        if (search->scores[at++] != scores[row]) abort();
    }
    if (at != search->found_count || better > search->k) abort();
    free(rows);
    free(scores);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input = data, input_size = size;
    const int is_right = (int)number(2), has_dead = (int)number(2);
    const int64_t term_count = 1 + (int64_t)number(TERMS_MAX),
                  row_count = 1 + (int64_t)number(ROWS_MAX);
    const uint64_t byte_count = (uint64_t)term_count;
    uint64_t *offsets = array(term_count + 1, sizeof *offsets);
    uint64_t *starts = array(term_count + 1, sizeof *starts), posting_count = 0;
    char *bytes = array(byte_count, 1);
    for (int64_t term = 0; term < term_count; term++) {
        bytes[term] = (char)('a' + term);
        offsets[term + 1] = term + 1;
        posting_count += number(POSTINGS_MAX);
        starts[term + 1] = posting_count;
    }
    uint32_t *rows = array(posting_count, sizeof *rows),
             *lengths = array(row_count, sizeof *lengths);
    uint16_t *counts = array(posting_count, sizeof *counts);
    uint8_t *live = array(row_count, 1);
    for (int64_t row = 0; row < row_count; row++)
        lengths[row] = 1 + (uint32_t)number(9), live[row] = 1;
    for (int64_t term = 0; term < term_count; term++) {
        int64_t row = -1;
        for (uint64_t at = starts[term]; at < starts[term + 1]; at++) {
            row += 1 + (int64_t)number(1 + row_count / POSTINGS_MAX);
            if (row >= row_count) { /* no rows are left */
                starts[term + 1] = at;
                break;
            }
            counts[at] = 1 + (uint16_t)number(3);
            rows[at] = (uint32_t)row;
        }
    }
    if (!is_right)
        for (uint64_t left = number(6); left; left--) {
            const uint64_t value = number(7) * 0x2492492492492492u + number(1000);
            switch (number(4)) {
            case 0: offsets[number(term_count + 1)] = value; break;
            case 1: starts[number(term_count + 1)] = value; break;
            case 2:
                if (posting_count) rows[number(posting_count)] = (uint32_t)value;
                break;
            default:
                if (posting_count) counts[number(posting_count)] = (uint16_t)value;
            }
        }
    if (has_dead)
        for (uint64_t left = number(50); left; left--) live[number(row_count)] = 0;
    TermTable table = {.term_offsets = offsets,
                       .term_bytes = bytes,
                       .starts = starts,
                       .rows = rows,
                       .counts = counts,
                       .lengths = lengths,
                       .term_count = term_count,
                       .byte_count = (int64_t)byte_count,
                       .posting_count = (int64_t)posting_count,
                       .row_count = row_count,
                       .length_min = 1};
    int64_t ends[TERMS_MAX], frequencies[TERMS_MAX], asked = 1 + (int64_t)number(TERMS_MAX);
    char words[TERMS_MAX];
    double weights[TERMS_MAX], scales[TERMS_MAX], weight = 9.0;
    TermPostings terms[TERMS_MAX];
    for (int64_t at = 0; at < asked; at++) {
        words[at] = (char)('a' + (at + number(2)) % 7), ends[at] = at + 1;
        weight /= 1.0 + (double)number(40) / 10.0;
        weights[at] = weight, scales[at] = 0.1;
    }
    vicinal_find_terms(&table, has_dead ? live : NULL, words, ends, asked, terms, frequencies);
    WordSearch search = {.terms = terms,
                         .weights = weights,
                         .scales = scales,
                         .term_count = asked,
                         .row_count = row_count,
                         .allowed = has_dead ? live : NULL,
                         .constant = 0.3,
                         .k = 1 + (int64_t)number(12),
                         .capacity = row_count};
    search.best = array(search.k, sizeof *search.best);
    search.rows = array(search.capacity, sizeof *search.rows);
    search.scores = array(search.capacity, sizeof *search.scores);
    vicinal_best_words(&search);
    if (is_right) check(&search);
    free(search.best), free(search.rows), free(search.scores);
    free(offsets), free(starts), free(bytes), free(rows), free(lengths), free(counts), free(live);
    return 0;
}
