// SPDX-License-Identifier: Apache-2.0
#include <elf.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>
#include "shim/base/buf.h"
#include "shim/names.h"

/* How far debug/buildinfo searches the data segment for its mark, and how it is aligned. */
enum { BUILDINFO_BYTES = 64 << 10, BUILDINFO_ALIGN = 16, GO_BUILD_ID = 4 };

/* Notes are in host order, so only lengths and bytes are taken through the buffer. */
static bool has_go_note(const void *notes, size_t len, size_t align) {
    struct mesh_rbuf b = mesh_rbuf_of(notes, len);
    size_t mask = align == 8 ? 7 : 3;
    while (mesh_rbuf_left(&b) >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) h;
        memcpy(&h, mesh_rbuf_take(&b, sizeof h), sizeof h);
        const uint8_t *name = mesh_rbuf_take(&b, (h.n_namesz + mask) & ~mask);
        if (name && h.n_type == GO_BUILD_ID && h.n_namesz == 4 && memcmp(name, "Go\0", 4) == 0)
            return true;
        mesh_rbuf_take(&b, (h.n_descsz + mask) & ~mask);
    }
    return false;
}

/* Linked with an empty build id there is no note; the toolchain's own mark stays. A sanitizer has
 * its own zones between the program's variables. */
__attribute__((no_sanitize("address"))) static bool has_buildinfo(const uint8_t *data, size_t len) {
    static const char tail[] = " Go buildinf:"; /* behind 0xff */
    len = len < BUILDINFO_BYTES ? len : BUILDINFO_BYTES;
    for (size_t i = 0; i + BUILDINFO_ALIGN <= len; i += BUILDINFO_ALIGN) {
        size_t n = 0;
        while (data[i] == 0xff && n < sizeof tail - 1 && data[i + 1 + n] == (uint8_t)tail[n])
            n++;
        if (n == sizeof tail - 1)
            return true;
    }
    return false;
}

static int look_at_program(struct dl_phdr_info *info, size_t size, void *arg) {
    bool *go = arg;
    for (int i = 0; i < info->dlpi_phnum && !*go; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        const uint8_t *at = (const uint8_t *)(info->dlpi_addr + p->p_vaddr);
        if (p->p_type == PT_NOTE)
            *go = has_go_note(at, p->p_memsz, p->p_align);
        else if (p->p_type == PT_LOAD && p->p_flags & PF_W && p->p_flags & PF_R)
            *go = has_buildinfo(at, p->p_filesz);
    }
    return 1; /* the first object is the program */
}

bool mesh_names_program_is_go(void) {
    static _Atomic int known; /* 0: not looked yet, 1: no, 2: yes */
    int k = atomic_load_explicit(&known, memory_order_relaxed);
    if (k == 0) {
        bool go = false;
        dl_iterate_phdr(look_at_program, &go);
        k = go ? 2 : 1;
        atomic_store_explicit(&known, k, memory_order_relaxed);
    }
    return k == 2;
}
