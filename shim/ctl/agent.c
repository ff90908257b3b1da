/* SPDX-License-Identifier: Apache-2.0
 *
 * meshctl agent: the publisher as a standing process. It comes before the programs' own, which step back for
 * it.
 */
#include <signal.h>
#include <time.h>
#include "resolver/publisher.h"
#include "shim/base/clock.h"
#include "shim/base/sys.h"
#include "shim/ctl/ctl.h"

enum { STEP_MS = 50, SLICE_MS = 1000 };

static volatile sig_atomic_t ended;

static void end(int signal) {
    ended = 1;
}

/* Blocked but for the moments of waiting, so that none is lost between a look and a wait. */
static void catch_signals(uint64_t *ret_waiting) {
    struct sigaction a = {.sa_handler = end};
    sigset_t stops, old;
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGINT, &a, NULL);
    sigprocmask(SIG_BLOCK, &stops, &old);
    *ret_waiting = 0;
    for (int s = 1; s < 64; s++)
        if (s != SIGTERM && s != SIGINT && sigismember(&old, s) == 1)
            *ret_waiting |= UINT64_C(1) << (s - 1);
}

static void wait_ns(struct pollfd *fds, uint32_t n, uint64_t ns, uint64_t signals) {
    struct timespec t = {(time_t)(ns / MESH_SEC), (long)(ns % MESH_SEC)};
    (void)mesh_sys_ppoll(fds, n, &t, &signals);
}

/* Until somebody else has the role, or we are told to end. */
static int serve(struct mesh_publisher *p, uint64_t signals) {
    struct pollfd fds[MESH_PUBLISHER_FDS];
    int rc = 0;
    while (!ended && rc == 0) {
        uint64_t now = mesh_now(), deadline = now + SLICE_MS * MESH_MS;
        rc = mesh_publisher_turn(p, now);
        if (rc < 0)
            break;
        uint32_t n = mesh_publisher_fill(p, fds, MESH_PUBLISHER_FDS, now, &deadline);
        now = mesh_now();
        wait_ns(fds, n, deadline > now ? deadline - now : 0, signals);
    }
    return rc;
}

/* A view that a file alone makes is looked after as any program does. */
static void keep_file(struct mesh_ctl *c, uint64_t signals) {
    struct mesh_why why = {""};
    if (mesh_view_refresh(c->view, mesh_now(), &why) < 0)
        mesh_ctl_complain("%s", why.text);
    wait_ns(NULL, 0, SLICE_MS * MESH_MS, signals);
}

int mesh_ctl_agent(struct mesh_ctl *c) {
    static const struct mesh_fd_hooks none = {NULL, NULL};
    uint64_t signals;
    int rc = 0;
    if (!mesh_ctl_session_open(c))
        return MESH_CTL_NO;
    if (c->private_view) {
        mesh_ctl_complain("%s cannot be used: nobody would share the view", c->env.run_dir);
        return MESH_CTL_NO;
    }
    catch_signals(&signals);
    mesh_publisher_claim(c->view, true);
    while (!ended && (rc == 0 || rc == MESH_E_AGAIN || rc == MESH_E_NOTFOUND)) {
        struct mesh_publisher_config cfg = {.view = c->view, .hooks = &none, .is_agent = true};
        struct mesh_publisher *p = NULL;
        rc = mesh_publisher_new(&cfg, mesh_now(), &p);
        if (rc == 0)
            rc = serve(p, signals);
        else if (rc == MESH_E_NOTFOUND)
            keep_file(c, signals);
        else if (rc == MESH_E_AGAIN)
            wait_ns(NULL, 0, STEP_MS * MESH_MS, signals);
        mesh_publisher_free(p);
    }
    mesh_publisher_claim(c->view, false);
    if (ended)
        return MESH_CTL_YES;
    mesh_ctl_complain("%s", mesh_err_text(rc));
    return MESH_CTL_NO;
}
