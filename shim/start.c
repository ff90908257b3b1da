/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/start.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "shim/base/mem.h"
#include "shim/base/trace.h"
#include "shim/door.h"
#include "shim/env.h"
#include "shim/real.h"

#define CONF_FILE "/etc/meshshim.conf"

/* Not every build has every room: meshctl has no engine. */
#pragma weak mesh_engine_start
#pragma weak mesh_trace_remember_stderr
#pragma weak mesh_trace_set
#pragma weak mesh_env_start
#pragma weak mesh_env

static bool is_ours(const char *var) {
    return strncmp(var, "MESH_", 5) == 0 || strncmp(var, "GRPC_XDS_BOOTSTRAP", 18) == 0;
}

static bool anything_said(void) {
    for (char **e = environ; e && *e; e++)
        if (is_ours(*e))
            return true;
    return access(CONF_FILE, F_OK) == 0;
}

/* Each step says whether there is a next one. */
static bool step_look(void) {
    return anything_said() && mesh_env_start && mesh_env;
}

static bool step_stderr(void) {
    if (mesh_trace_remember_stderr)
        mesh_trace_remember_stderr();
    return true;
}

static bool step_env(void) {
    if (mesh_env_start(environ, getauxval(AT_SECURE) != 0) != 0)
        return false;
    return !mesh_env()->off;
}

static bool step_trace(void) {
    /* a wrong value was named by the environment's parser */
    int err = mesh_trace_set ? mesh_trace_set(mesh_env()->trace) : 0;
    (void)err;
    return mesh_env()->any;
}

static bool step_engine(void) {
    if (mesh_engine_start)
        mesh_engine_start();
    return true;
}

static bool (*const steps[])(void) = {step_look, step_stderr, step_env, step_trace, step_engine};

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

bool mesh_started(void) {
    mesh_started_on();
    return true;
}

void mesh_init(void) {
    mesh_real_remember();
    mesh_start();
}
