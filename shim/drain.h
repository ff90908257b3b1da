/* SPDX-License-Identifier: Apache-2.0
 *
 * The end of connections that have lived long enough, or whose endpoint is not to be used any more:
 *   max_downstream_connection_duration (with its jitter) of a tcp_proxy    the connection's age
 *   close_connections_on_host_health_failure of a cluster                  endpoint unhealthy in the view, or ejected
 *   common_lb_config.close_connections_on_host_set_change                  endpoint no longer in the view
 * Without these a connection stays as long as its program wants. No thread and no timer watches: any read, write or wait of
 * the process that passes through the library, or a dial, looks at all of its connections, at most ten times a second. A
 * process that does none of these keeps its connections. The end is what a peer's close would be: close_notify to the peer,
 * end of file to the program, EPIPE on its next write; what the kernel still holds of a mutual TLS stream is not delivered.
 */
#ifndef MESH_SHIM_DRAIN_H
#define MESH_SHIM_DRAIN_H

#include <stdatomic.h>
#include <stdint.h>
#include "resolver/resolver.h"
#include "shim/base/mem.h"
#include "shim/slab.h"

extern _Atomic uint8_t mesh_drain_armed; /* some connection of this process may have to be ended */

/* A connection has been made by this route. */
void mesh_drain_begin(struct mesh_conn *c, const struct mesh_route *route);
/* Looks at all that this process holds. Holds no lock of a connection. Threads: any. */
void mesh_drain_sweep(void);
static inline void mesh_drain_look(void) { /* one load where nothing is to be watched */
    if (mesh_unlikely(atomic_load_explicit(&mesh_drain_armed, memory_order_relaxed)))
        mesh_drain_sweep();
}
/* Why it was ended; NULL: it was not. */
const char *mesh_drain_why(const struct mesh_conn *c);

#endif
