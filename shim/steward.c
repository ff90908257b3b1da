/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/steward.h"

#include <linux/close_range.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>

#include "resolver/publisher.h"
#include "resolver/view.h"
#include "shim/base/clock.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/conn.h"
#include "shim/door.h"
#include "shim/engine.h"

enum {
    STACK = 512 << 10, /* builds, handshakes and unpacking need less than half of it */
    FRESH_SECONDS = 60,
    FORK_WAITS = 100, /* of 1 ms */
    RETIRE_WAITS = 2000,
};
#define YOUNG (2 * MESH_SEC)      /* a process that ends sooner opens no stream for a fresh view */
#define LOOK_EVERY (20 * MESH_MS) /* at a publisher that is late */
#define ALONE_EVERY (1 * MESH_SEC)

enum { NONE, RUNNING, ENDED };
static _Atomic int state;
static _Atomic bool retired; /* this process never publishes (again) */
static _Atomic bool stop;
static _Atomic int busy; /* 1: the thread is at work, 2: and somebody waits for the end of it */
static _Atomic uint64_t looked;
static uint64_t first_need;
static pthread_t thread;

/* ---- the thread's own things ---- */

/* From here on our descriptors are nobody else's, and the program's are not ours. Lines of the trace still
 * find their way to the program's standard error. */
static bool leave_descriptors(void) {
    unsigned first = mesh_trace_on(MESH_TRACE_ERROR) ? 3 : 0;
    if (mesh_sys3(SYS_close_range, first, ~0U, CLOSE_RANGE_UNSHARE) < 0)
        return false;
    for (int fd = 0; first && fd < 2; fd++)
        (void)mesh_sys_close(fd);
    return true;
}

static void lock(void) {
    int none = 0;
    while (!atomic_compare_exchange_strong(&busy, &none, 1)) {
        struct timespec t = {0, 10000000};
        (void)mesh_sys_futex(&busy, FUTEX_WAIT, none, &t, NULL, 0);
        none = 0;
    }
}

static void unlock(void) {
    if (atomic_exchange(&busy, 0) == 2)
        (void)mesh_sys_futex(&busy, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* When the program's last thread has ended, the process ends: not because of us that it goes on. */
static bool is_alone(void) {
    struct stat st;
    return mesh_process_start(mesh_sys_getpid()) == UINT64_MAX &&
           mesh_sys_stat("/proc/self/task", &st) == 0 &&
           st.st_nlink <= 4; /* two directories, the first thread's remains, us */
}

/* A view that is fresh serves a process that may be gone in a moment. Whoever asks for a name ends the wait.
 */
static void wait_while_young(struct mesh_view *v) {
    _Atomic uint32_t *posted = &mesh_view_head(v)->demands_posted;
    uint32_t seen = atomic_load(posted);
    uint64_t now = mesh_now(), until = first_need + YOUNG;
    while (now < until && !atomic_load(&stop) && atomic_load(posted) == seen &&
           mesh_publisher_fresh(v, FRESH_SECONDS)) {
        struct timespec t = {0, (long)(until - now < 500 * MESH_MS ? until - now : 500 * MESH_MS)};
        (void)mesh_sys_futex(posted, FUTEX_WAIT, seen, &t, NULL, 0);
        now = mesh_now();
    }
}

static bool may_go_on(struct mesh_view *v, uint64_t now, uint64_t *io_alone_at) {
    if (atomic_load(&stop) || mesh_sys_geteuid() != v->uid)
        return false;
    if (now < *io_alone_at)
        return true;
    *io_alone_at = now + ALONE_EVERY;
    return !is_alone();
}

static void publish(struct mesh_view *v) {
    static const struct mesh_fd_hooks none = {NULL, NULL};
    struct mesh_publisher_config cfg = {.view = v, .hooks = &none};
    struct mesh_publisher *p = NULL;
    struct pollfd fds[MESH_PUBLISHER_FDS];
    uint64_t alone_at = 0, now = mesh_now();
    lock();
    int rc = mesh_publisher_new(&cfg, now, &p);
    while (rc == 0 && may_go_on(v, now, &alone_at) && (rc = mesh_publisher_turn(p, now)) == 0) {
        uint64_t deadline = now + MESH_SEC;
        uint32_t n = mesh_publisher_fill(p, fds, MESH_PUBLISHER_FDS, now, &deadline);
        unlock();
        now = mesh_now();
        uint64_t left = deadline > now ? deadline - now : 0;
        struct timespec t = {(time_t)(left / MESH_SEC), (long)(left % MESH_SEC)};
        (void)mesh_sys_ppoll(fds, n, &t, NULL);
        lock();
        now = mesh_now();
    }
    mesh_publisher_free(p);
    unlock();
}

static void *run(void *arg) {
    mesh_depth = MESH_DEPTH_APART;
    (void)mesh_sys6(SYS_prctl, PR_SET_NAME, (long)"mesh-publisher", 0, 0, 0, 0);
    if (leave_descriptors()) {
        wait_while_young(arg);
        publish(arg);
    } else {
        mesh_trace_refused("no-descriptor-table", NULL, NULL);
        atomic_store(&retired, true);
    }
    atomic_store(&state, ENDED);
    (void)mesh_sys_futex(&state, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
    return NULL;
}

/* ---- starting and ending it ---- */

static void start(struct mesh_view *v) {
    int was = atomic_load(&state);
    if (was == RUNNING || !atomic_compare_exchange_strong(&state, &was, RUNNING))
        return;
    if (was == ENDED)
        (void)pthread_join(thread, NULL); /* it has nothing left to do but to return */
    uint64_t all = MESH_SIGNALS_OF_PROGRAM, old;
    pthread_attr_t a;
    (void)mesh_sys_sigprocmask(SIG_BLOCK, &all, &old);
    int err = pthread_attr_init(&a);
    if (!err) {
        pthread_attr_setstacksize(&a, STACK);
        err = pthread_create(&thread, &a, run, v);
        pthread_attr_destroy(&a);
    }
    (void)mesh_sys_sigprocmask(SIG_SETMASK, &old, NULL);
    if (err) {
        mesh_trace_refused("no-thread", NULL, NULL);
        atomic_store(&state, NONE);
    }
}

void mesh_steward_look(struct mesh_view *v, uint64_t now) {
    if (atomic_load_explicit(&state, memory_order_relaxed) == RUNNING || atomic_load(&retired))
        return;
    uint64_t last = atomic_load_explicit(&looked, memory_order_relaxed);
    if ((last && now - last < LOOK_EVERY) || !atomic_compare_exchange_strong(&looked, &last, now))
        return;
    if (!mesh_publisher_missing(v, mesh_now()) || mesh_sys_geteuid() != v->uid || mesh_engine_foreign())
        return;
    if (!first_need)
        first_need = mesh_now();
    start(v);
}

void mesh_steward_retire(void) {
    atomic_store(&retired, true);
    atomic_store(&stop, true);
    if (atomic_load(&state) == NONE)
        return;
    struct mesh_view *v = mesh_engine_view_if_any();
    if (v) {
        (void)mesh_sys_futex(&mesh_view_head(v)->demands_posted, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
        mesh_view_call(v);
    }
    for (int i = 0; i < RETIRE_WAITS && atomic_load(&state) == RUNNING; i++) {
        struct timespec t = {0, 1000000};
        (void)mesh_sys_futex(&state, FUTEX_WAIT, RUNNING, &t, NULL, 0);
    }
    int ended = ENDED;
    if (atomic_compare_exchange_strong(&state, &ended, NONE))
        (void)pthread_join(thread, NULL);
}

/* ---- fork ---- */

static _Thread_local bool holds __attribute__((tls_model("initial-exec")));

void mesh_steward_before_fork(void) {
    holds = false;
    if (atomic_load(&state) != RUNNING)
        return;
    for (int i = 0; i < FORK_WAITS && !holds; i++) {
        int none = 0;
        holds = atomic_compare_exchange_strong(&busy, &none, 2);
        if (holds)
            break;
        struct timespec t = {0, 1000000};
        atomic_compare_exchange_strong(&busy, &(int){1}, 2);
        (void)mesh_sys_futex(&busy, FUTEX_WAIT, 2, &t, NULL, 0);
    }
}

void mesh_steward_after_fork(bool in_child) {
    if (!in_child) {
        if (holds)
            unlock();
        holds = false;
        return;
    }
    holds = false;
    atomic_store(&busy, 0);
    atomic_store(&state, NONE);
    atomic_store(&looked, 0);
}
