/* SPDX-License-Identifier: Apache-2.0
 *
 * The client's sessions, in this process's memory. A TLS 1.3 ticket is used once (RFC 8446 C.4), which holds
 * across fork too: a child begins with none.
 *
 * `owner` is lock and pid in one: the pid while free, its negative while held. A child finds a foreign pid,
 * held or not, takes the table over and forgets what it cannot know to be whole; what is forgotten was never
 * more than the table.
 */
#include <stdatomic.h>
#include <string.h>
#include "shim/base/sys.h"
#include "tls/internal.h"

enum { SLOTS = 256, PER_KEY = 8 };

struct ticket_slot {
    uint8_t key[MESH_TLS_DIGEST];
    SSL_SESSION *session; /* NULL: free */
    int64_t expires;
    uint64_t stamp; /* of its arrival: the oldest goes first */
};

static struct ticket_slot slots[SLOTS];
static uint64_t stamps;
static _Atomic int owner;

/* False when another thread has it: the caller goes without. */
static bool table_enter(void) {
    int me = mesh_sys_getpid(), seen = me;
    if (atomic_compare_exchange_strong_explicit(&owner, &seen, -me, memory_order_acquire,
                                                memory_order_relaxed))
        return true;
    if (seen == -me || !atomic_compare_exchange_strong_explicit(&owner, &seen, -me, memory_order_acquire,
                                                                memory_order_relaxed))
        return false;
    memset(slots, 0, sizeof slots);
    return true;
}

static void table_leave(void) {
    atomic_store_explicit(&owner, mesh_sys_getpid(), memory_order_release);
}

static bool is_key(const struct ticket_slot *slot, const uint8_t key[MESH_TLS_DIGEST]) {
    return slot->session && memcmp(slot->key, key, MESH_TLS_DIGEST) == 0;
}

/* A free slot, else the oldest; the oldest of this key when it has its share. */
static struct ticket_slot *slot_for(const uint8_t key[MESH_TLS_DIGEST]) {
    struct ticket_slot *oldest = &slots[0], *free_slot = NULL, *oldest_same = NULL;
    int same = 0;
    for (int i = 0; i < SLOTS; i++) {
        struct ticket_slot *slot = &slots[i];
        if (!slot->session) {
            free_slot = slot;
            continue;
        }
        if (slot->stamp < oldest->stamp)
            oldest = slot;
        if (is_key(slot, key)) {
            same++;
            if (!oldest_same || slot->stamp < oldest_same->stamp)
                oldest_same = slot;
        }
    }
    return same >= PER_KEY ? oldest_same : free_slot ? free_slot : oldest;
}

void mesh_tls_tickets_put(const uint8_t key[MESH_TLS_DIGEST], SSL_SESSION *session, int64_t expires) {
    SSL_SESSION *out = session;
    if (table_enter()) {
        struct ticket_slot *slot = slot_for(key);
        out = slot->session;
        memcpy(slot->key, key, MESH_TLS_DIGEST);
        slot->session = session;
        slot->expires = expires;
        slot->stamp = ++stamps;
        table_leave();
    }
    SSL_SESSION_free(out);
}

SSL_SESSION *mesh_tls_tickets_take(const uint8_t key[MESH_TLS_DIGEST], int64_t wall, int64_t *ret_expires) {
    struct ticket_slot *newest = NULL;
    SSL_SESSION *session = NULL;
    if (!table_enter())
        return NULL;
    for (int i = 0; i < SLOTS; i++)
        if (is_key(&slots[i], key) && slots[i].expires > wall && (!newest || slots[i].stamp > newest->stamp))
            newest = &slots[i];
    if (newest) {
        session = newest->session;
        *ret_expires = newest->expires;
        /* 1.2 has one session for many connections. */
        if (SSL_SESSION_get_protocol_version(session) == TLS1_2_VERSION)
            SSL_SESSION_up_ref(session);
        else
            newest->session = NULL;
    }
    table_leave();
    return session;
}
