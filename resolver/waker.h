/* SPDX-License-Identifier: Apache-2.0
 *
 * How any process wakes the publisher out of its poll: a datagram socket of the abstract namespace whose name is a random
 * number that only the mapped view says. Where no datagram gets through (another network namespace, a seccomp filter, no
 * socket) the publisher looks by itself a few times a second.
 */
#ifndef MESH_RESOLVER_WAKER_H
#define MESH_RESOLVER_WAKER_H

#include "resolver/view.h"

/* Makes the publisher's end and says its name in the view. Returns the descriptor or a negative errno. */
int mesh_waker_open(struct mesh_view *v, uint64_t random) MESH_MUST_CHECK;
void mesh_waker_drain(int fd);
void mesh_waker_wake(const struct mesh_view *v); /* any thread, any process; makes three system calls */

#endif
