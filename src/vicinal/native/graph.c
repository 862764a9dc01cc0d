/* The graph of a large segment's codes (`ann.graph`): its parts that touch every code.

   `ann.graph` says in which order they are called, and how rows are divided into parts.
   `tests/unit/ann/test_graph.py` has the same in a few lines of Python.

   Rules: reads and writes only the memory it is given. Rows are told apart by their numbers alone,
   so the same codes and parts make the same graph on every machine.
*/

#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "structures.h"

/* Write the nearest `wanted` of some pivots for each listed row, the nearest first; of pivots that
   tie the first. Return 0 or NO_MEMORY. */
int64_t vicinal_nearest_pivots(const Graph *graph, const uint32_t *rows, int64_t count,
                               const uint8_t *pivots, int64_t pivot_count, int64_t wanted,
                               uint16_t *nearest) {
    const int64_t bytes = graph->code_bytes;
    int32_t *hammings = malloc(pivot_count * sizeof *hammings);
    if (!hammings) return NO_MEMORY;
    for (int64_t at = 0; at < count; at++, nearest += wanted) {
        int64_t kept = 0;
        BEST_POPCNT(hammings)(pivots, pivot_count, graph->row_codes + rows[at] * bytes,
                              bytes / LINE_BYTES, hammings);
        for (int64_t pivot = 0; pivot < pivot_count; pivot++) {
            if (kept == wanted && hammings[pivot] >= hammings[nearest[kept - 1]]) continue;
            int64_t to = kept < wanted ? kept++ : kept - 1;
            for (; to && hammings[nearest[to - 1]] > hammings[pivot]; to--)
                nearest[to] = nearest[to - 1];
            nearest[to] = (uint16_t)pivot;
        }
    }
    free(hammings);
    return 0;
}

/* The distance below which a row takes a neighbour: that of its farthest, once it has all it may.
 */
static int32_t bound_of(const Graph *graph, uint32_t row) {
    const int64_t degree = graph->neighbour_count;
    return graph->counts[row] < degree ? INT32_MAX : graph->hammings[(row + 1) * degree - 1];
}

/* Make one row a neighbour of another, nearer than the bound of that; return its bound then. */
static int32_t link_row(Graph *graph, uint32_t row, uint32_t other, int32_t hamming) {
    const int64_t degree = graph->neighbour_count;
    uint32_t *neighbours = graph->neighbours + row * degree;
    uint16_t *hammings = graph->hammings + row * degree;
    int64_t count = graph->counts[row], to = count;
    while (to && hammings[to - 1] > hamming) to--;
    for (int64_t at = to; at && hammings[at - 1] == hamming; at--) /* a row has one distance */
        if (neighbours[at - 1] == other) return bound_of(graph, row);
    if (count < degree) graph->counts[row] = (uint8_t)++count;
    memmove(hammings + to + 1, hammings + to, (count - 1 - to) * sizeof *hammings);
    memmove(neighbours + to + 1, neighbours + to, (count - 1 - to) * sizeof *neighbours);
    hammings[to] = (uint16_t)hamming;
    neighbours[to] = other;
    return bound_of(graph, row);
}

/* Compare all rows of a part with each other, and make the nearest neighbours. Return 0 or
   NO_MEMORY. Codes and bounds are copied to lie side by side: most pairs are too far apart, and
   nothing else of them is read. */
int64_t vicinal_link_part(Graph *graph, const uint32_t *rows, int64_t count) {
    const int64_t bytes = graph->code_bytes;
    uint8_t *codes = malloc(count * bytes);
    int32_t *hammings = malloc(2 * count * sizeof *hammings), *bounds = hammings + count;
    const int has_memory = codes && hammings;
    for (int64_t at = 0; has_memory && at < count; at++) {
        memcpy(codes + at * bytes, graph->row_codes + rows[at] * bytes, bytes);
        bounds[at] = bound_of(graph, rows[at]);
    }
    for (int64_t at = 0; has_memory && at < count; at++) {
        BEST_POPCNT(hammings)(codes + at * bytes, count - at, codes + at * bytes,
                              bytes / LINE_BYTES, hammings);
        for (int64_t other = at + 1; other < count; other++) {
            const int32_t hamming = hammings[other - at];
            if (hamming < bounds[at]) bounds[at] = link_row(graph, rows[at], rows[other], hamming);
            if (hamming < bounds[other])
                bounds[other] = link_row(graph, rows[other], rows[at], hamming);
        }
    }
    free(codes);
    free(hammings);
    return has_memory ? 0 : NO_MEMORY;
}

enum {
    AT_ONCE = 4, /* kept rows that are compared before looking whether one of them is near */
};

/* Of the neighbours of rows `start` to `end` keep at most `kept_max`, the nearest first: none that
   is much nearer to one that was kept than to the row. `ratio` says what is much. */
void vicinal_prune(Graph *graph, int64_t start, int64_t end, double ratio) {
    const int64_t degree = graph->neighbour_count, bytes = graph->code_bytes;
    for (int64_t row = start; row < end; row++) {
        uint32_t *neighbours = graph->neighbours + row * degree;
        uint16_t *hammings = graph->hammings + row * degree, between[NEIGHBOURS_MAX];
        int64_t kept = 0;
        for (int64_t at = 0; at < graph->counts[row] && kept < graph->kept_max; at++) {
            int64_t near = 0;
            for (int64_t compared = 0; compared < kept && near == compared; compared += AT_ONCE) {
                const int64_t some = kept - compared < AT_ONCE ? kept - compared : AT_ONCE;
                BEST_POPCNT(listed_hammings)(graph->row_codes, neighbours + compared, some,
                                             graph->row_codes + neighbours[at] * bytes,
                                             bytes / LINE_BYTES, between + compared);
                while (near < compared + some && ratio * between[near] >= hammings[at]) near++;
            }
            if (near < kept) continue;
            neighbours[kept] = neighbours[at];
            hammings[kept++] = hammings[at];
        }
        graph->counts[row] = (uint8_t)kept;
    }
}

/* Make each row a neighbour of the neighbours that it has kept, where there is space; `kept` is how
   many these are. Rows without space get the row in place of one that they got like this, in turn.
   Then fill up with the row itself. */
void vicinal_link_back(Graph *graph, const uint8_t *kept) {
    const int64_t degree = graph->neighbour_count;
    for (int64_t row = 0; row < graph->row_count; row++)
        for (int64_t at = 0; at < kept[row]; at++) {
            const uint32_t other = graph->neighbours[row * degree + at];
            uint32_t *neighbours = graph->neighbours + other * degree;
            int64_t count = graph->counts[other], same = 0;
            while (same < count && neighbours[same] != row) same++;
            if (same < count) continue;
            if (count < degree)
                neighbours[graph->counts[other]++] = (uint32_t)row;
            else if (kept[other] < degree)
                neighbours[kept[other] + row % (degree - kept[other])] = (uint32_t)row;
        }
    for (int64_t row = 0; row < graph->row_count; row++)
        for (int64_t at = graph->counts[row]; at < degree; at++)
            graph->neighbours[row * degree + at] = (uint32_t)row;
}

/* Choose rows such that each row is one of them, or is a neighbour of one or of one of its first
   `further` neighbours; return how many. `covered` (row_count,) is zero; `entries` has space for
   all rows. */
int64_t vicinal_cover(const Graph *graph, int64_t further, uint8_t *covered, uint32_t *entries) {
    const int64_t degree = graph->neighbour_count;
    int64_t count = 0;
    for (int64_t row = 0; row < graph->row_count; row++) {
        if (covered[row]) continue;
        entries[count++] = (uint32_t)row;
        covered[row] = 1;
        const uint32_t *neighbours = graph->neighbours + row * degree;
        for (int64_t at = 0; at < degree; at++) {
            covered[neighbours[at]] = 1;
            if (at >= further) continue;
            const uint32_t *beyond = graph->neighbours + neighbours[at] * degree;
            for (int64_t to = 0; to < degree; to++) covered[beyond[to]] = 1;
        }
    }
    return count;
}
