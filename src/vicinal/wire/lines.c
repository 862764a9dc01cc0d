/* Vector records on lines of NDJSON, read without the interpreter's lock.

   Only what clients usually send is read here: an object on one line with the members `id`,
   `values`, `namespace` and `metadata`, each at most once, names and ids without escapes, and
   as many finite numbers as the index has dimensions. At anything else, right or wrong, reading
   stops before that line, and `vectors.py` reads it, with reasons. What is read here has the
   same meaning there (tests/unit/wire/test_lines.py).

   Numbers become the nearest float64 and that the nearest float32, as everywhere. They are found
   as D. Lemire describes in "Number Parsing at a Gigabyte per Second" (2021), with the powers of
   ten that `lines.py` computes; where that does not settle the last bit, reading stops, too.

   Rules: C11 as gcc and clang have it; reads and writes only what it is given; keeps nothing.
*/

#include <stdint.h>
#include <string.h>

enum {
    EXPONENT_MIN = -65, /* powers of ten outside of these are left to Python */
    EXPONENT_MAX = 40,
    EXACT_EXPONENT_MAX = 22, /* 10^22 is the largest power that is a float64 */
    DIGITS_MAX = 19,         /* any number of so many digits fits into 64 bits */
};
#define EXACT_MANTISSA_MAX (UINT64_C(1) << 53)

typedef struct {
    uint64_t high, low; /* the first 128 bits of a power of ten, the first one set */
} Power;

/* Where a record's line and its members are in the text; members that are not there are empty. */
typedef struct {
    int64_t start, end;
    int64_t id, id_end, namespace, namespace_end, metadata, metadata_end;
} Record;

/* What is read, and how far. */
typedef struct {
    const char *text;
    const Power *powers; /* of EXPONENT_MIN to EXPONENT_MAX */
    int64_t size, dimensions, capacity;
    float *values;    /* (capacity, dimensions), written */
    Record *records;  /* (capacity,), written */
    int64_t position; /* where to begin; then, where the first line not read here does */
    int64_t count;    /* written */
} Lines;

static const double EXACT_POWERS[EXACT_EXPONENT_MAX + 1] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
};

static inline int is_digit(char each)
{
    return (unsigned char)(each - '0') < 10;
}

/* Passes over white space within a line. */
static inline const char *solid(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r'))
        at++;
    return at;
}

/* Passes over digits, eight at a time, each a byte of a word; appends them to `mantissa`. */
static inline const char *read_digits(const char *at, const char *end, uint64_t *mantissa)
{
    static const uint64_t TENS[8] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000};
    while (end - at >= 8) {
        uint64_t eight;
        memcpy(&eight, at, sizeof eight);
        if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)
            eight = __builtin_bswap64(eight);
        eight ^= UINT64_C(0x3030303030303030); /* a digit is its value now, all else is above 9 */
        uint64_t others =
            ((eight + UINT64_C(0x7676767676767676)) | eight) & UINT64_C(0x8080808080808080);
        int count = others ? __builtin_ctzll(others) >> 3 : 8;
        if (count == 0)
            return at;
        eight <<= 64 - 8 * count; /* zeros in front */
        eight = 10 * eight + (eight >> 8);
        eight = ((eight & UINT64_C(0xFF000000FF)) * UINT64_C(0xF424000000064) +
                 (eight >> 16 & UINT64_C(0xFF000000FF)) * UINT64_C(0x271000000001)) >> 32;
        *mantissa = *mantissa * (count == 8 ? 100000000 : TENS[count]) + (uint32_t)eight;
        at += count;
        if (count < 8)
            return at;
    }
    while (at < end && is_digit(*at))
        *mantissa = 10 * *mantissa + (uint64_t)(*at++ - '0');
    return at;
}

/* Sets `number` to mantissa x 10^exponent, correctly rounded; returns 0 if it is not settled. */
static int nearest(uint64_t mantissa, int64_t exponent, const Power *powers, double *number)
{
    if (mantissa <= EXACT_MANTISSA_MAX && exponent >= -EXACT_EXPONENT_MAX &&
        exponent <= EXACT_EXPONENT_MAX) {
        *number = exponent < 0 ? (double)mantissa / EXACT_POWERS[-exponent]
                               : (double)mantissa * EXACT_POWERS[exponent];
        return 1;
    }
    if (mantissa == 0) {
        *number = 0.0;
        return 1;
    }
    if (exponent < EXPONENT_MIN || exponent > EXPONENT_MAX)
        return 0;
    int shift = __builtin_clzll(mantissa);
    const Power *power = powers + (exponent - EXPONENT_MIN);
    unsigned __int128 product = (unsigned __int128)(mantissa << shift) * power->high;
    uint64_t high = (uint64_t)(product >> 64), low = (uint64_t)product;
    if ((high & 0x1FF) == 0x1FF) { /* the rest of the power may reach the bits that count */
        uint64_t rest = (uint64_t)(((unsigned __int128)(mantissa << shift) * power->low) >> 64);
        low += rest;
        high += low < rest;
    }
    int top = (int)(high >> 63);
    uint64_t rounded = high >> (top + 9); /* 54 bits: one more than a float64 has */
    uint64_t beyond = high << (55 - top);
    /* A tie, as far as can be told, or so close below that the error may carry. */
    if ((beyond == 0 && low <= 1 && (rounded & 1)) ||
        (beyond == UINT64_MAX << (55 - top) && low >= UINT64_MAX - 1))
        return 0;
    rounded = (rounded + (rounded & 1)) >> 1;
    int64_t power_of_two = ((217706 * exponent) >> 16) + 11 - shift + top;
    /* One that was rounded up to 2^53 carries into the exponent, as it should. */
    uint64_t bits = ((uint64_t)(power_of_two + 1075) << 52) + (rounded - (UINT64_C(1) << 52));
    memcpy(number, &bits, sizeof bits);
    return 1;
}

/* Reads a number; returns where it ends, or NULL if it is left to Python. */
static const char *read_number(const char *at, const char *end, const Power *powers, float *found)
{
    int is_negative = at < end && *at == '-';
    at += is_negative;
    if (at == end || !is_digit(*at))
        return NULL;
    const char *start = at;
    uint64_t mantissa = 0;
    int64_t exponent = 0, digits;
    int is_integer = 1;
    while (at < end && is_digit(*at))
        mantissa = 10 * mantissa + (uint64_t)(*at++ - '0');
    digits = at - start;
    if (digits > 1 && *start == '0')
        return NULL;
    if (at < end && *at == '.') {
        const char *fraction = ++at;
        is_integer = 0;
        at = read_digits(at, end, &mantissa);
        exponent = fraction - at;
        if (exponent == 0)
            return NULL;
        digits -= exponent;
        if (digits > DIGITS_MAX) { /* zeros in front do not count */
            while (digits > 0 && (*start == '0' || *start == '.'))
                digits -= *start++ == '0';
        }
    }
    if (digits > DIGITS_MAX)
        return NULL;
    if (at < end && (*at | 0x20) == 'e') {
        at++;
        is_integer = 0;
        int is_below = at < end && *at == '-';
        at += at < end && (*at == '-' || *at == '+');
        int64_t given = 0;
        const char *first = at;
        while (at < end && is_digit(*at) && at - first < 5)
            given = 10 * given + (*at++ - '0');
        if (at == first || at - first == 5)
            return NULL;
        exponent += is_below ? -given : given;
    }
    double number;
    if (!nearest(mantissa, exponent, powers, &number))
        return NULL;
    /* An integer has no negative zero. */
    *found = (float)(is_negative && !(is_integer && mantissa == 0) ? -number : number);
    return __builtin_isfinite(*found) ? at : NULL;
}

/* Reads an array of numbers; returns where it ends, or NULL. */
static const char *read_values(const char *at, const char *end, const Lines *lines, float *values)
{
    if (at == end || *at++ != '[')
        return NULL;
    for (int64_t place = 0; place < lines->dimensions; place++) {
        if (place > 0) {
            at = solid(at, end);
            if (at == end || *at++ != ',')
                return NULL;
        }
        at = read_number(solid(at, end), end, lines->powers, values + place);
        if (at == NULL)
            return NULL;
    }
    at = solid(at, end);
    return at < end && *at == ']' ? at + 1 : NULL;
}

/* Passes over a string without escapes; returns where it ends, or NULL. */
static const char *plain_string(const char *at, const char *end)
{
    if (at == end || *at++ != '"')
        return NULL;
    while (at < end && *at != '"') {
        if (*at == '\\' || (unsigned char)*at < 0x20)
            return NULL;
        at++;
    }
    return at < end ? at + 1 : NULL;
}

/* Passes over an object, looking at its brackets and strings alone; returns its end, or NULL. */
static const char *object_end(const char *at, const char *end)
{
    int64_t depth = 0;
    if (at == end || *at != '{')
        return NULL;
    for (; at < end && *at != '\n'; at++) {
        if (*at == '"') {
            for (at++; at < end && *at != '"' && *at != '\n'; at++)
                at += *at == '\\' && at + 1 < end && at[1] != '\n';
            if (at == end || *at == '\n')
                return NULL;
        } else if (*at == '{' || *at == '[') {
            depth++;
        } else if ((*at == '}' || *at == ']') && --depth == 0) {
            return at + 1;
        }
    }
    return NULL;
}

static inline int is_null(const char *at, const char *end)
{
    return end - at >= 4 && memcmp(at, "null", 4) == 0;
}

/* Reads one member's value. Returns where it ends, or NULL. */
static const char *read_member(
    const char *at, const char *end, const char *name, int64_t length, const Lines *lines,
    float *values, Record *record, unsigned *seen)
{
    const char *text = lines->text, *stop;
    unsigned bit;
    if (length == 2 && memcmp(name, "id", 2) == 0) {
        bit = 1;
        stop = plain_string(at, end);
        if (stop == NULL || stop - at == 2) /* an empty id */
            return NULL;
        record->id = at + 1 - text, record->id_end = stop - 1 - text;
    } else if (length == 6 && memcmp(name, "values", 6) == 0) {
        bit = 2;
        stop = read_values(at, end, lines, values);
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
    if (*seen & bit)
        return NULL;
    *seen |= bit;
    return stop;
}

/* Reads the record that starts at `at`; returns where its text ends, or NULL. */
static const char *read_record(
    const char *at, const char *end, const Lines *lines, float *values, Record *record)
{
    unsigned seen = 0;
    memset(record, 0, sizeof *record);
    record->start = at - lines->text;
    if (*at++ != '{')
        return NULL;
    do {
        const char *name = solid(at, end);
        at = plain_string(name, end);
        if (at == NULL)
            return NULL;
        int64_t length = at - name - 2;
        at = solid(at, end);
        if (at == end || *at++ != ':')
            return NULL;
        at = read_member(
            solid(at, end), end, name + 1, length, lines, values, record, &seen);
        if (at == NULL)
            return NULL;
        at = solid(at, end);
    } while (at < end && *at++ == ',');
    if (at[-1] != '}' || (seen & 3) != 3)
        return NULL;
    return at;
}

/* Reads records until there are `capacity`, the text ends, or one is left to Python. */
void vicinal_read_lines(Lines *lines)
{
    const char *end = lines->text + lines->size, *at = lines->text + lines->position;
    lines->count = 0;
    while (lines->count < lines->capacity) {
        while (at < end && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n'))
            at++;
        lines->position = at - lines->text;
        if (at == end)
            return;
        float *values = lines->values + lines->count * lines->dimensions;
        Record *record = lines->records + lines->count;
        at = read_record(at, end, lines, values, record);
        if (at == NULL)
            return;
        at = solid(at, end);
        if (at < end && *at != '\n')
            return;
        record->end = lines->position = at - lines->text;
        lines->count++;
    }
}
