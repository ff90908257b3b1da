/* SPDX-License-Identifier: Apache-2.0
 *
 * defer LIBRARY: takes the relative relocations of two groups of data (shim/link/layout.ld) out of
 * .rela.dyn, so that the loader does not apply them, and writes them in packed form into the room that they
 * leave, after .rela.plt, which moves up so that the loader reads one place. Runs once after the link, in
 * place. Says what it did; any surprise is an error.
 */
#include <elf.h>
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/link/deferred.h"

static uint8_t *image;
static size_t image_len;

static void *at(uint64_t offset, uint64_t len) {
    if (offset > image_len || len > image_len - offset)
        errx(1, "the file is cut or malformed");
    return image + offset;
}

static Elf64_Ehdr *header(void) {
    return at(0, sizeof(Elf64_Ehdr));
}

static uint32_t relative_type(void) {
    switch (header()->e_machine) {
    case EM_X86_64:
        return R_X86_64_RELATIVE;
    case EM_AARCH64:
        return R_AARCH64_RELATIVE;
    default:
        errx(1, "unknown machine %u", header()->e_machine);
    }
}

static Elf64_Shdr *section(unsigned i) {
    return at(header()->e_shoff + (uint64_t)i * sizeof(Elf64_Shdr), sizeof(Elf64_Shdr));
}

static Elf64_Shdr *section_named(const char *name) {
    const Elf64_Shdr *names = section(header()->e_shstrndx);
    for (unsigned i = 0; i < header()->e_shnum; i++)
        if (strcmp(at(names->sh_offset + section(i)->sh_name, 1), name) == 0)
            return section(i);
    errx(1, "no section %s", name);
}

static Elf64_Dyn *dynamic(int64_t tag) {
    const Elf64_Shdr *s = section_named(".dynamic");
    Elf64_Dyn *d = at(s->sh_offset, s->sh_size);
    for (; d->d_tag != DT_NULL; d++)
        if (d->d_tag == tag)
            return d;
    errx(1, "no dynamic tag %lld", (long long)tag);
}

static const Elf64_Sym *symbol(const char *name) {
    const Elf64_Shdr *table = section_named(".symtab"), *names = section_named(".strtab");
    const Elf64_Sym *s = at(table->sh_offset, table->sh_size);
    for (size_t i = 0; i < table->sh_size / sizeof *s; i++)
        if (strcmp(at(names->sh_offset + s[i].st_name, 1), name) == 0)
            return &s[i];
    errx(1, "no symbol %s", name);
}

/* The file offset of an address. */
static uint64_t offset_of(uint64_t address) {
    const Elf64_Phdr *p = at(header()->e_phoff, (uint64_t)header()->e_phnum * sizeof *p);
    for (unsigned i = 0; i < header()->e_phnum; i++)
        if (p[i].p_type == PT_LOAD && address >= p[i].p_vaddr && address - p[i].p_vaddr < p[i].p_filesz)
            return address - p[i].p_vaddr + p[i].p_offset;
    errx(1, "address %#llx is not in the file", (unsigned long long)address);
}

static void *xcalloc(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size);
    if (!p)
        err(1, "calloc");
    return p;
}

static int by_offset(const void *a, const void *b) {
    uint64_t x = ((const Elf64_Rela *)a)->r_offset, y = ((const Elf64_Rela *)b)->r_offset;
    return (x > y) - (x < y);
}

struct group {
    const char *start, *end; /* symbols */
    uint64_t from, to;
    Elf64_Rela *taken; /* sorted by place */
    size_t n;
};

static struct group groups[MESH_DEFERRED_GROUPS] = {
    [MESH_DEFERRED_ROOMS] = {.start = "mesh_rooms_start", .end = "mesh_rooms_end"},
    [MESH_DEFERRED_HEAVY] = {.start = "mesh_heavy_start", .end = "mesh_heavy_end"},
};

/* The group that a relocation goes to; NULL: it stays. A pointer into libc stays with the loader, wherever it
 * is. */
static struct group *group_of(const Elf64_Rela *r, uint32_t relative) {
    if (ELF64_R_TYPE(r->r_info) != relative || r->r_offset % 8 != 0 || (uint64_t)r->r_addend > UINT32_MAX)
        return NULL;
    for (size_t g = 0; g < MESH_DEFERRED_GROUPS; g++)
        if (r->r_offset >= groups[g].from && r->r_offset < groups[g].to)
            return &groups[g];
    return NULL;
}

/* What stays moves to the front of the table, in its order; the rest is taken by the groups. */
static size_t split(Elf64_Rela *r, size_t all) {
    const uint32_t relative = relative_type();
    size_t stay = 0;
    for (size_t g = 0; g < MESH_DEFERRED_GROUPS; g++) {
        groups[g].from = symbol(groups[g].start)->st_value;
        groups[g].to = symbol(groups[g].end)->st_value;
        groups[g].taken = xcalloc(all, sizeof *r);
    }
    for (size_t i = 0; i < all; i++) {
        struct group *to = group_of(&r[i], relative);
        if (to)
            to->taken[to->n++] = r[i];
        else
            r[stay++] = r[i];
    }
    for (size_t g = 0; g < MESH_DEFERRED_GROUPS; g++)
        qsort(groups[g].taken, groups[g].n, sizeof *r, by_offset);
    return stay;
}

/* As DT_RELR. Returns the words that it took. */
static uint32_t pack(const Elf64_Rela *r, size_t n, uint64_t *ret_words) {
    uint32_t words = 0;
    for (size_t i = 0; i < n;) {
        ret_words[words++] = r[i].r_offset;
        uint64_t next = r[i++].r_offset + 8;
        for (;; next += UINT64_C(63) * 8) {
            uint64_t bits = 0;
            for (; i < n && r[i].r_offset - next < UINT64_C(63) * 8; i++)
                bits |= UINT64_C(1) << ((r[i].r_offset - next) / 8);
            if (!bits)
                break;
            ret_words[words++] = bits << 1 | 1;
        }
    }
    return words;
}

static void map_file(const char *path) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        err(1, "%s", path);
    image_len = (size_t)st.st_size;
    image = mmap(NULL, image_len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (image == MAP_FAILED)
        err(1, "%s", path);
    close(fd);
    if (memcmp(header()->e_ident, ELFMAG, SELFMAG) != 0 || header()->e_ident[EI_CLASS] != ELFCLASS64)
        errx(1, "%s: not a 64-bit ELF file", path);
}

/* The part of .rela.dyn that is free to be filled: addresses and file offsets run alike in it. */
static uint64_t free_at, free_end, to_offset;

static uint64_t take(uint64_t len, uint64_t align) {
    uint64_t at_address = (free_at + align - 1) & ~(align - 1);
    if (at_address > free_end || len > free_end - at_address)
        errx(1, "no room for the deferred relocations");
    free_at = at_address + len;
    return at_address;
}

static void move_plt_relocations(void) {
    Elf64_Shdr *plt = section_named(".rela.plt");
    uint64_t to = take(plt->sh_size, 8);
    memmove(at(to - to_offset, plt->sh_size), at(plt->sh_offset, plt->sh_size), plt->sh_size);
    plt->sh_addr = to;
    plt->sh_offset = to - to_offset;
    dynamic(DT_JMPREL)->d_un.d_ptr = to;
}

static void write_group(const struct group *g, struct mesh_deferred *ret) {
    uint64_t *words = xcalloc(g->n, sizeof *words);
    uint32_t nwords = pack(g->taken, g->n, words);
    *ret = (struct mesh_deferred){.nwords = nwords, .naddends = (uint32_t)g->n};
    ret->words = take(nwords * sizeof *words, 64);
    ret->addends = take(g->n * sizeof(uint32_t), sizeof(uint32_t));
    memcpy(at(ret->words - to_offset, nwords * sizeof *words), words, nwords * sizeof *words);
    uint32_t *addends = at(ret->addends - to_offset, g->n * sizeof *addends);
    for (size_t i = 0; i < g->n; i++)
        addends[i] = (uint32_t)g->taken[i].r_addend;
    free(words);
}

int main(int argc, char **argv) {
    if (argc != 2)
        errx(2, "usage: defer LIBRARY");
    map_file(argv[1]);
    const size_t table_size = sizeof(struct mesh_deferred) * MESH_DEFERRED_GROUPS;
    struct mesh_deferred *table = at(offset_of(symbol("mesh_deferred")->st_value), table_size);
    if (table[MESH_DEFERRED_ROOMS].words || table[MESH_DEFERRED_HEAVY].words)
        errx(1, "%s: was here before", argv[1]);

    Elf64_Shdr *rela = section_named(".rela.dyn");
    Elf64_Rela *r = at(rela->sh_offset, rela->sh_size);
    size_t all = rela->sh_size / sizeof *r, stay = split(r, all);
    memset(r + stay, 0, (all - stay) * sizeof *r);
    free_end = rela->sh_addr + rela->sh_size;
    to_offset = rela->sh_addr - rela->sh_offset;
    rela->sh_size = stay * sizeof *r;
    free_at = rela->sh_addr + rela->sh_size;

    if (all - stay > 1000) /* a small object has no room to win */
        move_plt_relocations();
    for (size_t g = 0; g < MESH_DEFERRED_GROUPS; g++) {
        if (groups[g].n)
            write_group(&groups[g], &table[g]);
        printf("%zu of %zu relocations deferred: %s\n", groups[g].n, all, groups[g].start);
        free(groups[g].taken);
    }
    dynamic(DT_RELASZ)->d_un.d_val = rela->sh_size;
    dynamic(DT_RELACOUNT)->d_un.d_val -= all - stay;
    return 0;
}
