/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/load.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>

#include "shim/base/trace.h"
#include "shim/bodies.h"
#include "shim/preload.h"
#include "shim/real.h"

static bool is_libc(const char *file) {
    const char *slash = file ? strrchr(file, '/') : NULL, *base = slash ? slash + 1 : file;
    return base && (strcmp(base, "libc.so.6") == 0 || strcmp(base, "libpthread.so.0") == 0);
}

/* Does the object that calls define what we define? Then it looks for libc, and would find itself behind us.
 */
static bool stands_in(const void *caller) {
    Dl_info info;
    struct link_map *m = NULL;
    return dladdr1(caller, &info, (void **)&m, RTLD_DL_LINKMAP) && m && m->l_ld != _DYNAMIC &&
           (mesh_real_defines(m, "connect") || mesh_real_defines(m, "open") || mesh_real_defines(m, "close"));
}

const char *mesh_load_instead(int *io_mode, const char *file, const void *caller) {
    *io_mode &= ~RTLD_DEEPBIND;
    if (!is_libc(file) || stands_in(caller))
        return file;
    return *mesh_preload_path() ? mesh_preload_path() : "libmeshshim.so";
}

void *mesh_load_ours(const char *name, const char *version, const void *caller) {
    if (!name || !version || strncmp(version, "GLIBC_", 6) != 0 || stands_in(caller))
        return NULL;
    return mesh_real_own(name);
}

/* Another namespace has a libc of its own, which we are not in front of. The loader's message is ours. */
void *shim_dlmopen(Lmid_t space, const char *file, int mode) {
    if (space == LM_ID_BASE) {
        file = mesh_load_instead(&mode, file, __builtin_return_address(0));
        return real.dlmopen(space, file, mode);
    }
    mesh_trace_refused("dlmopen", "file", file);
    return real.dlmopen(LM_ID_BASE, "meshshim: another namespace would go past the mesh", RTLD_NOW);
}
