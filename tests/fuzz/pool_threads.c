/* Threads that run, fill and empty a pool (pool.c) at random, for the thread sanitizer.

   The search is one of this file: it writes into what it is given, unguarded, so that whoever
   takes a task back before it is done is seen. Arguments: seconds, and a seed. */

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>

#include "pool.c"

enum { TASKS = 64, PUTTERS = 2, RUNNERS_MAX = 4, NOBODY = 0, PUT = 1 };

int64_t vicinal_search(const CodedRows *rows, CodeSearch *search) {
    (void)rows;
    for (int at = 0; at < 100; at++) search->rescored_count += at;
    return search->rescored_count;
}

static void must(int is_so, const char *what) {
    if (is_so) return;
    fprintf(stderr, "not so: %s\n", what);
    abort();
}

static uint64_t any(uint64_t *state) { /* xorshift64 */
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

static Pool *pool;
static int told_end; /* of the pipe: where it is read that something is done */
static PoolTask tasks[PUTTERS][TASKS];
static CodeSearch searches[PUTTERS][TASKS];
static atomic_int is_put[PUTTERS][TASKS];
static atomic_long put_count, taken_count;
static int64_t waiting_max;

static void *runs(void *unused) {
    vicinal_pool_run(pool);
    return unused;
}

/* Take all that is done, so many at a time, as whoever was told does, and hold it against what
   was put. */
static void take(int64_t capacity) {
    int64_t numbers[TASKS], count;
    uint64_t told;
    while (read(told_end, &told, sizeof told) > 0) {
    }
    do {
        count = vicinal_pool_take(pool, numbers, capacity);
        for (int64_t at = 0; at < count; at++) {
            const int64_t putter = numbers[at] / TASKS, place = numbers[at] % TASKS;
            PoolTask *task = &tasks[putter][place];
            must(task->number == numbers[at], "a number is that of its task");
            must(task->search->rescored_count == 4950 && task->status == 4950,
                 "it was searched once");
            task->search->rescored_count = 0;
            atomic_fetch_add(&taken_count, 1);
            must(atomic_exchange(&is_put[putter][place], NOBODY) == PUT, "it was taken once");
        }
    } while (count == capacity);
}

typedef struct {
    int number;
    uint64_t state;
} Putter;

static void *puts_some(void *given) {
    Putter *putter = given;
    for (int left = 400; left; left--) {
        const int at = (int)(any(&putter->state) % TASKS);
        if (any(&putter->state) % 3 == 0) take(1 + (int64_t)(any(&putter->state) % TASKS));
        if (atomic_load(&is_put[putter->number][at]) == PUT) continue;
        PoolTask *task = &tasks[putter->number][at];
        *task = (PoolTask){.search = &searches[putter->number][at],
                           .number = putter->number * TASKS + at};
        atomic_store(&is_put[putter->number][at], PUT);
        if (vicinal_pool_put(pool, task, waiting_max))
            atomic_fetch_add(&put_count, 1);
        else
            atomic_store(&is_put[putter->number][at], NOBODY);
    }
    return NULL;
}

/* Open a pool, use it from several threads, stop it while some are at work, close it. */
static void once(uint64_t *state) {
    int ends[2];
    must(pipe(ends) == 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0, "there is a pipe");
    told_end = ends[0];
    pool = vicinal_pool_open(ends[1]);
    must(pool != NULL, "there is a pool");
    waiting_max = 1 + (int64_t)(any(state) % 40);
    const int running = 1 + (int)(any(state) % RUNNERS_MAX);
    put_count = taken_count = 0;
    pthread_t runners[RUNNERS_MAX], putters[PUTTERS];
    Putter given[PUTTERS];
    for (int at = 0; at < running; at++) pthread_create(&runners[at], NULL, runs, NULL);
    for (int at = 0; at < PUTTERS; at++) {
        given[at] = (Putter){at, any(state) | 1};
        pthread_create(&putters[at], NULL, puts_some, &given[at]);
    }
    if (any(state) % 2) vicinal_pool_stop(pool);
    for (int at = 0; at < PUTTERS; at++) pthread_join(putters[at], NULL);
    vicinal_pool_stop(pool);
    for (int at = 0; at < running; at++) pthread_join(runners[at], NULL);
    PoolTask late = {.number = 0};
    must(!vicinal_pool_put(pool, &late, 1000), "nothing is put into a pool that has stopped");
    uint64_t told;
    const int is_left = taken_count < put_count, is_told = read(told_end, &told, sizeof told) > 0;
    must(is_told || !is_left, "whoever takes is told when something is done");
    take(3);
    must(taken_count == put_count, "all that was put is done");
    vicinal_pool_close(pool);
    close(told_end);
    close(ends[1]);
}

int main(int count, char **arguments) {
    must(count == 3, "there are two arguments: seconds and a seed");
    const double end = now(CLOCK_MONOTONIC) + atof(arguments[1]);
    uint64_t state = strtoull(arguments[2], NULL, 10) * 2 + 1;
    long rounds = 0;
    do once(&state);
    while (rounds++, now(CLOCK_MONOTONIC) < end);
    printf("%ld pools, each stopped with its tasks done\n", rounds);
}
