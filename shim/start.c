/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/start.h"

#include <stdatomic.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/door.h"
#include "shim/env.h"
#include "shim/handover.h"
#include "shim/heavy.h"
#include "shim/real.h"

#define CONF_FILE "/etc/meshshim.conf"

/* An unconfigured process comes through here and no further: no call into libc that would have to be looked
 * up. */
static bool begins(const char *text, const char *prefix) {
    while (*prefix && *text == *prefix)
        text++, prefix++;
    return !*prefix;
}

static bool anything_said(void) {
    for (char **e = environ; e && *e; e++)
        if (begins(*e, "MESH_") || begins(*e, MESH_TREE_VARIABLE "=") || begins(*e, "GRPC_XDS_BOOTSTRAP"))
            return true;
    struct stat st;
    return mesh_sys_stat(CONF_FILE, &st) == 0;
}

/* Each step says whether there is a next one. */
static bool step_look(void) {
    return anything_said();
}

static bool step_rooms(void) {
    mesh_rooms_load();
    return true;
}

static bool step_stderr(void) {
    mesh_trace_remember_stderr();
    return true;
}

static bool usable, taken;

static bool step_env(void) {
    /* without memory every variable counts as wrong: what they protect fails closed */
    if (mesh_env_start(environ, getauxval(AT_SECURE) != 0))
        mesh_trace_refused("no-memory", "for", "environment");
    usable = !mesh_env()->off;
    return true;
}

/* Connections that the last program left are mesh whatever the environment says. */
static bool step_handover(void) {
    taken = mesh_handover_take(environ, usable);
    return usable && (taken || mesh_env()->any);
}

static bool step_engine(void) {
    mesh_engine_start();
    return true;
}

static bool (*const steps[])(void) = {step_look, step_rooms,    step_stderr,
                                      step_env,  step_handover, step_engine};

enum { COLD, RUNNING, DONE };
static _Atomic int state __attribute__((section(".data"))); /* see shim/real.c */

void mesh_start(void) {
    int expected = COLD;
    if (!atomic_compare_exchange_strong(&state, &expected, RUNNING))
        return;
    size_t i = 0;
    while (i < MESH_ARRAY_LEN(steps) && steps[i]())
        i++;
    atomic_store(&mesh_on, i == MESH_ARRAY_LEN(steps));
    atomic_store(&state, DONE);
}

bool mesh_started_on(void) {
    if (mesh_unlikely(atomic_load_explicit(&state, memory_order_relaxed) == COLD))
        mesh_start();
    return atomic_load_explicit(&mesh_on, memory_order_relaxed) > 0;
}

void mesh_init(void) {
    mesh_real_remember();
    mesh_start();
}
