/* Keyword search in one view: the postings of terms, and the rows with the best scores.

   `engine.text_search` says what is searched, and has the same in a few lines of NumPy, which is
   used without a compiler. `keywords.bm25` has the formula.

   Terms come with the heaviest first, in the same order for all views, and what they add to a score
   is added in this order: equal documents have the same score to the last bit, wherever they are.

   A search adds up scores in a window of rows at a time. Once k rows have a score, terms that
   could not bring a row to the k-th best by themselves (the last ones, common words) lead to no
   rows; their postings are only looked up for rows that other terms lead to, and only as long as
   these may still be among the best (MaxScore: Turtle and Flood, 1995).

   Rules: reads and writes only what it is given, also where the arrays of a column are damaged;
   keeps nothing.
*/

#include <string.h>

#include "structures.h"

enum { WINDOW = 4096 }; /* rows; their scores fit into the nearest cache */

/* More than sums of float64 in another order may differ. */
static const double ROUNDING = 1.0 + 1e-9;

static inline uint32_t row_at(const TermPostings *term, int64_t at) {
    uint32_t row;
    memcpy(&row, term->rows + at * term->row_step, sizeof row);
    return row;
}

static inline uint16_t count_at(const TermPostings *term, int64_t at) {
    uint16_t count;
    memcpy(&count, term->counts + at * term->count_step, sizeof count);
    return count;
}

/* The part of the score of a row that a term adds which the row has `count` times. */
static inline double part(double weight, double scale, double constant, double count,
                          double length) {
    return weight * (count / (length * scale + constant + count));
}

static inline double part_at(const WordSearch *search, int64_t number, int64_t at, uint32_t row) {
    const TermPostings *term = search->terms + number;
    return part(search->weights[number], search->scales[number], search->constant,
                count_at(term, at), term->lengths[row]);
}

/* Find a term in a column; returns its number, or -1. */
static int64_t number_of(const TermTable *table, const char *term, int64_t size) {
    int64_t low = 0, high = table->term_count;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        const uint64_t start = table->term_offsets[middle], end = table->term_offsets[middle + 1];
        if (start > end || end > (uint64_t)table->byte_count) return -1;
        const int64_t length = (int64_t)(end - start), shared = length < size ? length : size;
        const int order = memcmp(table->term_bytes + start, term, (size_t)shared);
        if (order == 0 && length == size) return middle;
        if (order < 0 || (order == 0 && length < size))
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

/* Find the postings of terms, whose bytes lie one after another, and end at `ends`. Write how many
   live rows each term has to `frequencies`; `live` of NULL: all rows. */
void vicinal_find_terms(const TermTable *table, const uint8_t *live, const char *bytes,
                        const int64_t *ends, int64_t count, TermPostings *terms,
                        int64_t *frequencies) {
    int64_t start = 0;
    for (int64_t item = 0; item < count; start = ends[item++]) {
        const int64_t number = number_of(table, bytes + start, ends[item] - start);
        TermPostings *term = terms + item;
        memset(term, 0, sizeof *term);
        frequencies[item] = 0;
        if (number < 0) continue;
        const uint64_t first = table->starts[number], last = table->starts[number + 1];
        if (first > last || last > (uint64_t)table->posting_count) continue;
        *term = (TermPostings){.rows = (const char *)(table->rows + first),
                               .counts = (const char *)(table->counts + first),
                               .lengths = table->lengths,
                               .count = (int64_t)(last - first),
                               .row_step = sizeof *table->rows,
                               .count_step = sizeof *table->counts,
                               .length_min = table->length_min};
        frequencies[item] = term->count;
        if (!live) continue;
        frequencies[item] = 0;
        for (uint64_t at = first; at < last; at++)
            frequencies[item] += table->rows[at] < table->row_count && live[table->rows[at]];
    }
}

/* The first posting from `position` on whose row is not before `row`. */
static int64_t position_of(const TermPostings *term, int64_t row) {
    int64_t low = term->position, high, step = 1;
    if (low >= term->count || row_at(term, low) >= row) return low;
    while (low + step < term->count && row_at(term, low + step) < row) step *= 2;
    high = low + step < term->count ? low + step : term->count;
    low += step / 2; /* its row is before */
    while (low + 1 < high) {
        const int64_t middle = low + (high - low) / 2;
        if (row_at(term, middle) < row)
            low = middle;
        else
            high = middle;
    }
    return high;
}

/* The score that a row needs to be among the best. */
static inline double needed(const WordSearch *search) {
    return search->best_count == search->k ? search->best[0] : 0.0;
}

/* Puts a score among the k best, of which best[0] is the worst. */
static void keep(WordSearch *search, double score) {
    double *best = search->best;
    int64_t at, child;
    if (search->best_count < search->k) {
        for (at = search->best_count++; at && best[(at - 1) / 2] > score; at = (at - 1) / 2)
            best[at] = best[(at - 1) / 2];
        best[at] = score;
        return;
    }
    for (at = 0; (child = 2 * at + 1) < search->k; at = child) {
        if (child + 1 < search->k && best[child + 1] < best[child]) child++;
        if (best[child] >= score) break;
        best[at] = best[child];
    }
    best[at] = score;
}

static uint16_t most_count(const TermPostings *term) {
    uint16_t most = 0;
    if (term->count_step == sizeof most) { /* in steps that the compiler knows: many at a time */
        const uint16_t *counts = (const uint16_t *)term->counts;
        for (int64_t at = 0; at < term->count; at++) most = counts[at] > most ? counts[at] : most;
        return most;
    }
    for (int64_t at = 0; at < term->count; at++)
        if (count_at(term, at) > most) most = count_at(term, at);
    return most;
}

/* Finds for each term what it adds at most, alone and with those after it. */
static void bound(WordSearch *search) {
    double left = 0.0;
    for (int64_t number = search->term_count - 1; number >= 0; number--) {
        TermPostings *term = search->terms + number;
        const uint16_t most = most_count(term);
        term->position = 0;
        term->most = most ? part(search->weights[number], search->scales[number], search->constant,
                                 most, (double)term->length_min)
                          : 0.0;
        left += term->most * ROUNDING;
        term->most_left = left;
    }
}

/* Adds up what the first `leading` terms give to the rows of a window; marks these rows. */
static void add_up(WordSearch *search, int64_t leading, int64_t start, double *scores,
                   uint64_t *is_marked) {
    const int64_t end = start + WINDOW < search->row_count ? start + WINDOW : search->row_count;
    for (int64_t number = 0; number < leading; number++) {
        TermPostings *term = search->terms + number;
        int64_t at = position_of(term, start);
        const int64_t first = at;
        for (; at < term->count; at++) {
            const int64_t row = row_at(term, at), slot = row - start;
            if (row >= end || slot < 0) break;
            scores[slot] += part_at(search, number, at, (uint32_t)row);
            is_marked[slot / 64] |= (uint64_t)1 << slot % 64;
        }
        search->posting_count += at - first;
        term->position = at;
    }
}

/* Adds what the terms after the leading ones give to a row, as long as it may be among the best. */
static void complete(WordSearch *search, int64_t leading, int64_t row, double score) {
    search->scored_count++;
    for (int64_t number = leading; number < search->term_count; number++) {
        TermPostings *term = search->terms + number;
        if (score + term->most_left < needed(search)) return;
        term->position = position_of(term, row);
        if (term->position == term->count || row_at(term, term->position) != row) continue;
        score += part_at(search, number, term->position, (uint32_t)row);
        search->posting_count++;
    }
    if (score <= 0.0 || score < needed(search) || search->found_count == search->capacity) return;
    search->rows[search->found_count] = row;
    search->scores[search->found_count++] = score;
    if (search->best_count < search->k || score > search->best[0]) keep(search, score);
}

/* Find the rows of which none has less than the k-th best score of this and earlier views. */
void vicinal_best_words(WordSearch *search) {
    double scores[WINDOW] = {0.0};
    uint64_t is_marked[WINDOW / 64] = {0};
    int64_t leading = search->term_count;
    search->found_count = search->scored_count = search->posting_count = 0;
    bound(search);
    for (;;) {
        int64_t start = search->row_count;
        while (leading && search->terms[leading - 1].most_left < needed(search)) leading--;
        for (int64_t number = 0; number < leading; number++) {
            const TermPostings *term = search->terms + number;
            if (term->position == term->count) continue;
            const int64_t row = row_at(term, term->position);
            if (row < start) start = row;
        }
        if (start == search->row_count) break;
        add_up(search, leading, start, scores, is_marked);
        for (int64_t word = 0; word < WINDOW / 64; word++)
            for (; is_marked[word]; is_marked[word] &= is_marked[word] - 1) {
                const int64_t slot = 64 * word + __builtin_ctzll(is_marked[word]);
                const double score = scores[slot];
                scores[slot] = 0.0;
                if (!search->allowed || search->allowed[start + slot])
                    complete(search, leading, start + slot, score);
            }
    }
    int64_t kept = 0;
    for (int64_t at = 0; at < search->found_count; at++)
        if (search->scores[at] >= needed(search)) {
            search->rows[kept] = search->rows[at];
            search->scores[kept++] = search->scores[at];
        }
    search->found_count = kept;
}

/* Write the scores of rows, which ascend. */
void vicinal_word_scores(WordSearch *search, const int64_t *rows, int64_t count, double *scores) {
    memset(scores, 0, (size_t)count * sizeof *scores);
    for (int64_t number = 0; number < search->term_count; number++) {
        TermPostings *term = search->terms + number;
        term->position = 0;
        for (int64_t item = 0; item < count; item++) {
            term->position = position_of(term, rows[item]);
            if (term->position == term->count) break;
            if (row_at(term, term->position) == rows[item])
                scores[item] += part_at(search, number, term->position, (uint32_t)rows[item]);
        }
    }
}
