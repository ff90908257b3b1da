/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the ledger: what ledger.c (taking and giving back) and settle.c (after processes that died)
 * share. A slot goes NAMED -> COUNTED -> LOWERING -> free; a dial's goes through EASING to a COUNTED that is
 * a dial no more. Dead in COUNTED: exactly one to subtract. Dead in between: nobody can say whether the
 * counters were changed, so the slot is SUSPECT until they have been counted anew.
 */
#ifndef MESH_RESOLVER_LEDGER_H
#define MESH_RESOLVER_LEDGER_H

#include "resolver/view.h"

enum { TREE_PROBES = 64 }; /* a tree lies within so many places of its own: entries before it come and go */

struct view_chunk *mesh_ledger_chunk(const struct mesh_view *v, uint32_t i); /* NULL: there is none */
static inline uint64_t mesh_ledger_what(enum ledger_phase phase, uint32_t dial, uint32_t stat) {
    return (uint64_t)dial << 40 | (uint64_t)phase << 32 | stat;
}
static inline enum ledger_phase mesh_ledger_phase(uint64_t what) {
    return (enum ledger_phase)(what >> 32 & 0xff);
}
static inline uint32_t mesh_ledger_dial_of(uint64_t what) {
    return (uint32_t)(what >> 40);
}
/* Subtracts what a slot in COUNTED stands for. */
void mesh_ledger_lower(const struct mesh_view *v, uint64_t what);
void mesh_ledger_free(struct view_chunk *c, uint32_t i);

#endif
