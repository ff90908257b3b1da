/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <sys/wait.h>
#include "shim/base/clock.h"
#include "resolver/ledger.h"
#include "tests/unit/resolver/fixture.h"

enum { PROCESSES = 64, ROUNDS = 300, HELD = 700 };

struct counters {
    struct fixture f;
    struct mesh_cluster_view cv;
    uint32_t stat;
};

static void start(struct counters *c) {
    struct mesh_route r;
    uint64_t seq;
    fixture_start(&c->f, "services:\n  a.mesh: {endpoints: ['10.0.0.1:80']}\n");
    cr_assert_eq(fixture_connect(c->f.view, "a.mesh", 80, 0, &r), 0);
    cr_assert_eq(mesh_view_cluster(c->f.view, &r, &c->cv, &seq), 0);
    c->stat = c->cv.endpoints[0].stat;
}

static uint32_t inflight(const struct counters *c) {
    return atomic_load(&c->cv.stats[c->stat].inflight);
}

static uint32_t of_cluster(const struct counters *c) {
    return atomic_load(&c->cv.live->inflight);
}

Test(ledger, taking_and_releasing_moves_both_counters) {
    struct counters c;
    uint32_t slot, other;
    start(&c);
    cr_assert_eq(mesh_ledger_take(c.f.view, 7, c.stat, MESH_LEDGER_SETTLED, &slot), MESH_E_LIMIT,
                 "a tree that did not join has no slot");
    cr_assert_eq(mesh_ledger_join(c.f.view, 7, getpid(), 1), 0);
    cr_assert_eq(mesh_ledger_take(c.f.view, 7, c.stat, MESH_LEDGER_SETTLED, &slot), 0);
    cr_assert_eq(mesh_ledger_take(c.f.view, 7, UINT32_MAX, MESH_LEDGER_SETTLED, &other), 0);
    cr_assert_eq(inflight(&c), 1);
    cr_assert_eq(of_cluster(&c), 1);
    mesh_ledger_release(c.f.view, 8, slot);
    cr_assert_eq(inflight(&c), 1, "another tree's release must not count");
    mesh_ledger_release(c.f.view, 7, slot);
    mesh_ledger_release(c.f.view, 7, slot);
    mesh_ledger_release(c.f.view, 7, other);
    mesh_ledger_release(c.f.view, 7, UINT32_MAX);
    mesh_ledger_release(c.f.view, 7, 123456789);
    cr_assert_eq(inflight(&c), 0);
    cr_assert_eq(of_cluster(&c), 0);
    fixture_done(&c.f);
}

Test(ledger, index_that_is_no_counter_is_refused) {
    struct counters c;
    uint32_t slot;
    start(&c);
    cr_assert_eq(mesh_ledger_join(c.f.view, 7, getpid(), 1), 0);
    cr_assert_eq(mesh_ledger_take(c.f.view, 7, 1, MESH_LEDGER_SETTLED, &slot), MESH_E_INVALID);
    cr_assert_eq(mesh_ledger_take(c.f.view, 7, UINT32_MAX - 1, MESH_LEDGER_SETTLED, &slot), MESH_E_INVALID);
    fixture_done(&c.f);
}

static void see(void *arg, const struct mesh_conn_info *info) {
    cr_assert_str_eq(info->name, "a.mesh:80");
    *(int *)arg += info->fd;
}

Test(ledger, more_connections_than_one_block_of_slots) {
    struct counters c;
    static uint32_t slots[HELD];
    struct mesh_conn_info info = {.fd = 1, .name = "a.mesh:80"};
    int n = 0;
    start(&c);
    cr_assert_eq(mesh_ledger_join(c.f.view, 7, getpid(), 1), 0);
    for (int i = 0; i < HELD; i++) {
        cr_assert_eq(mesh_ledger_take(c.f.view, 7, c.stat, MESH_LEDGER_SETTLED, &slots[i]), 0);
        mesh_ledger_describe(c.f.view, slots[i], &info);
    }
    cr_assert_eq(inflight(&c), HELD);
    cr_assert_eq(mesh_ledger_each(c.f.view, see, &n), HELD);
    cr_assert_eq(n, HELD);
    for (int i = 0; i < HELD; i++)
        mesh_ledger_release(c.f.view, 7, slots[i]);
    cr_assert_eq(inflight(&c), 0);
    cr_assert_eq(mesh_ledger_each(c.f.view, see, &n), 0);
    fixture_done(&c.f);
}

static void work(struct counters *c, uint64_t tree, int rounds) {
    uint32_t slots[8];
    if (mesh_ledger_join(c->f.view, tree, getpid(), mesh_now()) < 0)
        _exit(1);
    for (int i = 0; i < rounds || rounds < 0; i++) {
        for (int k = 0; k < 8; k++)
            if (mesh_ledger_take(c->f.view, tree, c->stat, MESH_LEDGER_SETTLED, &slots[k]) < 0)
                _exit(2);
        for (int k = 0; k < 8; k++)
            mesh_ledger_release(c->f.view, tree, slots[k]);
    }
    mesh_ledger_leave(c->f.view, tree, getpid());
    _exit(0);
}

Test(ledger, sixty_four_processes_lose_no_count, .timeout = 60) {
    struct counters c;
    int status;
    start(&c);
    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0)
            work(&c, 100 + (uint64_t)i, ROUNDS);
    for (int i = 0; i < PROCESSES; i++) {
        cr_assert(wait(&status) > 0);
        cr_assert_eq(status, 0);
    }
    cr_assert_eq(inflight(&c), 0);
    cr_assert_eq(of_cluster(&c), 0);
    fixture_done(&c.f);
}

Test(ledger, processes_killed_at_any_moment_leave_no_count, .timeout = 60) {
    struct counters c;
    start(&c);
    for (int round = 0; round < 40; round++) {
        pid_t pid = fork();
        if (pid == 0)
            work(&c, 1000 + (uint64_t)round, -1);
        usleep((useconds_t)(500 + round * 37));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    uint64_t now = mesh_now() + 3600 * MESH_SEC;
    for (int i = 0; i < 12; i++)
        mesh_ledger_settle(c.f.view, now += 2 * MESH_SEC);
    cr_assert_eq(inflight(&c), 0);
    cr_assert_eq(of_cluster(&c), 0);
    fixture_done(&c.f);
}

Test(ledger, tree_lives_while_one_of_its_processes_does, .timeout = 30) {
    struct counters c;
    uint32_t slot;
    int pipe_fds[2];
    start(&c);
    cr_assert_eq(pipe(pipe_fds), 0);
    pid_t parent = fork();
    if (parent == 0) {
        cr_assert_eq(mesh_ledger_join(c.f.view, 7, getpid(), 1), 0);
        cr_assert_eq(mesh_ledger_take(c.f.view, 7, c.stat, MESH_LEDGER_SETTLED, &slot), 0);
        if (fork() == 0) {
            mesh_ledger_join(c.f.view, 7, getpid(), 2);
            cr_assert_eq(write(pipe_fds[1], &(pid_t){getpid()}, sizeof(pid_t)), (ssize_t)sizeof(pid_t));
            pause();
        }
        _exit(0);
    }
    pid_t child;
    cr_assert_eq(read(pipe_fds[0], &child, sizeof child), (ssize_t)sizeof child);
    waitpid(parent, NULL, 0);
    uint64_t now = mesh_now() + 100 * MESH_SEC;
    for (int i = 0; i < 3; i++)
        mesh_ledger_settle(c.f.view, now += 2 * MESH_SEC);
    cr_assert_eq(inflight(&c), 1);
    kill(child, SIGKILL);
    usleep(100000);
    for (int i = 0; i < 12 && inflight(&c); i++)
        mesh_ledger_settle(c.f.view, now += 2 * MESH_SEC);
    cr_assert_eq(inflight(&c), 0);
    fixture_done(&c.f);
}

static void process(void *arg, int pid, uint64_t tree, uint64_t since, const char *identity) {
    cr_assert_eq(pid, getpid());
    cr_assert_eq(tree, 7);
    cr_assert_str_eq(identity, "spiffe://shop/me");
    ++*(int *)arg;
}

Test(ledger, processes_are_listed_with_their_identity) {
    struct counters c;
    int n = 0;
    start(&c);
    cr_assert_eq(mesh_ledger_join(c.f.view, 7, getpid(), 1), 0);
    mesh_ledger_identity(c.f.view, 7, getpid(), "spiffe://shop/me");
    cr_assert_eq(mesh_ledger_each_process(c.f.view, process, &n), 1);
    mesh_ledger_leave(c.f.view, 7, getpid());
    cr_assert_eq(mesh_ledger_each_process(c.f.view, process, &n), 0);
    cr_assert_eq(n, 1);
    fixture_done(&c.f);
}

Test(ledger, counters_stay_with_an_endpoint_over_updates) {
    struct counters c;
    struct mesh_route r;
    uint64_t seq;
    uint32_t slot, before;
    start(&c);
    before = c.stat;
    cr_assert_eq(mesh_ledger_join(c.f.view, 7, getpid(), 1), 0);
    cr_assert_eq(mesh_ledger_take(c.f.view, 7, c.stat, MESH_LEDGER_SETTLED, &slot), 0);
    fixture_write(&c.f, "services:\n  a.mesh: {endpoints: ['10.0.0.9:80', '10.0.0.1:80']}\n");
    cr_assert_eq(mesh_view_refresh(c.f.view, mesh_now() + 2 * MESH_SEC, &c.f.why), 1);
    cr_assert_eq(fixture_connect(c.f.view, "a.mesh", 80, 0, &r), 0);
    cr_assert_eq(mesh_view_cluster(c.f.view, &r, &c.cv, &seq), 0);
    cr_assert_eq(c.cv.endpoints[1].stat, before);
    cr_assert_neq(c.cv.endpoints[0].stat, before);
    cr_assert_eq(inflight(&c), 1);
    fixture_done(&c.f);
}

static void see_dials(const struct counters *c, uint32_t pending, uint32_t retries) {
    cr_assert_eq(atomic_load(&c->cv.live->pending), pending);
    cr_assert_eq(atomic_load(&c->cv.live->retries), retries);
}

Test(ledger, dial_is_pending_until_it_is_eased_or_released) {
    struct counters c;
    uint32_t first, retry;
    start(&c);
    cr_assert_eq(mesh_ledger_join(c.f.view, 7, getpid(), 1), 0);
    cr_assert_eq(mesh_ledger_take(c.f.view, 7, c.stat, MESH_LEDGER_DIAL, &first), 0);
    see_dials(&c, 1, 0);
    cr_assert_eq(mesh_ledger_take(c.f.view, 7, c.stat, MESH_LEDGER_RETRY, &retry), 0);
    see_dials(&c, 2, 1);
    mesh_ledger_ease(c.f.view, 8, retry);
    see_dials(&c, 2, 1);
    mesh_ledger_ease(c.f.view, 7, retry);
    mesh_ledger_ease(c.f.view, 7, retry);
    see_dials(&c, 1, 0);
    cr_assert_eq(inflight(&c), 2, "an eased dial is a connection");
    mesh_ledger_release(c.f.view, 7, first);
    mesh_ledger_release(c.f.view, 7, retry);
    mesh_ledger_ease(c.f.view, 7, UINT32_MAX);
    see_dials(&c, 0, 0);
    cr_assert_eq(of_cluster(&c), 0);
    fixture_done(&c.f);
}

static void dial_for_ever(struct counters *c, uint64_t tree) {
    uint32_t slots[4];
    if (mesh_ledger_join(c->f.view, tree, getpid(), mesh_now()) < 0)
        _exit(1);
    for (;;) {
        for (int k = 0; k < 4; k++)
            if (mesh_ledger_take(c->f.view, tree, c->stat, k % 2 ? MESH_LEDGER_RETRY : MESH_LEDGER_DIAL,
                                 &slots[k]) < 0)
                _exit(2);
        for (int k = 0; k < 4; k++)
            mesh_ledger_ease(c->f.view, tree, slots[k]);
        for (int k = 0; k < 4; k++)
            mesh_ledger_release(c->f.view, tree, slots[k]);
    }
}

Test(ledger, dials_of_killed_processes_are_settled, .timeout = 60) {
    struct counters c;
    pid_t pids[16];
    start(&c);
    for (int round = 0; round < 8; round++) {
        for (uint64_t i = 0; i < 16; i++)
            if ((pids[i] = fork()) == 0)
                dial_for_ever(&c, 1000 + (uint64_t)round * 16 + i);
        usleep(20000);
        for (int i = 0; i < 16; i++)
            kill(pids[i], SIGKILL);
        while (wait(NULL) > 0)
            ;
    }
    for (uint64_t now = mesh_now(), end = now + 600 * MESH_SEC; now < end; now += 2 * MESH_SEC)
        mesh_ledger_settle(c.f.view, now);
    see_dials(&c, 0, 0);
    cr_assert_eq(inflight(&c), 0);
    cr_assert_eq(of_cluster(&c), 0);
    fixture_done(&c.f);
}

/* Dies while it eases its dial, before or after the counter is lowered. */
static void die_easing(struct counters *c, uint64_t tree, bool lowered) {
    uint32_t slot;
    if (mesh_ledger_join(c->f.view, tree, getpid(), mesh_now()) < 0 ||
        mesh_ledger_take(c->f.view, tree, c->stat, MESH_LEDGER_DIAL, &slot) < 0)
        _exit(1);
    struct view_chunk *k = mesh_ledger_chunk(c->f.view, slot / VIEW_CHUNK_SLOTS);
    atomic_store(&k->slots[slot % VIEW_CHUNK_SLOTS].what,
                 mesh_ledger_what(PHASE_EASING, MESH_LEDGER_DIAL, c->stat));
    if (lowered)
        atomic_fetch_sub(&c->cv.live->pending, 1);
    _exit(0);
}

Test(ledger, process_that_died_easing_is_counted_anew, .timeout = 60) {
    for (int lowered = 0; lowered < 2; lowered++) {
        struct counters c;
        uint32_t mine;
        int status;
        start(&c);
        cr_assert_eq(mesh_ledger_join(c.f.view, 7, getpid(), 1), 0);
        cr_assert_eq(mesh_ledger_take(c.f.view, 7, c.stat, MESH_LEDGER_DIAL, &mine), 0);
        if (fork() == 0)
            die_easing(&c, 8, lowered);
        cr_assert(wait(&status) > 0);
        cr_assert_eq(status, 0);
        for (uint64_t now = mesh_now(), end = now + 60 * MESH_SEC; now < end; now += 2 * MESH_SEC)
            mesh_ledger_settle(c.f.view, now);
        see_dials(&c, 1, 0);
        cr_assert_eq(inflight(&c), 1, "what lives stays counted");
        cr_assert_eq(of_cluster(&c), 1);
        fixture_done(&c.f);
    }
}
