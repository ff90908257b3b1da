/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the ledger: what ledger.c (taking and giving back) and settle.c (after processes that died)
 * share. A slot goes NAMED -> COUNTED -> LOWERING -> free. Dead in COUNTED: exactly one to subtract. Dead in
 * NAMED or LOWERING: nobody can say whether the counter was changed, so the slot is SUSPECT until its counter
 * has been counted anew.
 */
#ifndef MESH_RESOLVER_LEDGER_H
#define MESH_RESOLVER_LEDGER_H

#include "resolver/view.h"

enum { TREE_PROBES = 64 }; /* a tree lies within so many places of its own: entries before it come and go */

struct view_chunk *mesh_ledger_chunk(const struct mesh_view *v, uint32_t i); /* NULL: there is none */
void mesh_ledger_raise(const struct mesh_view *v, uint32_t stat);
void mesh_ledger_lower(const struct mesh_view *v, uint32_t stat);
void mesh_ledger_free(struct view_chunk *c, uint32_t i);

#endif
