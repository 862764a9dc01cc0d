/* Numbers of JSON, read as the nearest float64 and that as the nearest float32, as everywhere.

   Most are spelled alike, in long arrays: the commas of an array are found first, and what stands
   between two of them is read eight digits at a time (`read_usual`). Any other spelling is read
   from its first character to its last (`read_number`).

   Numbers are rounded as D. Lemire describes in "Number Parsing at a Gigabyte per Second" (2021),
   with the powers of ten that `wire/lines.py` computes; where that does not settle the last bit,
   reading stops, as it does at what is no number.
*/

#ifndef VICINAL_NUMBERS_H
#define VICINAL_NUMBERS_H

#include <string.h>

#include "structures.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
    EXACT_EXPONENT_MAX = 22, /* 10^22 is the largest power that is a float64 */
    DIGITS_MAX = 19,         /* any number of 19 digits fits into 64 bits */
    COMMAS = 128,            /* found at a time */
    BEFORE = 24,             /* characters of the text before those that `read_usual` reads */
};
#define EXACT_MANTISSA_MAX (UINT64_C(1) << 53)
#define BYTES(byte)        (UINT64_C(0x0101010101010101) * (byte)) /* of a word's eight bytes */

static const double EXACT_POWERS[EXACT_EXPONENT_MAX + 1] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
};

static const uint64_t TENS[9] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};

static inline int is_digit(char character) { return (unsigned char)(character - '0') < 10; }

/* Passes over white space within a line. */
static inline const char *solid(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r')) at++;
    return at;
}

/* Eight characters as the bytes of a word, the first one lowest. */
static inline uint64_t word_at(const char *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? word : __builtin_bswap64(word);
}

/* Of characters made digits' values, marks the bytes that are above 9: that were no digits. */
static inline uint64_t no_digits(uint64_t eight) {
    return ((eight + BYTES(0x76)) | eight) & BYTES(0x80);
}

/* The number that eight digits' values make. */
static inline uint64_t number_of(uint64_t eight) {
    eight = 10 * eight + (eight >> 8);
    eight = ((eight & UINT64_C(0xFF000000FF)) * UINT64_C(0xF424000000064) +
             (eight >> 16 & UINT64_C(0xFF000000FF)) * UINT64_C(0x271000000001)) >>
            32;
    return (uint32_t)eight;
}

/* Passes over digits, eight at a time; appends them to `mantissa`. */
static inline const char *read_digits(const char *at, const char *end, uint64_t *mantissa) {
    while (end - at >= 8) {
        uint64_t eight = word_at(at) ^ BYTES('0');
        uint64_t others = no_digits(eight);
        int count = others ? __builtin_ctzll(others) >> 3 : 8;
        if (count == 0) return at;
        eight <<= 64 - 8 * count; /* zeros in front */
        *mantissa = *mantissa * TENS[count] + number_of(eight);
        at += count;
        if (count < 8) return at;
    }
    while (at < end && is_digit(*at)) *mantissa = 10 * *mantissa + (uint64_t)(*at++ - '0');
    return at;
}

/* Sets `number` to mantissa x 10^exponent, correctly rounded; returns 0 if it is not settled. */
static int nearest(uint64_t mantissa, int64_t exponent, const Power *powers, double *number) {
    if (mantissa <= EXACT_MANTISSA_MAX && exponent >= -EXACT_EXPONENT_MAX &&
        exponent <= EXACT_EXPONENT_MAX) {
        *number = exponent < 0 ? (double)(int64_t)mantissa / EXACT_POWERS[-exponent]
                               : (double)(int64_t)mantissa * EXACT_POWERS[exponent];
        return 1;
    }
    if (mantissa == 0) {
        *number = 0.0;
        return 1;
    }
    if (exponent < EXPONENT_MIN || exponent > EXPONENT_MAX) return 0;
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
static const char *read_number(const char *at, const char *end, const Power *powers, float *value) {
    int is_negative = at < end && *at == '-';
    at += is_negative;
    if (at == end || !is_digit(*at)) return NULL;
    const char *start = at;
    uint64_t mantissa = 0;
    int64_t exponent = 0, digits;
    int is_integer = 1;
    while (at < end && is_digit(*at)) mantissa = 10 * mantissa + (uint64_t)(*at++ - '0');
    digits = at - start;
    if (digits > 1 && *start == '0') return NULL;
    if (at < end && *at == '.') {
        const char *fraction = ++at;
        is_integer = 0;
        at = read_digits(at, end, &mantissa);
        exponent = fraction - at;
        if (exponent == 0) return NULL;
        digits -= exponent;
        if (digits > DIGITS_MAX) { /* zeros in front do not count */
            while (digits > 0 && (*start == '0' || *start == '.')) digits -= *start++ == '0';
        }
    }
    if (digits > DIGITS_MAX) return NULL;
    if (at < end && (*at | 0x20) == 'e') {
        at++;
        is_integer = 0;
        int is_below = at < end && *at == '-';
        at += at < end && (*at == '-' || *at == '+');
        int64_t given = 0;
        const char *first = at;
        while (at < end && is_digit(*at) && at - first < 5) given = 10 * given + (*at++ - '0');
        if (at == first || at - first == 5) return NULL;
        exponent += is_below ? -given : given;
    }
    double number;
    if (!nearest(mantissa, exponent, powers, &number)) return NULL;
    /* An integer has no negative zero. */
    *value = (float)(is_negative && !(is_integer && mantissa == 0) ? -number : number);
    return __builtin_isfinite(*value) ? at : NULL;
}

/* The number that the last `count` of the eight characters before `end` make; those that are no
   digits are marked in `errors`. */
static inline uint64_t digits_before(const char *end, int64_t count, uint64_t *errors) {
    uint64_t others = 64 - 8 * (uint64_t)count;
    uint64_t eight = (word_at(end - 8) ^ BYTES('0')) >> others << others;
    *errors |= no_digits(eight);
    return number_of(eight);
}

/* Sets `number` to what a digit and `count` more behind a point make, of which more than eight
   stand before `end`; returns 0 if they are none, or if it is not settled. */
static int read_long(uint64_t whole, const char *end, int64_t count, const Power *powers,
                     double *number) {
    uint64_t errors = 0, mantissa = digits_before(end, 8, &errors);
    if (count <= 16) {
        mantissa +=
            TENS[8] * (digits_before(end - 8, count - 8, &errors) + TENS[count - 8] * whole);
    } else {
        mantissa += TENS[8] * digits_before(end - 8, 8, &errors);
        whole = digits_before(end - 16, count - 16, &errors) + TENS[count - 16] * whole;
        mantissa += TENS[8] * TENS[8] * whole;
    }
    if (errors) return 0;
    if (mantissa > EXACT_MANTISSA_MAX) return nearest(mantissa, -count, powers, number);
    *number = (double)(int64_t)mantissa / EXACT_POWERS[count];
    return 1;
}

/* Reads the numbers from `at` on that end at these commas, as long as they are spelled as most
   are: with one digit before the point, up to 18 behind it and no exponent. Returns their number.
   The BEFORE characters before `at` belong to the text.

   Knowing where a number ends, nothing here waits for the number before it. */
static __attribute__((noinline)) int64_t read_usual(const char *at, const char *const *commas,
                                                    int64_t count, const Power *powers,
                                                    float *values) {
    for (int64_t read_count = 0; read_count < count; read_count++) {
        const char *comma = commas[read_count], *first = at + (*at == '-');
        uint64_t digits = (uint64_t)(comma - first - 2), whole = (unsigned char)(*first - '0');
        double number;
        /* In this order: behind less than three characters there may be nothing to read. */
        if (digits - 1 >= 18 || whole > 9 || first[1] != '.') return read_count;
        if (digits <= 8) {
            uint64_t errors = 0, mantissa = digits_before(comma, (int64_t)digits, &errors);
            if (errors) return read_count;
            mantissa += whole * TENS[digits];
            number = (double)(int64_t)mantissa / EXACT_POWERS[digits];
        } else if (!read_long(whole, comma, (int64_t)digits, powers, &number)) {
            return read_count;
        }
        float positive = (float)number;
        uint32_t bits;
        memcpy(&bits, &positive, sizeof bits);
        bits |= (uint32_t)(*at == '-') << 31;
        memcpy(values + read_count, &bits, sizeof bits);
        at = comma + 1;
    }
    return count;
}

/* Marks the commas among 64 characters, the first one in the lowest bit. */
static inline uint64_t commas_among(const char *at) {
    uint64_t commas = 0;
#if defined(__SSE2__)
    for (int part = 0; part < 64; part += 16) {
        __m128i sixteen = _mm_loadu_si128((const __m128i *)(at + part));
        sixteen = _mm_cmpeq_epi8(sixteen, _mm_set1_epi8(','));
        commas |= (uint64_t)(uint32_t)_mm_movemask_epi8(sixteen) << part;
    }
#else
    for (int part = 0; part < 64; part += 8) {
        uint64_t eight = word_at(at + part) ^ BYTES(',');
        eight = ~(((eight & BYTES(0x7F)) + BYTES(0x7F)) | eight | BYTES(0x7F)) >> 7;
        commas |= (eight * UINT64_C(0x0102040810204080)) >> 56 << part; /* the bits side by side */
    }
#endif
    return commas;
}

/* How many bits are set. */
static inline int64_t ones(uint64_t bits) {
    bits -= bits >> 1 & BYTES(0x55);
    bits = (bits & BYTES(0x33)) + (bits >> 2 & BYTES(0x33));
    return (int64_t)(((bits + (bits >> 4)) & BYTES(0x0F)) * BYTES(1) >> 56);
}

/* Finds up to COMMAS commas; returns their number. `*from` is moved to where the search may go on.
 */
static int64_t find_commas(const char **from, const char *end, const char **commas) {
    const char *at = *from;
    int64_t count = 0;
    for (; end - at >= 64 && count <= COMMAS - 64; at += 64) {
        uint64_t marks = commas_among(at);
        int64_t next = count + ones(marks);
        do { /* more than there are do no harm, and spare a branch that is hard to foresee */
            for (int offset = 0; offset < 8; offset++) {
                commas[count + offset] = at + __builtin_ctzll(marks | UINT64_C(1) << 63);
                marks &= marks - 1;
            }
            count += 8;
        } while (count < next);
        count = next;
    }
    if (end - at < 64)
        for (; at < end && count < COMMAS; at++)
            if (*at == ',') commas[count++] = at;
    *from = at;
    return count;
}

/* Reads one of the numbers of an array; returns where its text ends, or NULL. */
static const char *read_value(const char *at, const char *end, const Power *powers, float *value) {
    at = read_number(solid(at, end), end, powers, value);
    return at == NULL ? NULL : solid(at, end);
}

/* Reads an array of `count` numbers that begins at `at`, in a text that begins at `text`; returns
   where it ends, or NULL. */
static const char *read_array(const char *at, const char *end, const char *text,
                              const Power *powers, int64_t count, float *values) {
    const char *commas[COMMAS + 8], *ahead;
    int64_t left = count - 1;
    if (at == end || *at++ != '[') return NULL;
    ahead = at;
    while (left > 0) {
        int64_t comma_count = find_commas(&ahead, end, commas), at_comma = 0;
        if (comma_count > left) comma_count = left;
        if (comma_count == 0) return NULL;
        while (at_comma < comma_count) {
            if (at - text >= BEFORE) {
                at_comma += read_usual(at, commas + at_comma, comma_count - at_comma, powers,
                                       values + at_comma);
                at = at_comma > 0 ? commas[at_comma - 1] + 1 : at;
            }
            if (at_comma < comma_count) {
                if (read_value(at, end, powers, values + at_comma) != commas[at_comma]) return NULL;
                at = commas[at_comma++] + 1;
            }
        }
        values += comma_count;
        left -= comma_count;
    }
    at = read_value(at, end, powers, values);
    return at != NULL && at < end && *at == ']' ? at + 1 : NULL;
}

#endif
