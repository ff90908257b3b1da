/* SPDX-License-Identifier: Apache-2.0
 *
 * Time. Rooms take time as an argument; only shim/ and meshctl call these. Threads: any, signal-safe, no
 * system call (vDSO).
 */
#ifndef MESH_BASE_CLOCK_H
#define MESH_BASE_CLOCK_H

#include <stdint.h>

#define MESH_MS UINT64_C(1000000)
#define MESH_SEC UINT64_C(1000000000)

/* CLOCK_MONOTONIC in ns: comparable between processes of one host. */
uint64_t mesh_now(void);
/* The same, some 4 ms coarse and cheaper: for rate limits. */
uint64_t mesh_now_coarse(void);
/* CLOCK_REALTIME in seconds: certificates' clock. */
int64_t mesh_wall(void);

#endif
