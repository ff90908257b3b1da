/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/rotation.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "shim/accept.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/engine.h"
#include "shim/slab.h"

enum { STACK = 256 << 10, PARTS = 3 };

struct mesh_rotation_copy {
    uint32_t bytes;
    uint8_t data[];
};

static struct mesh_rotation *area(void) {
    return mesh_slab ? mesh_slab_rotation() : NULL;
}

bool mesh_rotation_published(void) {
    struct mesh_rotation *a = area();
    return a && atomic_load(&a->sequence) >= 2;
}

bool mesh_rotation_publish(const struct mesh_pem *pem) {
    struct mesh_rotation *a = area();
    const void *part[PARTS] = {pem->cert, pem->key, pem->ca};
    const size_t len[PARTS] = {pem->cert_len, pem->key_len, pem->ca_len};
    if (!a || len[0] > sizeof a->data || len[1] > sizeof a->data || len[2] > sizeof a->data ||
        len[0] + len[1] + len[2] > sizeof a->data)
        return false;
    uint32_t sequence = atomic_load(&a->sequence) | 1; /* odd: being written; so it stays if we die here */
    atomic_store(&a->sequence, sequence);
    atomic_thread_fence(memory_order_seq_cst);
    mesh_zero(a->data, a->length[0] + a->length[1] + a->length[2] <= sizeof a->data
                           ? a->length[0] + a->length[1] + a->length[2]
                           : sizeof a->data);
    size_t at = 0;
    for (int i = 0; i < PARTS; i++) {
        memcpy(a->data + at, part[i], len[i]);
        a->length[i] = (uint32_t)len[i];
        at += len[i];
    }
    atomic_store(&a->sequence, sequence + 1);
    return true;
}

struct mesh_rotation_copy *mesh_rotation_copy(uint32_t *io_seen, struct mesh_pem *ret_pem) {
    struct mesh_rotation *a = area();
    uint32_t sequence = a ? atomic_load(&a->sequence) : 0;
    if (!sequence || sequence % 2 || sequence == *io_seen)
        return NULL;
    uint32_t len[PARTS] = {a->length[0], a->length[1], a->length[2]};
    size_t bytes = (size_t)len[0] + len[1] + len[2];
    struct mesh_rotation_copy *c = bytes <= sizeof a->data ? malloc(sizeof *c + bytes) : NULL;
    if (!c)
        return NULL;
    c->bytes = (uint32_t)bytes;
    memcpy(c->data, a->data, bytes);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&a->sequence) != sequence) { /* the next look finds the newer one */
        mesh_rotation_copy_free(c);
        return NULL;
    }
    *io_seen = sequence;
    *ret_pem = (struct mesh_pem){.cert = c->data,
                                 .key = c->data + len[0],
                                 .ca = c->data + len[0] + len[1],
                                 .cert_len = len[0],
                                 .key_len = len[1],
                                 .ca_len = len[2]};
    return c;
}

void mesh_rotation_copy_free(struct mesh_rotation_copy *c) {
    if (!c)
        return;
    mesh_zero(c->data, c->bytes);
    free(c);
}

/* ---- the publisher ---- */

static _Atomic bool publishing;

static void *publisher(void *arg) {
    for (;;) {
        struct timespec second = {1, 0};
        mesh_engine_identity_publish();
        (void)mesh_sys_ppoll(NULL, 0, &second, NULL);
        if (mesh_sys_geteuid() != 0) /* what it publishes would be what it was fed */
            break;
    }
    atomic_store(&publishing, false);
    return arg;
}

void mesh_rotation_forked(void) {
    bool none = false;
    if (!mesh_slab || mesh_sys_geteuid() != 0 || !mesh_accept_any() ||
        !atomic_compare_exchange_strong(&publishing, &none, true))
        return;
    uint64_t all = MESH_SIGNALS_OF_PROGRAM, old;
    pthread_attr_t a;
    pthread_t t;
    int keep = errno;
    (void)mesh_sys_sigprocmask(SIG_BLOCK, &all, &old);
    int err = pthread_attr_init(&a);
    if (!err) {
        pthread_attr_setstacksize(&a, STACK);
        pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
        err = pthread_create(&t, &a, publisher, NULL);
        pthread_attr_destroy(&a);
    }
    (void)mesh_sys_sigprocmask(SIG_SETMASK, &old, NULL);
    if (err) /* tried again at the next fork */
        atomic_store(&publishing, false);
    errno = keep;
}

void mesh_rotation_after_fork(void) {
    atomic_store(&publishing, false);
}
