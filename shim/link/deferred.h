/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the deferred relocations are: written by shim/link/defer.c, read by shim/heavy.c. Offsets are from the start
 * of the image, which is the start of the file.
 */
#ifndef MESH_SHIM_LINK_DEFERRED_H
#define MESH_SHIM_LINK_DEFERRED_H

#include <stdint.h>

enum { MESH_DEFERRED_ROOMS, MESH_DEFERRED_HEAVY, MESH_DEFERRED_GROUPS };

struct mesh_deferred {
    uint64_t words;   /* uint64_t each, as in DT_RELR: an even one is an address and says that there is a pointer, an
                         odd one says by its bits which of the next 63 places are pointers too */
    uint64_t addends; /* uint32_t each, in the order of the pointers: what is added to the base */
    uint32_t nwords, naddends;
};

#endif
