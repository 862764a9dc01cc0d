/* libFuzzer's entry to lines.c: any text, in memory of exactly its length, read from where the
   last reading stopped. The first byte says how many dimensions there are. */

#include <stdlib.h>

#include "lines.c"
#include "powers.h" /* made by run.py */

enum { CAPACITY = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    int64_t dimensions = 1 + data[0] % 70, length = (int64_t)size - 1;
    char *text = malloc((size_t)length + (length == 0));
    float *values = malloc(CAPACITY * (size_t)dimensions * sizeof *values);
    LineRecord *records = malloc(CAPACITY * sizeof *records);
    memcpy(text, data + 1, (size_t)length);
    LineReader reader = {.text = text,
                         .powers = POWERS,
                         .size = length,
                         .dimensions = dimensions,
                         .records_max = CAPACITY,
                         .values = values,
                         .records = records};
    do {
        int64_t before = reader.position;
        vicinal_read_lines(&reader);
        if (reader.position < before || reader.position > length) abort();
        for (int64_t row = 0; row < reader.record_count; row++) {
            const LineRecord *each = records + row;
            if (each->start < before || each->end > reader.position || text[each->start] != '{' ||
                memchr(text + each->start, '\n', (size_t)(each->end - each->start)))
                abort();
            for (int64_t at = 0; at < dimensions; at++)
                if (!__builtin_isfinite(values[row * dimensions + at])) abort();
        }
    } while (reader.record_count == CAPACITY);
    free(text);
    free(values);
    free(records);
    return 0;
}
