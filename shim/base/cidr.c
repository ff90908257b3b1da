/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/base/cidr.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

enum {
    ENTRY_MAX = 270, /* a name of 253 with port and brackets: longer text is no entry */
    NAME_MAX_LEN = 253,
    LABEL_MAX = 63,
};

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c;
}

/* The whole text as a decimal number from min to max, no sign, no leading zero; -1 otherwise. */
static long number(const char *text, long min, long max) {
    long v = 0;
    if (!is_digit(text[0]) || (text[0] == '0' && text[1]))
        return -1;
    for (const char *p = text; *p; p++) {
        if (!is_digit(*p) || v > max)
            return -1;
        v = v * 10 + (*p - '0');
    }
    return v >= min && v <= max ? v : -1;
}

static bool host_bits_zero(const struct mesh_cidr *c) {
    size_t bytes = c->family == 4 ? 4 : 16;
    for (size_t bit = c->bits; bit < bytes * 8; bit++)
        if (c->addr[bit / 8] & (0x80 >> bit % 8))
            return false;
    return true;
}

/* Look-ups turn v4-mapped addresses into IPv4, so a range of them is an IPv4 range. */
static void unmap(struct mesh_cidr *c) {
    if (c->family != 6 || c->bits < 96 || memcmp(c->addr, mapped, sizeof mapped) != 0)
        return;
    memmove(c->addr, c->addr + 12, 4);
    memset(c->addr + 4, 0, 12);
    c->family = 4;
    c->bits = (uint8_t)(c->bits - 96);
}

/* ADDRESS or ADDRESS/BITS; NULL when good, else what is wrong. */
static const char *parse_range(char *text, struct mesh_cidr *c) {
    char *slash = strchr(text, '/');
    if (slash)
        *slash = 0;
    c->family = strchr(text, ':') ? 6 : 4;
    if (inet_pton(c->family == 4 ? AF_INET : AF_INET6, text, c->addr) != 1)
        return "not an address";
    long most = c->family == 4 ? 32 : 128;
    long bits = slash ? number(slash + 1, 0, most) : most;
    if (bits < 0)
        return "bad prefix length";
    c->bits = (uint8_t)bits;
    if (!host_bits_zero(c))
        return "bits after the prefix are not zero";
    unmap(c);
    return NULL;
}

static const char *parse_name(const char *text, struct mesh_cidr *c) {
    size_t n = strlen(text), label = 0;
    if (n && text[n - 1] == '.')
        n--;
    if (n == 0 || n > NAME_MAX_LEN)
        return "not a name";
    for (size_t i = 0; i < n; i++) {
        char ch = lower(text[i]);
        bool dot = ch == '.';
        if (!dot && !is_digit(ch) && ch != '-' && ch != '_' && !(ch >= 'a' && ch <= 'z'))
            return "not an address or name";
        if ((dot && label == 0) || label > LABEL_MAX)
            return "not a name";
        label = dot ? 0 : label + 1;
        c->name[i] = ch;
    }
    c->name[n] = 0;
    c->family = 0;
    return label && label <= LABEL_MAX ? NULL : "not a name";
}

/* A name whose last label is a number is a mistyped address ("10.0.0.300"), not a name. */
static bool looks_like_name(const char *text) {
    size_t n = strlen(text);
    if (n && text[n - 1] == '.')
        n--;
    size_t end = n;
    while (n && is_digit(text[n - 1]))
        n--;
    bool number_label = n < end && (n == 0 || text[n - 1] == '.');
    return !strchr(text, '/') && !number_label;
}

/* Cuts the port off: after `]`, or after the only colon. NULL when good. */
static const char *cut_port(char **io_text, struct mesh_cidr *c) {
    char *text = *io_text, *colon;
    if (text[0] == '[') {
        char *close = strchr(text, ']');
        if (!close || (close[1] && close[1] != ':'))
            return "bad brackets";
        colon = close[1] ? close + 1 : NULL;
        *close = 0;
        *io_text = text + 1;
        if (!strchr(text + 1, ':'))
            return "brackets are for IPv6";
    } else {
        colon = strchr(text, ':');
        if (!colon || strchr(colon + 1, ':'))
            return NULL; /* none, or IPv6 */
        *colon = 0;
    }
    long port = colon ? number(colon + 1, 1, 65535) : 0;
    if (port < 0)
        return "bad port";
    c->port = (uint16_t)port;
    return NULL;
}

static const char *parse_entry(char *text, bool names, struct mesh_cidr *c) {
    if (!text[0])
        return "empty entry";
    const char *wrong = cut_port(&text, c);
    if (wrong)
        return wrong;
    if (names && !strchr(text, ':') && looks_like_name(text))
        return parse_name(text, c);
    return parse_range(text, c);
}

/* Copies one entry without the blanks around it; false when it is longer than any entry can be. */
static bool copy_entry(const char *from, const char *to, char *ret_text) {
    while (from < to && (*from == ' ' || *from == '\t'))
        from++;
    while (from < to && (to[-1] == ' ' || to[-1] == '\t'))
        to--;
    size_t n = (size_t)(to - from);
    if (n >= ENTRY_MAX)
        return false;
    memcpy(ret_text, from, n);
    ret_text[n] = 0;
    return true;
}

static int parse_all(const char *text, bool names, struct mesh_cidr_list *l, struct mesh_why *why) {
    char entry[ENTRY_MAX], scratch[ENTRY_MAX];
    for (uint32_t i = 0; i < l->n; i++) {
        const char *end = text + strcspn(text, ",");
        if (!copy_entry(text, end, entry))
            return mesh_why(why, MESH_E_INVALID, "entry %u: too long", i + 1);
        memcpy(scratch, entry, sizeof scratch);
        const char *wrong = parse_entry(scratch, names, &l->items[i]);
        if (wrong)
            return mesh_why(why, MESH_E_INVALID, "entry %u \"%.80s\": %s", i + 1, entry, wrong);
        text = end + 1;
    }
    return 0;
}

int mesh_cidr_parse(const char *text, bool names, struct mesh_cidr_list **ret_list, struct mesh_why *why) {
    uint32_t n = 1;
    for (const char *p = text; (p = strchr(p, ',')) != NULL; p++)
        if (++n > MESH_CIDR_MAX)
            return mesh_why(why, MESH_E_LIMIT, "more than %d entries", MESH_CIDR_MAX);
    struct mesh_cidr_list *l = calloc(1, sizeof *l + n * sizeof l->items[0]);
    if (!l)
        return mesh_why(why, MESH_E_NOMEM, "%s", mesh_err_text(MESH_E_NOMEM));
    l->n = n;
    int r = parse_all(text, names, l, why);
    if (r < 0) {
        free(l);
        return r;
    }
    *ret_list = l;
    return 0;
}

static bool inside(const struct mesh_cidr *c, const uint8_t *addr) {
    size_t whole = c->bits / 8;
    unsigned rest = c->bits % 8;
    if (memcmp(c->addr, addr, whole) != 0)
        return false;
    return rest == 0 || ((c->addr[whole] ^ addr[whole]) & (0xff00 >> rest) & 0xff) == 0;
}

bool mesh_cidr_has(const struct mesh_cidr_list *l, int family, const void *addr, uint16_t port) {
    const uint8_t *bytes = addr;
    if (family == 6 && memcmp(bytes, mapped, sizeof mapped) == 0) {
        family = 4;
        bytes += sizeof mapped;
    }
    for (uint32_t i = 0; l && i < l->n; i++) {
        const struct mesh_cidr *c = &l->items[i];
        if (c->family == family && family != 0 && (c->port == 0 || c->port == port) && inside(c, bytes))
            return true;
    }
    return false;
}

static bool same_name(const char *stored, const char *name) {
    while (*stored && *stored == lower(*name)) {
        stored++;
        name++;
    }
    return *stored == 0 && *name == 0;
}

bool mesh_cidr_has_name(const struct mesh_cidr_list *l, const char *name, uint16_t port) {
    for (uint32_t i = 0; l && i < l->n; i++) {
        const struct mesh_cidr *c = &l->items[i];
        if (c->family == 0 && (c->port == 0 || c->port == port) && same_name(c->name, name))
            return true;
    }
    return false;
}
