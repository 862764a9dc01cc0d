/* The structures that Python fills and C reads, or the other way round: `structures.py` has the
   same ones, with the same names, and a library whose layout differs from Python's is not built.
   A field is read unless it says that it is written.
*/

#ifndef VICINAL_STRUCTURES_H
#define VICINAL_STRUCTURES_H

#include <stdint.h>

enum { COSINE, EUCLIDEAN, DOT_PRODUCT };
enum { UNSETTLED = -1, NO_MEMORY = -2, UNVERIFIED = -3 }; /* of a search that found nothing */
enum {
    LINE_BYTES = 64, /* a code has one or more lines of bytes */
    CODE_BYTES_MAX = 256,
    NEIGHBOURS_MAX = 64,
    LISTS_MAX = 2048,   /* of entries */
    ENTRY_WORDS = 4,    /* the first of a code's, by which rows where a walk begins are chosen */
    EXPONENT_MIN = -65, /* powers of ten beyond these two are left to Python */
    EXPONENT_MAX = 40,
};

/* How rows and queries get their codes (`ann.projection`). */
typedef struct {
    const float *flips;  /* (rounds, blocks, length), each 1 or -1 */
    const float *offset; /* (8 code_bytes,): the mean's projection */
    int64_t rounds, blocks, length, code_bytes, dimensions, metric;
    double scale; /* the largest norm of the rows under dot-product, else 1 */
} Projection;

/* The rows of a segment or memtable, and their codes. */
typedef struct {
    Projection projection;
    const uint8_t *codes;    /* (row_count, code_bytes), a multiple of 64 bytes each */
    const uint8_t *sample;   /* (sample_count, code_bytes): every `sample_step`-th of them */
    const float *values;     /* (row_count, dimensions) */
    const float *norms;      /* (row_count,) */
    const uint8_t *verified; /* whether each block of the values' file may be read, or NULL: all */
    int64_t block_bytes, values_start; /* where the values begin in the file */
    const uint32_t *neighbours;   /* (row_count, neighbour_count): the graph, if there is one */
    const uint32_t *entries;      /* (entry_count,): rows at which a walk may begin */
    const uint64_t *entry_words;  /* (entry_count, ENTRY_WORDS): the first of their codes */
    const uint32_t *entry_starts; /* (list_count,): where the lists of entries begin; 0 first */
    const uint8_t *pivot_codes;   /* (list_count, code_bytes): of the first entry of each list */
    int64_t neighbour_count;      /* at most NEIGHBOURS_MAX */
    int64_t entry_count;
    int64_t list_count; /* at most LISTS_MAX */
    int64_t row_count, sample_count, sample_step;
    float relative_error, absolute_error; /* of a float32 product (`ann.exact`) */
} CodedRows;

/* Has the rows in `candidates` verified; returns 0 if that fails. */
typedef int64_t (*Verify)(void);

/* One query of some coded rows. */
typedef struct {
    const float *query;       /* (dimensions,) */
    const uint8_t *allowed;   /* (row_count,), or NULL for all rows */
    const int32_t *tested;    /* (row_count,), or NULL: the number of a row */
    const int32_t *intervals; /* (interval_count, 2): numbers [start, stop) of rows that pass */
    const int64_t *listed;    /* (listed_count,), or NULL: these rows only */
    int64_t interval_count;
    int64_t listed_count;
    int64_t eligible_count; /* rows that are allowed and pass, or are listed; at least 1 */
    int64_t k;
    int64_t margin;  /* bits beyond the radius within which rows are rescored */
    int64_t breadth; /* near rows that a walk through the graph finds first; 0: compare all codes */
    int64_t expanded_max;  /* rows that a walk goes on from; for more, all codes are compared */
    const int64_t *hidden; /* (hidden_count,): rows that a walk never comes to */
    int64_t hidden_count;
    int64_t rescored_expected, rescored_min, rescored_max;
    int64_t *candidates; /* (candidates_max,), written; rows to verify while they are verified */
    int64_t candidates_max;
    Verify verify;                      /* NULL: the search ends at such rows, UNVERIFIED */
    int64_t rescored_count;             /* written */
    int64_t unverified_count;           /* rows to verify: written */
    int64_t compared_count;             /* codes, without the sample: written */
    int64_t expanded_count;             /* rows that a walk has gone on from: written */
    float query_norm;                   /* written */
    uint8_t query_code[CODE_BYTES_MAX]; /* written */
} CodeSearch;

/* A graph that is built (`ann.graph`). */
typedef struct {
    const uint8_t *row_codes; /* (row_count, code_bytes) */
    uint32_t *neighbours;     /* (row_count, neighbour_count), written */
    uint16_t *hammings;       /* (row_count, neighbour_count): of neighbours, ascending: written */
    uint8_t *counts;          /* (row_count,): how many neighbours a row has: written */
    int64_t row_count, code_bytes;
    int64_t neighbour_count; /* at most NEIGHBOURS_MAX */
    int64_t kept_max;        /* neighbours that a row keeps of its own */
} Graph;

/* A search that any thread may run. */
typedef struct PoolTask {
    const CodedRows *rows;
    CodeSearch *search;
    int64_t number;              /* the caller's */
    int64_t status;              /* written: how many candidates, UNSETTLED or NO_MEMORY */
    double seconds, cpu_seconds; /* written; cpu_seconds only by a pool */
    struct PoolTask *next;       /* the pool's */
} PoolTask;

/* The first 128 bits of a power of ten, the highest of which is set. */
typedef struct {
    uint64_t high, low;
} Power;

/* Where a record and its members are in the text, in bytes; members that are not there are empty.
 */
typedef struct {
    int64_t start, end;
    int64_t id, id_end, namespace, namespace_end, metadata, metadata_end;
} LineRecord;

/* A text that is read, and how far. */
typedef struct {
    const char *text;
    const Power *powers; /* of ten, from EXPONENT_MIN to EXPONENT_MAX */
    int64_t size, dimensions, records_max;
    float *values;       /* (records_max, dimensions), written */
    LineRecord *records; /* (records_max,), written */
    int64_t position; /* where to begin; then, where the first line not read here does: written */
    int64_t record_count;   /* written */
    int64_t line_end_count; /* line ends that were passed over: written */
} LineReader;

/* The sealed text column of a segment (`segment.postings`). */
typedef struct {
    const uint64_t *term_offsets; /* (term_count + 1,) */
    const char *term_bytes;       /* of all terms, which ascend */
    const uint64_t *starts;       /* (term_count + 1,): of the postings of each term */
    const uint32_t *rows;         /* (posting_count,) */
    const uint16_t *counts;       /* (posting_count,) */
    const uint32_t *lengths;      /* (row_count,) */
    int64_t term_count, byte_count, posting_count, row_count;
    int64_t length_min; /* of the rows that have terms */
} TermTable;

/* The postings of one term in one view. */
typedef struct {
    const char *rows;        /* uint32, ascending, each `row_step` bytes after the one before */
    const char *counts;      /* uint16, each `count_step` bytes after the one before */
    const uint32_t *lengths; /* (row_count,) */
    int64_t count, row_step, count_step, length_min;
    int64_t position; /* written: postings before it are of earlier rows */
    double most;      /* written: no row gets more from this term */
    double most_left; /* written: nor more from this term and those after it */
} TermPostings;

/* One search for words in a view. */
typedef struct {
    TermPostings *terms;   /* (term_count,), those that weigh most first */
    const double *weights; /* (term_count,) */
    const double *scales;  /* (term_count,): what a length counts (`keywords.bm25`) */
    int64_t term_count, row_count;
    const uint8_t *allowed; /* (row_count,), or NULL for all rows */
    double constant;        /* what all lengths count */
    int64_t k;
    double *best;          /* (k,): the best scores of this and earlier views, a heap: written */
    int64_t best_count;    /* written */
    int64_t *rows;         /* (capacity,), ascending: written */
    double *scores;        /* (capacity,): written */
    int64_t capacity;      /* for all rows that have a term */
    int64_t found_count;   /* written */
    int64_t scored_count;  /* rows whose score was begun: written */
    int64_t posting_count; /* postings that were read: written */
} WordSearch;

/* Search; `binary.c` has it, and `pool.c` calls it. */
int64_t vicinal_search(const CodedRows *rows, CodeSearch *search);

#endif
