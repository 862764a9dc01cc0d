/* Vector records on lines of NDJSON, read without the interpreter's lock.

   Records as clients usually send them are read here: an object on one line with the members `id`,
   `values`, `namespace` and `metadata`, each at most once, names and ids without escapes, and
   as many finite numbers (`numbers.h`) as the index has dimensions. At any other line, right or
   wrong, reading stops before it, and `wire/vectors.py` reads it, with reasons. A record that is
   read here has the same meaning there (tests/unit/wire/test_lines.py).

   Rules: C11 as gcc and clang have it; reads and writes only what it is given; keeps nothing.
*/

#include "numbers.h"
#include "structures.h"

/* Passes over a string without escapes; returns where it ends, or NULL. */
static const char *plain_string(const char *at, const char *end) {
    if (at == end || *at++ != '"') return NULL;
    while (at < end && *at != '"') {
        if (*at == '\\' || (unsigned char)*at < 0x20) return NULL;
        at++;
    }
    return at < end ? at + 1 : NULL;
}

/* Passes over an object, looking at its brackets and strings alone; returns its end, or NULL. */
static const char *object_end(const char *at, const char *end) {
    int64_t depth = 0;
    if (at == end || *at != '{') return NULL;
    for (; at < end; at++) {
        if (*at == '"') {
            for (at++; at < end && *at != '"'; at++) at += *at == '\\' && at + 1 < end;
            if (at == end) return NULL;
        } else if (*at == '{' || *at == '[') {
            depth++;
        } else if ((*at == '}' || *at == ']') && --depth == 0) {
            return at + 1;
        }
    }
    return NULL;
}

static inline int is_null(const char *at, const char *end) {
    return end - at >= 4 && memcmp(at, "null", 4) == 0;
}

/* Reads one member's value. Returns where it ends, or NULL. */
static const char *read_member(const char *at, const char *end, const char *name, int64_t length,
                               const LineReader *reader, float *values, LineRecord *record,
                               unsigned *seen) {
    const char *text = reader->text, *stop;
    unsigned bit;
    if (length == 2 && memcmp(name, "id", 2) == 0) {
        bit = 1;
        stop = plain_string(at, end);
        if (stop == NULL || stop - at == 2) /* an empty id */
            return NULL;
        record->id = at + 1 - text, record->id_end = stop - 1 - text;
    } else if (length == 6 && memcmp(name, "values", 6) == 0) {
        bit = 2;
        stop = read_array(at, end, text, reader->powers, reader->dimensions, values);
    } else if (length == 9 && memcmp(name, "namespace", 9) == 0) {
        bit = 4;
        stop = is_null(at, end) ? at + 4 : plain_string(at, end);
        if (stop != NULL && *at == '"')
            record->namespace = at + 1 - text, record->namespace_end = stop - 1 - text;
    } else if (length == 8 && memcmp(name, "metadata", 8) == 0) {
        bit = 8;
        stop = is_null(at, end) ? at + 4 : object_end(at, end);
        if (stop != NULL && *at == '{')
            record->metadata = at - text, record->metadata_end = stop - text;
    } else {
        return NULL;
    }
    if (*seen & bit) return NULL;
    *seen |= bit;
    return stop;
}

/* Reads the record that starts at `at`, of a line that ends at `end`; returns where its text ends,
   or NULL. */
static const char *read_record(const char *at, const char *end, const LineReader *reader,
                               float *values, LineRecord *record) {
    unsigned seen = 0;
    char separator;
    memset(record, 0, sizeof *record);
    record->start = at - reader->text;
    if (*at++ != '{') return NULL;
    do {
        const char *name = solid(at, end);
        at = plain_string(name, end);
        if (at == NULL) return NULL;
        int64_t length = at - name - 2;
        at = solid(at, end);
        if (at == end || *at++ != ':') return NULL;
        at = read_member(solid(at, end), end, name + 1, length, reader, values, record, &seen);
        if (at == NULL) return NULL;
        at = solid(at, end);
        if (at == end) return NULL;
        separator = *at++;
    } while (separator == ',');
    return separator == '}' && (seen & 3) == 3 ? at : NULL;
}

/* Reads records until there are `records_max`, the text ends, or one is left to Python. */
void vicinal_read_lines(LineReader *reader) {
    const char *end = reader->text + reader->size, *at = reader->text + reader->position;
    reader->record_count = reader->line_end_count = 0;
    while (reader->record_count < reader->records_max) {
        while (at < end && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n'))
            reader->line_end_count += *at++ == '\n';
        reader->position = at - reader->text;
        if (at == end) return;
        float *values = reader->values + reader->record_count * reader->dimensions;
        LineRecord *record = reader->records + reader->record_count;
        /* Nothing looks beyond the line: else each would cost as much as all that follow it. */
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        if (line_end == NULL) line_end = end;
        at = read_record(at, line_end, reader, values, record);
        if (at == NULL) return;
        at = solid(at, line_end);
        if (at < line_end) return;
        record->end = reader->position = at - reader->text;
        reader->record_count++;
    }
}
