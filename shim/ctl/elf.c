/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/ctl/elf.h"

#include <elf.h>
#include <string.h>
#include <unistd.h>

enum {
    HEADERS_MAX = 128,          /* program headers looked at */
    NOTES_MAX = 4096,           /* bytes of one note segment */
    BUILD_INFO_SPAN = 64 << 10, /* Go's build info stands within this much of the first writable segment */
    CHUNK = 4096,
    GO_NOTE_BUILD_ID = 4,
};

#if defined(__x86_64__)
enum { OUR_MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { OUR_MACHINE = EM_AARCH64 };
#endif

ssize_t mesh_ctl_read_fd(void *source, void *ret_bytes, size_t n, uint64_t offset) {
    return pread(*(int *)source, ret_bytes, n, (off_t)offset);
}

static bool read_all(mesh_ctl_read_at *read_at, void *source, void *ret_bytes, size_t n, uint64_t offset) {
    return offset <= INT64_MAX && read_at(source, ret_bytes, n, offset) == (ssize_t)n;
}

/* The Go linker's note: name "Go\0\0", type 4. */
static bool has_go_note(mesh_ctl_read_at *read_at, void *source, const Elf64_Phdr *ph) {
    unsigned char notes[NOTES_MAX];
    ssize_t n =
        read_at(source, notes, ph->p_filesz < NOTES_MAX ? (size_t)ph->p_filesz : NOTES_MAX, ph->p_offset);
    Elf64_Nhdr head;
    for (size_t at = 0; n > 0 && at + sizeof head + 4 <= (size_t)n;) {
        memcpy(&head, notes + at, sizeof head);
        if (head.n_type == GO_NOTE_BUILD_ID && head.n_namesz == 4 &&
            memcmp(notes + at + sizeof head, "Go\0\0", 4) == 0)
            return true;
        uint64_t size =
            sizeof head + (((uint64_t)head.n_namesz + 3) & ~3ull) + (((uint64_t)head.n_descsz + 3) & ~3ull);
        at += size < NOTES_MAX ? (size_t)size : NOTES_MAX;
    }
    return false;
}

/* Built without a build id, a Go program still carries its build info, aligned to 16. */
static bool has_go_build_info(mesh_ctl_read_at *read_at, void *source, const Elf64_Phdr *ph) {
    static const char magic[14] = "\xff Go buildinf:";
    char bytes[CHUNK];
    for (uint64_t at = 0; at < ph->p_filesz && at < BUILD_INFO_SPAN; at += CHUNK) {
        ssize_t n = read_at(source, bytes, CHUNK, ph->p_offset + at);
        for (size_t i = 0; n > 0 && i + sizeof magic <= (size_t)n; i += 16)
            if (memcmp(bytes + i, magic, sizeof magic) == 0)
                return true;
        if (n < CHUNK)
            return false;
    }
    return false;
}

static int read_interp(mesh_ctl_read_at *read_at, void *source, const Elf64_Phdr *ph,
                       struct mesh_ctl_elf *ret) {
    if (ph->p_filesz == 0 || ph->p_filesz > sizeof ret->interp)
        return MESH_E_SYNTAX;
    if (!read_all(read_at, source, ret->interp, (size_t)ph->p_filesz, ph->p_offset))
        return MESH_E_SYNTAX;
    ret->interp[ph->p_filesz - 1] = 0;
    return 0;
}

static int judge_header(mesh_ctl_read_at *read_at, void *source, const Elf64_Phdr *ph,
                        struct mesh_ctl_elf *ret) {
    if (ph->p_type == PT_INTERP)
        return read_interp(read_at, source, ph, ret);
    if (ph->p_type == PT_NOTE && !ret->go)
        ret->go = has_go_note(read_at, source, ph);
    if (ph->p_type == PT_LOAD && (ph->p_flags & PF_W) && !ret->go)
        ret->go = has_go_build_info(read_at, source, ph);
    return 0;
}

int mesh_ctl_elf_read(mesh_ctl_read_at *read_at, void *source, struct mesh_ctl_elf *ret) {
    Elf64_Ehdr eh;
    memset(ret, 0, sizeof *ret);
    ssize_t n = read_at(source, &eh, sizeof eh, 0);
    if (n < 0)
        return MESH_E_IO;
    if (n < (ssize_t)EI_NIDENT || memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0)
        return MESH_E_SYNTAX;
    if (n < (ssize_t)sizeof eh || eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_machine != OUR_MACHINE)
        return 0;
    ret->same_class = true;
    if (eh.e_phentsize != sizeof(Elf64_Phdr))
        return MESH_E_SYNTAX;
    for (unsigned i = 0; i < eh.e_phnum && i < HEADERS_MAX; i++) {
        Elf64_Phdr ph;
        if (eh.e_phoff > INT64_MAX || !read_all(read_at, source, &ph, sizeof ph, eh.e_phoff + i * sizeof ph))
            return MESH_E_SYNTAX;
        int r = judge_header(read_at, source, &ph, ret);
        if (r < 0)
            return r;
    }
    return 0;
}

bool mesh_ctl_interp_is_glibc(const char *interp) {
    const char *slash = strrchr(interp, '/');
    return strncmp(slash ? slash + 1 : interp, "ld-linux", 8) == 0;
}
