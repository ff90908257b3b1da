/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/door.h"

_Atomic uint32_t mesh_fdtab[MESH_FD_MAX];
_Atomic int mesh_on = -1;
_Atomic int mesh_armed __attribute__((section(".data"))); /* a page less than in .bss */
_Thread_local int mesh_depth __attribute__((tls_model("initial-exec")));
