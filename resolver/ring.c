/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/view.h"
#include "shim/base/sys.h"

/* A number on a slot says which refusal is in it; its lowest bit, that it is being written. A writer that
 * died or sleeps with that bit set is overtaken when the ring comes round again: its text, if it still
 * writes, is then torn, which the reader cannot see, but never out of bounds. */
static bool claim(struct view_refusal *r, uint64_t n) {
    uint64_t old = atomic_load(&r->number);
    while (old >> 1 < n)
        if (atomic_compare_exchange_weak(&r->number, &old, n << 1 | 1))
            return true;
    return false;
}

void mesh_why_push(struct mesh_view *v, const char *line, size_t len) {
    struct view_head *h = mesh_view_head(v);
    uint64_t n = atomic_fetch_add(&h->refusals, 1) + 1;
    struct view_refusal *r = &h->ring[n % VIEW_RING];
    if (!claim(r, n))
        return;
    if (len > VIEW_RING_TEXT)
        len = VIEW_RING_TEXT;
    memcpy(r->text, line, len);
    r->len = (uint32_t)len;
    uint64_t mine = n << 1 | 1;
    atomic_compare_exchange_strong(&r->number, &mine, n << 1);
}

static bool read_refusal(const struct view_refusal *r, uint64_t n, char ret_text[VIEW_RING_TEXT + 1]) {
    _Atomic uint64_t *number = &((struct view_refusal *)r)->number;
    if (atomic_load_explicit(number, memory_order_acquire) != n << 1)
        return false;
    uint32_t len = ((const volatile struct view_refusal *)r)->len;
    if (len > VIEW_RING_TEXT)
        len = VIEW_RING_TEXT;
    memcpy(ret_text, r->text, len);
    ret_text[len] = 0;
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(number, memory_order_relaxed) == n << 1;
}

int mesh_why_read(const struct mesh_view *v, uint64_t *io_seq, void (*fn)(void *arg, const char *line),
                  void *arg) {
    const struct view_head *h = mesh_view_head(v);
    uint64_t last = atomic_load((_Atomic uint64_t *)&h->refusals), n = *io_seq + 1;
    char text[VIEW_RING_TEXT + 1];
    int count = 0;
    if (n > last + 1) /* a caller's number from another life of the view */
        n = 1;
    if (last >= VIEW_RING && n <= last - VIEW_RING)
        n = last - VIEW_RING + 1;
    for (; n <= last; n++) {
        if (!read_refusal(&h->ring[n % VIEW_RING], n, text))
            continue;
        fn(arg, text);
        count++;
    }
    *io_seq = last;
    return count;
}

/* ---- trace mailbox ----------------------------------------------------------------------------------------
 */
enum { MAIL_FREE = 0, MAIL_BUSY = 1, MAIL_FULL = 2 };

static uint64_t mail_for(int pid) {
    return (uint64_t)(unsigned)pid << 2 | MAIL_FULL;
}

/* Mail that nobody will take: its process is gone. */
static bool is_dead_letter(uint64_t state) {
    return (state & 3) == MAIL_FULL && mesh_sys_kill((pid_t)(state >> 2), 0) == -ESRCH;
}

int mesh_ledger_post_trace(struct mesh_view *v, int pid, const char *spec) {
    struct view_head *h = mesh_view_head(v);
    size_t n = strlen(spec);
    if (pid <= 0 || n >= sizeof h->mails[0].spec)
        return MESH_E_INVALID;
    if (mesh_sys_kill(pid, 0) == -ESRCH)
        return MESH_E_NOTFOUND;
    for (int i = 0; i < VIEW_MAILS; i++) {
        struct view_mail *m = &h->mails[i];
        uint64_t state = atomic_load(&m->state);
        if (state != MAIL_FREE && state != mail_for(pid) && !is_dead_letter(state))
            continue;
        if (!atomic_compare_exchange_strong(&m->state, &state, MAIL_BUSY))
            continue;
        memcpy(m->spec, spec, n + 1);
        atomic_store(&m->state, mail_for(pid));
        atomic_fetch_add(&h->mails_posted, 1);
        return 0;
    }
    return MESH_E_LIMIT;
}

bool mesh_ledger_take_trace(struct mesh_view *v, uint64_t tree, int pid, char *ret_spec, size_t cap) {
    struct view_head *h = mesh_view_head(v);
    if (!atomic_load_explicit(&h->mails_posted, memory_order_relaxed))
        return false;
    for (int i = 0; i < VIEW_MAILS; i++) {
        struct view_mail *m = &h->mails[i];
        uint64_t state = mail_for(pid);
        if (!atomic_compare_exchange_strong(&m->state, &state, MAIL_BUSY))
            continue;
        size_t n = strnlen(m->spec, sizeof m->spec - 1);
        bool fits = n < cap;
        if (fits) {
            memcpy(ret_spec, m->spec, n);
            ret_spec[n] = 0;
        }
        atomic_store(&m->state, MAIL_FREE);
        return fits;
    }
    return false;
}
