/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/own_identity.h"

#include <string.h>

#include "lb/lb.h"
#include "shim/base/clock.h"
#include "shim/conn.h"
#include "shim/engine.h"

enum { KEPT = 16 };

struct kept {
    uint64_t key[2];
    uint64_t used;
    struct mesh_identity *id;
};

static struct kept kept[KEPT]; /* mesh_guard */

/* Two hashes of all three texts and of our own identity, where it takes part. Not a defence against anybody:
 * who can write the view can write another certificate into it. */
static void key_of(const struct mesh_pem *pem, const struct mesh_identity *ours, uint64_t ret[2]) {
    for (int i = 0; i < 2; i++) {
        uint64_t h = (uint64_t)i + 1;
        h = mesh_lb_xxh64(pem->cert, pem->cert_len, h);
        h = mesh_lb_xxh64(pem->key, pem->key_len, h);
        h = mesh_lb_xxh64(pem->ca, pem->ca_len, h);
        ret[i] = ours ? mesh_lb_xxh64(mesh_identity_digest(ours), 32, h) : h;
    }
}

static struct mesh_identity *find(const uint64_t key[2]) {
    struct mesh_identity *id = NULL;
    struct mesh_guard g = mesh_guard_enter();
    for (int i = 0; i < KEPT && !id; i++)
        if (kept[i].id && memcmp(kept[i].key, key, sizeof kept[i].key) == 0) {
            kept[i].used = mesh_now_coarse();
            id = mesh_identity_ref(kept[i].id);
        }
    mesh_guard_leave(g);
    return id;
}

static void keep(const uint64_t key[2], struct mesh_identity *id) {
    struct mesh_guard g = mesh_guard_enter();
    struct kept *oldest = &kept[0];
    for (int i = 1; i < KEPT; i++)
        if (kept[i].used < oldest->used)
            oldest = &kept[i];
    struct mesh_identity *gone = oldest->id;
    *oldest = (struct kept){{key[0], key[1]}, mesh_now_coarse(), mesh_identity_ref(id)};
    mesh_guard_leave(g);
    mesh_identity_unref(gone);
}

struct mesh_identity *mesh_own_identity(const struct mesh_pem *pem, struct mesh_why *why) {
    bool own_chain = pem->cert && pem->key;
    struct mesh_identity *ours = own_chain && pem->ca ? NULL : mesh_engine_identity(why);
    if (!ours && !(own_chain && pem->ca))
        return NULL;
    if (!own_chain && !pem->ca)
        return ours;
    uint64_t key[2];
    key_of(pem, ours, key);
    struct mesh_identity *id = find(key);
    int err = 0;
    if (!id) {
        if (!own_chain)
            err = mesh_identity_with_ca(ours, pem->ca, pem->ca_len, &id, why);
        else if (!pem->ca)
            err = mesh_why(why, MESH_E_IDENTITY, "a certificate without a trust bundle");
        else
            err = mesh_identity_new(pem, mesh_wall(), &id, why);
        if (!err)
            keep(key, id);
    }
    mesh_identity_unref(ours);
    return err ? NULL : id;
}
