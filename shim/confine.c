/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/confine.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdatomic.h>
#include <sys/prctl.h>

#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/bodies.h"
#include "shim/door.h"
#include "shim/engine.h"
#include "shim/real.h"
#include "shim/rotation.h"
#include "shim/steward.h"

/* What a protected process needs later. One that has no business with the mesh so far brings nothing in. */
static void bring_in(void) {
    struct mesh_why why = {""};
    if (mesh_engine_foreign())
        return;
    int keep = errno;
    mesh_steward_retire();
    errno = keep;
    if (!atomic_load(&mesh_armed))
        return;
    (void)mesh_engine_view();
    mesh_identity_unref(mesh_engine_identity(&why));
    errno = keep;
}

static const char *unreadable(void) {
    const struct mesh_env *e = mesh_env();
    const char *files[] = {e->cert, e->key, e->ca};
    for (int i = 0; i < 3; i++) {
        int fd = files[i] ? mesh_sys_open(files[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0) : -1;
        if (fd < 0 && files[i])
            return files[i];
        if (fd >= 0)
            (void)mesh_sys_close(fd);
    }
    return NULL;
}

/* Once a process: nobody of the tree may be able to tell it of a rotation. */
static int changed(int r, const char *by) {
    static _Atomic int said;
    if (r || !atomic_load(&mesh_armed) || mesh_engine_foreign())
        return r;
    int keep = errno;
    const char *file = unreadable();
    int none = 0;
    if (file && atomic_compare_exchange_strong(&said, &none, 1)) {
        bool fed = mesh_rotation_published();
        struct mesh_line l;
        mesh_line_begin(&l, fed ? MESH_TRACE_INFO : MESH_TRACE_ERROR, "config");
        mesh_line_str(&l, "identity", fed ? "by-another-process" : "kept");
        mesh_line_str(&l, "file", file);
        mesh_line_str(&l, "after", by);
        mesh_line_end(&l);
    }
    errno = keep;
    return r;
}

void mesh_confine_before(unsigned operation) {
    if (operation != SECCOMP_SET_MODE_STRICT && operation != SECCOMP_SET_MODE_FILTER)
        return;
    bring_in();
    mesh_trace_confine();
}

#define BRING_IN(call, by)                                                                                   \
    do {                                                                                                     \
        bring_in();                                                                                          \
        return changed(call, by);                                                                            \
    } while (0)

int shim_setuid(uid_t uid) {
    BRING_IN(real.setuid(uid), "setuid");
}
int shim_seteuid(uid_t uid) {
    BRING_IN(real.seteuid(uid), "seteuid");
}
int shim_setreuid(uid_t ruid, uid_t euid) {
    BRING_IN(real.setreuid(ruid, euid), "setreuid");
}
int shim_setresuid(uid_t ruid, uid_t euid, uid_t suid) {
    BRING_IN(real.setresuid(ruid, euid, suid), "setresuid");
}
int shim_chroot(const char *path) {
    BRING_IN(real.chroot(path), "chroot");
}
int shim_unshare(int flags) {
    BRING_IN(real.unshare(flags), "unshare");
}
int shim_setns(int fd, int type) {
    BRING_IN(real.setns(fd, type), "setns");
}

int shim_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
    if (option == PR_SET_SECCOMP) /* the modes of prctl and the operations of seccomp differ by one */
        mesh_confine_before((unsigned)a - 1);
    return real.prctl(option, a, b, c, d);
}
