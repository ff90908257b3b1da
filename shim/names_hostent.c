// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdalign.h>
#include <string.h>
#include "shim/names.h"

/* Alias end, address pointers and their end, addresses, name: pointers first, so that only the start is
 * aligned. */
struct layout {
    char *aliases[1];
    char *addrs[];
};

int mesh_names_hostent_build(const char *name, const struct mesh_names_addrs *addrs, struct hostent *ret,
                             char *buf, size_t len) {
    size_t pad = (size_t)(-(uintptr_t)buf % alignof(struct layout));
    size_t addr_len = addrs->a[0].family == 4 ? 4 : 16, name_len = strlen(name) + 1;
    size_t pointers = sizeof(struct layout) + (addrs->n + 1u) * sizeof(char *);
    if (len < pad || len - pad < pointers + addrs->n * addr_len + name_len)
        return ERANGE;
    struct layout *l = (struct layout *)(void *)(buf + pad);
    char *p = (char *)l + pointers;
    for (unsigned i = 0; i < addrs->n; i++, p += addr_len) {
        memcpy(p, addrs->a[i].addr, addr_len);
        l->addrs[i] = p;
    }
    memcpy(p, name, name_len);
    l->addrs[addrs->n] = NULL;
    l->aliases[0] = NULL;
    ret->h_name = p;
    ret->h_aliases = l->aliases;
    ret->h_addrtype = addr_len == 4 ? AF_INET : AF_INET6;
    ret->h_length = (int)addr_len;
    ret->h_addr_list = l->addrs;
    return 0;
}
