/* Searches in threads that never touch Python.

   The threads are Python's (`pool.py`): each calls `vicinal_pool_run` and stays there, without the
   interpreter's lock, until the pool stops. The thread that puts tasks watches a file descriptor:
   a byte is written to it when the first task is done since the last `vicinal_pool_take` left
   none.

   Rules: a task, and what it points to, must live until it is taken back. Any number of threads
   may run a pool, put and take.
*/

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "structures.h"

typedef struct {
    PoolTask *first, *last;
    int64_t count;
} Queue;

typedef struct {
    pthread_mutex_t lock;   /* of all that follows */
    pthread_cond_t changed; /* a task waits, or the pool has stopped */
    Queue waiting, done;
    int descriptor, is_signalled, is_stopped;
} Pool;

static void push(Queue *queue, PoolTask *task) {
    task->next = NULL;
    if (queue->last)
        queue->last->next = task;
    else
        queue->first = task;
    queue->last = task;
    queue->count++;
}

/* Take the oldest task; there must be one. */
static PoolTask *pop(Queue *queue) {
    PoolTask *task = queue->first;
    queue->first = task->next;
    if (!queue->first) queue->last = NULL;
    queue->count--;
    return task;
}

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Search in this thread. */
void vicinal_run_task(PoolTask *task) {
    const double start = now(CLOCK_MONOTONIC);
    task->status = vicinal_search(task->rows, task->search);
    task->seconds = now(CLOCK_MONOTONIC) - start;
}

/* Return a pool that signals `descriptor`, or NULL if there is no memory. */
Pool *vicinal_pool_open(int descriptor) {
    Pool *pool = calloc(1, sizeof *pool);
    if (!pool) return NULL;
    pool->descriptor = descriptor;
    if (pthread_mutex_init(&pool->lock, NULL)) goto no_lock;
    if (pthread_cond_init(&pool->changed, NULL)) goto no_condition;
    return pool;
no_condition:
    pthread_mutex_destroy(&pool->lock);
no_lock:
    free(pool);
    return NULL;
}

/* Free a pool that nobody runs. */
void vicinal_pool_close(Pool *pool) {
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* Let threads return when nothing waits any more. */
void vicinal_pool_stop(Pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->is_stopped = 1;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

/* Have a task done; return 0, and leave it, if `waiting_max` wait or the pool has stopped. */
int64_t vicinal_pool_put(Pool *pool, PoolTask *task, int64_t waiting_max) {
    pthread_mutex_lock(&pool->lock);
    const int is_put = !pool->is_stopped && pool->waiting.count < waiting_max;
    if (is_put) push(&pool->waiting, task);
    pthread_mutex_unlock(&pool->lock);
    if (is_put) pthread_cond_signal(&pool->changed);
    return is_put;
}

/* Write the numbers of tasks that are done, the oldest first, and return how many. */
int64_t vicinal_pool_take(Pool *pool, int64_t *numbers, int64_t numbers_max) {
    int64_t count = 0;
    pthread_mutex_lock(&pool->lock);
    while (pool->done.first && count < numbers_max) numbers[count++] = pop(&pool->done)->number;
    pool->is_signalled = pool->done.first != NULL;
    pthread_mutex_unlock(&pool->lock);
    return count;
}

/* Do tasks as they come, until the pool stops. */
void vicinal_pool_run(Pool *pool) {
    const char signal = 1;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->waiting.first && !pool->is_stopped)
            pthread_cond_wait(&pool->changed, &pool->lock);
        if (!pool->waiting.first) break;
        PoolTask *task = pop(&pool->waiting);
        pthread_mutex_unlock(&pool->lock);
        const double start = now(CLOCK_THREAD_CPUTIME_ID);
        vicinal_run_task(task);
        task->cpu_seconds = now(CLOCK_THREAD_CPUTIME_ID) - start;
        pthread_mutex_lock(&pool->lock);
        push(&pool->done, task);
        if (pool->is_signalled) continue;
        pool->is_signalled = 1;
        pthread_mutex_unlock(&pool->lock);
        while (write(pool->descriptor, &signal, sizeof signal) < 0 && errno == EINTR) {
        }
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
}
