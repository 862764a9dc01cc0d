/* Filters over a sealed column (`segment.columns`): which rows have one of some codes.

   Rules: reads and writes only the memory it is given. `CodeSet.mask` has the same in NumPy.
*/

#include <stdint.h>
#include <string.h>

#include "kernels.h"

enum {
    MASKED_ROWS = 4096, /* that stay near while all intervals pass by */
};

/* Write for each code whether it lies in an interval [start, stop) of `bounds`,
   (interval_count, 2). */
#define IN_INTERVALS(KIND, ATTRIBUTE)                                                              \
    ATTRIBUTE static void in_intervals_##KIND(const int32_t *codes, int64_t count,                 \
                                              const int32_t *bounds, int64_t interval_count,       \
                                              uint8_t *mask) {                                     \
        for (int64_t first = 0; first < count; first += MASKED_ROWS) {                             \
            const int64_t end = count - first < MASKED_ROWS ? count : first + MASKED_ROWS;         \
            memset(mask + first, 0, end - first);                                                  \
            for (int64_t at = 0; at < interval_count; at++) {                                      \
                const uint32_t start = bounds[2 * at], length = bounds[2 * at + 1] - start;        \
                for (int64_t row = first; row < end; row++)                                        \
                    mask[row] |= (uint32_t)codes[row] - start < length;                            \
            }                                                                                      \
        }                                                                                          \
    }

KINDS(IN_INTERVALS)

void vicinal_in_intervals(const int32_t *codes, int64_t count, const int32_t *bounds,
                          int64_t interval_count, uint8_t *mask) {
    BEST(in_intervals)(codes, count, bounds, interval_count, mask);
}
