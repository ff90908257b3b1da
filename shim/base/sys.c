/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/base/sys.h"

_Atomic bool mesh_sys_filtered;
static _Atomic uint64_t forbidden[MESH_SYS_NUMBERS / 64];
static pid_t pid;

bool mesh_sys_forbids(long nr) {
    if (!mesh_sys_filtered)
        return false;
    return (unsigned long)nr >= MESH_SYS_NUMBERS || forbidden[nr / 64] >> (nr % 64) & 1;
}

void mesh_sys_forbid(long nr) {
    forbidden[nr / 64] |= UINT64_C(1) << (nr % 64);
    mesh_sys_filtered = true;
}

void mesh_sys_remember_pid(void) {
    if (mesh_sys_may(SYS_getpid))
        pid = (pid_t)mesh_sys3(SYS_getpid, 0, 0, 0);
}

pid_t mesh_sys_pid_before(void) {
    return pid;
}
