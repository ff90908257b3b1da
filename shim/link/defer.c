/* SPDX-License-Identifier: Apache-2.0
 *
 * defer LIBRARY: takes the relative relocations of the heavy part (between mesh_heavy_start and mesh_heavy_end, see
 * shim/link/heavy.ld) out of .rela.dyn, so that the loader does not apply them, and writes them in packed form into
 * the room that they leave. Runs once after the link, in place. Says what it did; any surprise is an error.
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

#include "shim/link/heavy_table.h"

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

static int by_offset(const void *a, const void *b) {
    uint64_t x = ((const Elf64_Rela *)a)->r_offset, y = ((const Elf64_Rela *)b)->r_offset;
    return (x > y) - (x < y);
}

/* Splits the table: what stays moves to the front in its order, what is deferred is returned, sorted by place. */
static Elf64_Rela *split(Elf64_Shdr *rela, size_t *ret_n) {
    const uint64_t start = symbol("mesh_heavy_start")->st_value, end = symbol("mesh_heavy_end")->st_value;
    const uint32_t relative = relative_type();
    size_t all = rela->sh_size / sizeof(Elf64_Rela), stay = 0, n = 0;
    Elf64_Rela *r = at(rela->sh_offset, rela->sh_size), *deferred = calloc(all ? all : 1, sizeof *r);
    if (!deferred)
        err(1, "calloc");
    for (size_t i = 0; i < all; i++) {
        if (r[i].r_offset < start || r[i].r_offset >= end) {
            r[stay++] = r[i];
            continue;
        }
        if (ELF64_R_TYPE(r[i].r_info) == relative && r[i].r_offset % 8 == 0 && (uint64_t)r[i].r_addend <= UINT32_MAX)
            deferred[n++] = r[i];
        else
            r[stay++] = r[i]; /* a pointer into libc: for the loader, which resolves it as ever */
    }
    rela->sh_size = stay * sizeof *r;
    memset(r + stay, 0, (all - stay) * sizeof *r);
    qsort(deferred, n, sizeof *r, by_offset);
    *ret_n = n;
    return deferred;
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

int main(int argc, char **argv) {
    if (argc != 2)
        errx(2, "usage: defer LIBRARY");
    map_file(argv[1]);
    struct mesh_heavy_table *table = at(offset_of(symbol("mesh_heavy_table")->st_value), sizeof *table);
    if (table->nwords)
        errx(1, "%s: was here before", argv[1]);

    Elf64_Shdr *rela = section_named(".rela.dyn");
    const uint64_t room = rela->sh_size, relocations = room / sizeof(Elf64_Rela);
    size_t n;
    Elf64_Rela *deferred = split(rela, &n);
    uint64_t *words = calloc(n ? n : 1, sizeof *words);
    if (!words)
        err(1, "calloc");
    uint32_t nwords = pack(deferred, n, words);
    uint64_t free_at = (rela->sh_size + 63) & ~UINT64_C(63), need = nwords * sizeof *words + n * sizeof(uint32_t);
    if (n && (free_at > room || need > room - free_at))
        errx(1, "%s: no room for %zu deferred relocations", argv[1], n);

    if (n == 0)
        free_at = 0;
    memcpy(at(rela->sh_offset + free_at, need), words, nwords * sizeof *words);
    uint32_t *addends = at(rela->sh_offset + free_at + nwords * sizeof *words, n * sizeof *addends);
    for (size_t i = 0; i < n; i++)
        addends[i] = (uint32_t)deferred[i].r_addend;
    *table = (struct mesh_heavy_table){.words = rela->sh_addr + free_at,
                                       .addends = rela->sh_addr + free_at + nwords * sizeof *words,
                                       .nwords = nwords,
                                       .naddends = (uint32_t)n};
    dynamic(DT_RELASZ)->d_un.d_val = rela->sh_size;
    dynamic(DT_RELACOUNT)->d_un.d_val -= n;
    printf("%zu of %llu relocations deferred, %llu bytes\n", n, (unsigned long long)relocations, (unsigned long long)need);
    free(words);
    free(deferred);
    return 0;
}
