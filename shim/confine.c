/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/confine.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "shim/base/bpf.h"
#include "shim/base/clock.h"

#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/bodies.h"
#include "shim/conn.h"
#include "shim/door.h"
#include "shim/engine.h"
#include "shim/hand.h"
#include "shim/handover.h"
#include "shim/pend.h"
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

/* A handshake needs more of the kernel than a connection does. */
static void finish_handshakes(void) {
    struct mesh_crossing x;
    uint32_t slots[MESH_CROSS_FEW], n, from = 0;
    if (!mesh_slab)
        return;
    mesh_pend_drain(mesh_now() + MESH_HANDSHAKE_SECONDS * MESH_SEC);
    while ((n = mesh_local_held(slots, from, MESH_CROSS_FEW)) != 0) {
        mesh_crossing_init(&x);
        for (uint32_t i = 0; i < n; i++) {
            int fd = atomic_load(&mesh_local_at(slots[i])->fd);
            (void)mesh_hand_drive(mesh_conn_at(slots[i]), slots[i], fd);
            (void)mesh_crossing_add(&x, fd, slots[i]);
        }
        mesh_crossing_settle(&x);
        mesh_crossing_done(&x);
        from += n;
    }
}

/* The heap's top is ours to use without a system call; so are the buffers that lie in the pool. */
static void take_memory(void) {
    enum { BUFFERS = 4, HEAP = 96 << 10 };
    uint8_t *p[BUFFERS];
    for (int i = 0; i < BUFFERS; i++)
        p[i] = mesh_scratch_take();
    for (int i = 0; i < BUFFERS; i++)
        if (p[i])
            mesh_scratch_give(p[i]);
    void *volatile top = malloc(HEAP);
    free(top);
}

void mesh_confine_before(unsigned operation) {
    if (operation != SECCOMP_SET_MODE_STRICT && operation != SECCOMP_SET_MODE_FILTER)
        return;
    if (mesh_engine_foreign())
        return;
    mesh_sys_remember_pid();
    bring_in();
    finish_handshakes();
    take_memory();
}

/* ---- what the filter allows ---- */

#if defined(__x86_64__)
static const uint32_t ARCH = AUDIT_ARCH_X86_64;
#else
static const uint32_t ARCH = AUDIT_ARCH_AARCH64;
#endif

static bool harmless(uint32_t answer) {
    uint32_t action = answer & SECCOMP_RET_ACTION_FULL;
    return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG || action == SECCOMP_RET_ERRNO;
}

/* What it says may hang on the arguments: it has to allow both of two that are as different as can be. */
static bool allows(const struct sock_fprog *p, long nr) {
    struct seccomp_data d = {.nr = (int)nr, .arch = ARCH};
    if (!harmless(mesh_bpf_run(p->filter, p->len, &d)))
        return false;
    memset(d.args, 0xff, sizeof d.args);
    return harmless(mesh_bpf_run(p->filter, p->len, &d));
}

static bool allowed_by_strict(long nr) {
    return nr == SYS_read || nr == SYS_write || nr == SYS_exit || nr == SYS_rt_sigreturn;
}

void mesh_confine_after(unsigned operation, const void *program) {
    if (operation != SECCOMP_SET_MODE_STRICT && (operation != SECCOMP_SET_MODE_FILTER || !program))
        return;
    for (long nr = 0; nr < MESH_SYS_NUMBERS; nr++)
        if (operation == SECCOMP_SET_MODE_STRICT ? !allowed_by_strict(nr) : !allows(program, nr))
            mesh_sys_forbid(nr);
    if (mesh_sys_forbids(SYS_openat) || mesh_sys_forbids(SYS_fstat))
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
    int r = real.prctl(option, a, b, c, d);
    if (r == 0 && option == PR_SET_SECCOMP)
        mesh_confine_after((unsigned)a - 1, (const void *)b);
    return r;
}
