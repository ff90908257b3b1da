/* SPDX-License-Identifier: Apache-2.0
 *
 * dlsym takes the loader's lock and allocates when a name is missing, and a malloc that is itself preloaded
 * calls us before it can serve that. So we read what the loader has mapped: the link map's objects after
 * ours, their hash tables, their symbol versions.
 */
#include "shim/real.h"

#include <errno.h>
#include <link.h>

#pragma weak _r_debug /* a strong reference would make ld.so a NEEDED of its own */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>

#include "shim/base/mem.h"

/* ---- the table ---- */
enum lacks { MINUS1, NOPTR, ERRNO, EAI };

static const char names[] =
#define CALL(family, lacks, ret, name, params, args) #name "\0"
#define VOID(family, name, params, args) #name "\0"
#define NORETURN(family, name, params, args) #name "\0"
#define FIXED(family, lacks, ret, name, type, params, args) #name "\0"
#define CHECKED(family, ret, name, params, args, overrun, call, call_args) #name "\0"
#define POINTER(lacks, ret, name, params, args) #name "\0"
#include "shim/symbols.def"
    ;

static const uint8_t lacking[] = {
#define CALL(family, lacks, ret, name, params, args) lacks,
#define VOID(family, name, params, args) MINUS1,
#define NORETURN(family, name, params, args) MINUS1,
#define FIXED(family, lacks, ret, name, type, params, args) lacks,
#define CHECKED(family, ret, name, params, args, overrun, call, call_args) MINUS1,
#define POINTER(lacks, ret, name, params, args) lacks,
#include "shim/symbols.def"
};

static const uint32_t hashes[] = {
/* DT_GNU_HASH of each name */
#include "shim/symbols.hash"
};

enum { COUNT = sizeof hashes / sizeof *hashes };
_Static_assert(sizeof(struct mesh_real) == COUNT * sizeof(void *), "symbols.hash is not of this table");
_Static_assert(sizeof lacking == COUNT, "one name, one pointer");

static long lacks_minus1(void) {
    errno = ENOSYS;
    return -1;
}

static void *lacks_pointer(void) {
    errno = ENOSYS;
    return NULL;
}

static int lacks_errno(void) {
    return ENOSYS;
}

static int lacks_eai(void) {
    errno = ENOSYS;
    return EAI_SYSTEM;
}

static void *stand_in(enum lacks l) {
    switch (l) {
    case NOPTR:
        return (void *)lacks_pointer;
    case ERRNO:
        return (void *)lacks_errno;
    case EAI:
        return (void *)lacks_eai;
    default:
        return (void *)lacks_minus1;
    }
}

/* ---- before the look-up: every pointer runs its own, then goes on ---- */
static void resolve(size_t index);
#define INDEX(name) (offsetof(struct mesh_real, name) / sizeof(void *))

#define CALL(family, lacks, ret, name, params, args)                                                         \
    static ret early_##name params {                                                                         \
        resolve(INDEX(name));                                                                                \
        return real.name args;                                                                               \
    }
#define VOID(family, name, params, args)                                                                     \
    static void early_##name params {                                                                        \
        resolve(INDEX(name));                                                                                \
        real.name args;                                                                                      \
    }
#define NORETURN(family, name, params, args) VOID(family, name, params, args)
#define FIXED(family, lacks, ret, name, type, params, args) CALL(family, lacks, ret, name, params, args)
#define CHECKED(family, ret, name, params, args, overrun, call, call_args)                                   \
    CALL(family, MINUS1, ret, name, params, args)
#define POINTER(lacks, ret, name, params, args) CALL(ON, lacks, ret, name, params, args)
#include "shim/symbols.def"

struct mesh_real real = {
#define CALL(family, lacks, ret, name, params, args) early_##name,
#define VOID(family, name, params, args) early_##name,
#define NORETURN(family, name, params, args) early_##name,
#define FIXED(family, lacks, ret, name, type, params, args) early_##name,
#define CHECKED(family, ret, name, params, args, overrun, call, call_args) early_##name,
#define POINTER(lacks, ret, name, params, args) early_##name,
#include "shim/symbols.def"
};

/* ---- one mapped object ---- */
struct object {
    ElfW(Addr) base;
    const ElfW(Sym) * syms;
    const char *strings;
    const ElfW(Half) * versions; /* NULL: the object has none */
    const uint32_t *gnu_hash;    /* one of the two is there */
    const uint32_t *sysv_hash;
};

/* The loader adds the base to what it has touched, but not to a read-only dynamic section (the vDSO's). */
static const void *mapped(ElfW(Addr) base, ElfW(Addr) p) {
    return (const void *)(p < base ? p + base : p);
}

static bool object_of(const struct link_map *map, struct object *ret) {
    struct object o = {.base = map->l_addr};
    for (const ElfW(Dyn) *d = map->l_ld; d && d->d_tag != DT_NULL; d++) {
        const void *p = mapped(o.base, d->d_un.d_ptr);
        if (d->d_tag == DT_SYMTAB)
            o.syms = p;
        else if (d->d_tag == DT_STRTAB)
            o.strings = p;
        else if (d->d_tag == DT_VERSYM)
            o.versions = p;
        else if (d->d_tag == DT_GNU_HASH)
            o.gnu_hash = p;
        else if (d->d_tag == DT_HASH)
            o.sysv_hash = p;
    }
    *ret = o;
    return o.syms && o.strings && (o.gnu_hash || o.sysv_hash);
}

/* Is symbol `i` a definition that a new program would be linked against? Hidden versions are old behaviours
 * of the same name (posix_spawn@GLIBC_2.2.5). */
static bool is_default(const struct object *o, uint32_t i, const char *name) {
    enum { VERSION_LOCAL = 0, VERSION_HIDDEN = 0x8000 };
    const ElfW(Sym) *s = &o->syms[i];
    unsigned type = ELF64_ST_TYPE(s->st_info);
    if (s->st_shndx == SHN_UNDEF || s->st_value == 0 || type == STT_SECTION || type == STT_FILE ||
        type == STT_TLS)
        return false;
    if (o->versions && (o->versions[i] == VERSION_LOCAL || o->versions[i] & VERSION_HIDDEN))
        return false;
    return strcmp(o->strings + s->st_name, name) == 0;
}

static void *address_of(const struct object *o, const ElfW(Sym) * s) {
    void *p = (void *)(o->base + s->st_value);
    if (ELF64_ST_TYPE(s->st_info) != STT_GNU_IFUNC)
        return p;
    return ((void *(*)(unsigned long))p)(getauxval(AT_HWCAP)); /* x86 takes no argument, aarch64 this one */
}

static void *find_gnu(const struct object *o, const char *name, uint32_t hash) {
    enum { WORD = 8 * sizeof(ElfW(Addr)) };
    uint32_t nbuckets = o->gnu_hash[0], first = o->gnu_hash[1], nbloom = o->gnu_hash[2],
             shift = o->gnu_hash[3];
    const ElfW(Addr) *bloom = (const ElfW(Addr) *)(o->gnu_hash + 4);
    const uint32_t *buckets = (const uint32_t *)(bloom + nbloom), *chain = buckets + nbuckets;
    ElfW(Addr) bits = (ElfW(Addr))1 << (hash % WORD) | (ElfW(Addr))1 << ((hash >> shift) % WORD);
    if (nbuckets == 0 || (bloom[(hash / WORD) & (nbloom - 1)] & bits) != bits)
        return NULL;
    uint32_t i = buckets[hash % nbuckets];
    if (i < first)
        return NULL;
    for (;; i++) {
        uint32_t h = chain[i - first];
        if ((h | 1) == (hash | 1) && is_default(o, i, name))
            return address_of(o, &o->syms[i]);
        if (h & 1)
            return NULL;
    }
}

static uint32_t sysv_hash_of(const char *name) {
    uint32_t h = 0;
    for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
        h = (h << 4) + *p;
        h = (h ^ (h >> 24 & 0xf0)) & 0x0fffffff;
    }
    return h;
}

static void *find_sysv(const struct object *o, const char *name) {
    uint32_t nbuckets = o->sysv_hash[0];
    const uint32_t *buckets = o->sysv_hash + 2, *chain = buckets + nbuckets;
    if (nbuckets == 0)
        return NULL;
    for (uint32_t i = buckets[sysv_hash_of(name) % nbuckets]; i != STN_UNDEF; i = chain[i])
        if (is_default(o, i, name))
            return address_of(o, &o->syms[i]);
    return NULL;
}

static void *find(const struct object *o, const char *name, uint32_t hash) {
    return o->gnu_hash ? find_gnu(o, name, hash) : find_sysv(o, name);
}

/* ---- the objects after ours ---- */
/* In .data, beside `real`: the first page of .bss is one that most processes never touch. */
static const struct link_map *first_after_us __attribute__((section(".data")));
static const struct link_map *last_at_start __attribute__((section(".data")));

void mesh_real_remember(void) {
    if (first_after_us)
        return;
    const struct link_map *m = _r_debug.r_map;
    while (m && m->l_ld != _DYNAMIC)
        m = m->l_next;
    if (!m || !m->l_next)
        return;
    const struct link_map *last = m->l_next;
    while (last->l_next)
        last = last->l_next;
    last_at_start = last;
    first_after_us = m->l_next;
}

static void *look_up(const char *name, uint32_t hash) {
    mesh_real_remember(); /* other objects' constructors run before ours */
    struct object o;
    for (const struct link_map *m = first_after_us; m; m = m == last_at_start ? NULL : m->l_next) {
        void *p = object_of(m, &o) ? find(&o, name, hash) : NULL;
        if (p)
            return p;
    }
    return NULL;
}

static uint32_t gnu_hash_of(const char *name) {
    uint32_t hash = 5381;
    for (const unsigned char *p = (const unsigned char *)name; *p; p++)
        hash = hash * 33 + *p;
    return hash;
}

void *mesh_real_lookup(const char *name) {
    return look_up(name, gnu_hash_of(name));
}

bool mesh_real_defines(const struct link_map *m, const char *name) {
    struct object o;
    return object_of(m, &o) && find(&o, name, gnu_hash_of(name));
}

void *mesh_real_own(const char *name) {
    struct object o;
    const struct link_map *m = _r_debug.r_map;
    while (m && m->l_ld != _DYNAMIC)
        m = m->l_next;
    return m && object_of(m, &o) ? find(&o, name, gnu_hash_of(name)) : NULL;
}

/* Others read the word meanwhile, plainly: it leads to the stub or to what the stub would find.
 * ThreadSanitizer is not told of the store (no sanitizer looks at this file), every call of every program would
 * need an atomic load else. */
static void resolve(size_t index) {
    const char *name = names;
    for (size_t i = 0; i < index; i++)
        name += strlen(name) + 1;
    void *p = look_up(name, hashes[index]);
    void **slot = (void **)&real + index;
    __atomic_store_n(slot, p ? p : stand_in(lacking[index]), __ATOMIC_RELAXED);
}
