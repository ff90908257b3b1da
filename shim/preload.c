/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/preload.h"

#include <link.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/base/sys.h"

#pragma weak _r_debug /* as in shim/real.c */

static char **variables; /* in one mapping with their text */
static size_t count;

static bool is_ours(const char *v) {
    return strncmp(v, "MESH_", 5) == 0 || strncmp(v, "GRPC_XDS_BOOTSTRAP", 18) == 0;
}

const char *mesh_preload_path(void) {
    const struct link_map *m = &_r_debug ? _r_debug.r_map : NULL;
    while (m && m->l_ld != _DYNAMIC)
        m = m->l_next;
    return m && m->l_name[0] == '/' ? m->l_name : "";
}

static char *append(char *at, const char *text) {
    size_t n = strlen(text);
    memcpy(at, text, n + 1);
    return at + n;
}

void mesh_preload_remember(char *const *envp) {
    static const char name[] = "LD_PRELOAD=";
    const char *path = mesh_preload_path();
    size_t n = 1, bytes = sizeof name + strlen(path);
    void *p;
    for (char *const *e = envp; e && *e; e++)
        if (is_ours(*e)) {
            n++;
            bytes += strlen(*e) + 1;
        }
    if (!*path || mesh_sys_mmap(NULL, n * sizeof *variables + bytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &p))
        return;
    variables = p;
    char *at = (char *)(variables + n);
    variables[count++] = at;
    at = append(append(at, name), path) + 1;
    for (char *const *e = envp; e && *e; e++)
        if (is_ours(*e)) {
            variables[count++] = at;
            at = append(at, *e) + 1;
        }
}

bool mesh_preload_cleaned(char *const *envp) {
    if (!count)
        return false;
    for (char *const *e = envp; e && *e; e++)
        if (is_ours(*e) || strncmp(*e, "LD_PRELOAD=", 11) == 0)
            return false;
    return true;
}

char *const *mesh_preload_variables(size_t *ret_n) {
    *ret_n = count;
    return variables;
}
