/* SPDX-License-Identifier: Apache-2.0
 *
 * The environment and the defaults file, byte by byte: each line of the input is one variable, or the whole
 * input is the file's text.
 */
#include <stdlib.h>
#include <string.h>
#include "shim/base/trace.h"
#include "shim/env.h"
#include "shim/env_file.h"

enum { VARS_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void tell(void *arg, const char *name, const char *value, const char *what) {
    size_t *sum = arg;
    *sum += strlen(name) + strlen(value) + strlen(what);
    if (!what[0])
        abort(); /* every wrong value comes with a reason */
}

static void parse_as_environment(char *text) {
    static struct mesh_env env;
    char *vars[VARS_MAX + 1] = {NULL}, *rest = text;
    size_t sum = 0;
    for (int i = 0; i < VARS_MAX && (vars[i] = strsep(&rest, "\n")) != NULL; i++)
        continue;
    struct mesh_env_source src = {.envp = vars, .uid = 1000, .cwd = "/srv"};
    if (mesh_env_parse(&src, &env, tell, &sum) < 0)
        return;
    if (env.bad_inbound && mesh_env_inbound_mode(&env, 80) != MESH_INBOUND_STRICT)
        abort();
    if (env.bad_peers && !env.peers_none)
        abort();
    (void)mesh_env_skips(&env, "program");
    mesh_env_done(&env);
}

static void parse_as_file(char *text) {
    char *name = "", *value = "";
    int r;
    while ((r = mesh_env_file_next(&text, &name, &value)) != 0)
        if (r == 1 && (!name[0] || strchr(name, '=')))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    for (int as_file = 0; as_file < 2; as_file++) {
        memcpy(text, data, size);
        text[size] = 0;
        if (as_file)
            parse_as_file(text);
        else
            parse_as_environment(text);
    }
    free(text);
    return 0;
}
