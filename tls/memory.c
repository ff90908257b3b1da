/* SPDX-License-Identifier: Apache-2.0
 *
 * OpenSSL's memory. Refused any while it comes up, OpenSSL goes on with locks that do not exist, and what
 * failed under its `once` never comes back: for that time it has memory of its own. Later it takes a refusal
 * as the error that it is.
 */
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "tls/internal.h"
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

enum {
    RESERVE_BYTES = 4 << 20, /* address space: a page is taken when it is written */
    ALIGN = 16,              /* and the room before a block for its size */
};

static struct {
    uint8_t *at;
    _Atomic size_t used;
    atomic_bool open;
} reserve;

static bool reserved(const void *p) {
    return reserve.at && (size_t)((const uint8_t *)p - reserve.at) < RESERVE_BYTES;
}

static void *reserve_take(size_t n) {
    if (!atomic_load_explicit(&reserve.open, memory_order_acquire) || n > RESERVE_BYTES / 2)
        return NULL;
    size_t room = ALIGN + (n + ALIGN - 1) / ALIGN * ALIGN;
    size_t from = atomic_fetch_add_explicit(&reserve.used, room, memory_order_relaxed);
    if (from > RESERVE_BYTES - room)
        return NULL;
    memcpy(reserve.at + from, &n, sizeof n);
    return reserve.at + from + ALIGN;
}

static void *take(size_t n, const char *file, int line) {
    void *p = n ? reserve_take(n) : NULL;
    return mesh_unlikely(p != NULL) || !n ? p : malloc(n);
}

static void give(void *p, const char *file, int line) {
    if (mesh_likely(!reserved(p)))
        free(p);
}

static void *resize(void *p, size_t n, const char *file, int line) {
    size_t old = 0;
    if (n == 0) {
        give(p, file, line);
        return NULL;
    }
    if (!p)
        return take(n, file, line);
    if (!reserved(p))
        return realloc(p, n);
    void *fresh = take(n, file, line);
    memcpy(&old, (uint8_t *)p - ALIGN, sizeof old);
    if (fresh)
        memcpy(fresh, p, old < n ? old : n);
    return fresh;
}

int mesh_tls_memory_begin(void) {
    CRYPTO_malloc_fn set;
    CRYPTO_get_mem_functions(&set, NULL, NULL);
    if (set != take && (set != CRYPTO_malloc || CRYPTO_set_mem_functions(take, resize, give) != 1))
        return 0; /* not ours alone: a test's, or in use already */
    void *p;
    if (!reserve.at) {
        if (mesh_sys_mmap(NULL, RESERVE_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, &p))
            return MESH_E_NOMEM;
        reserve.at = p;
#ifdef __SANITIZE_ADDRESS__ /* which does not see a mapping that no libc made */
        __lsan_register_root_region(p, RESERVE_BYTES);
#endif
    }
    atomic_store_explicit(&reserve.open, true, memory_order_release);
    return 0;
}

void mesh_tls_memory_end(void) {
    atomic_store_explicit(&reserve.open, false, memory_order_release);
}
