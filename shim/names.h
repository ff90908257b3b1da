/* SPDX-License-Identifier: Apache-2.0
 *
 * The names family: getaddrinfo and getaddrinfo_a, getnameinfo, gethostby*, res_*. A look-up is judged once, by
 * mesh_names_find; the files beside it turn a verdict into what each libc interface hands out:
 *
 *   names.c         getaddrinfo, getaddrinfo_a, getnameinfo
 *   names_host.c    gethostbyname, gethostbyaddr and their _r forms      names_hostent.c  the hostent itself
 *   names_res.c     res_query, res_search, res_querydomain, res_send     names_dns.c      DNS messages
 *   names_find.c    verdicts                                             names_list.c     addrinfo lists
 *   names_search.c  resolv.conf                                          names_go.c       is this a Go program?
 *
 * gai_suspend, gai_cancel, gai_error and freeaddrinfo stay libc's: they read nothing but public fields, and our
 * lists are made of libc's own nodes.
 *
 * Cost: a mesh name that is listed as written takes one look-up in the view, libc's own numeric getaddrinfo and one
 * malloc for each further address; no system call, but for a stat of resolv.conf and of the view's file once a second.
 * Threads: any. Nothing here locks.
 */
#ifndef MESH_SHIM_NAMES_H
#define MESH_SHIM_NAMES_H

#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "resolver/resolver.h"

/* ---- resolv.conf (names_search.c) --------------------------------------------------------------------------- */
enum {
    MESH_NAMES_SEARCH_MAX = 32,       /* domains of a search list; the rest is ignored */
    MESH_NAMES_SEARCH_BYTES = 2048,   /* all of them together */
    MESH_NAMES_NDOTS_MAX = 15,        /* as RES_MAXNDOTS */
    MESH_NAMES_CONF_BYTES = 64 << 10, /* of the file; the rest is ignored */
    MESH_NAMES_CONF_VERSIONS = 64     /* different contents that one process follows */
};

struct mesh_names_search { /* immutable once published */
    uint8_t ndots;
    uint8_t n;                          /* domains in text */
    uint16_t len;                       /* bytes used of text */
    char text[MESH_NAMES_SEARCH_BYTES]; /* NUL-terminated domains, one behind the other, without dots at the end */
};

/* Parses resolv.conf (resolv.conf(5): the last `domain` or `search` line wins, `options ndots:`). `localdomain` and
 * `options` are the values of LOCALDOMAIN and RES_OPTIONS, which win over the file; `hostname` gives the domain when
 * nothing else does. Each may be NULL, as may the text when its length is 0. */
void mesh_names_search_parse(const char *text, size_t len, const char *localdomain, const char *options,
                             const char *hostname, struct mesh_names_search *ret);
/* The search list in force; never NULL. Looks whether the file changed at most once a second (`now`: mesh_now()).
 * What it returned stays valid for the life of the process. */
const struct mesh_names_search *mesh_names_search_get(uint64_t now);
/* The same for another file than /etc/resolv.conf; NULL: back to it. For tests. */
void mesh_names_search_from(const char *path);

/* The names that a name as written stands for, in libc's order: by ndots the name itself first or last, the
 * expansions between. A name with a dot at the end stands for itself. */
struct mesh_names_walk {
    const char *name;
    size_t len;             /* without the dot at the end */
    const struct mesh_names_search *search;
    const char *domain;     /* next */
    unsigned left;          /* domains left */
    bool single;            /* one label, not absolute */
    bool first, last;       /* the name itself is still to come, before or after the expansions */
    char text[MESH_NAME_MAX + 1];
};
/* False: too long or empty, no name at all. */
bool mesh_names_walk_init(struct mesh_names_walk *w, const char *name, const struct mesh_names_search *search);
/* The next one, in w->text, or false at the end. Expansions that are too long are left out. */
bool mesh_names_walk_next(struct mesh_names_walk *w, bool *ret_as_written);

/* ---- verdicts (names_find.c) ---------------------------------------------------------------------------------- */
enum mesh_names_verdict {
    MESH_NAMES_LIBC,   /* not ours */
    MESH_NAMES_MESH,   /* the answer is in `answer` */
    MESH_NAMES_DENIED, /* ours, and does not exist */
    MESH_NAMES_AGAIN,  /* ours, and not known in time */
    MESH_NAMES_FAIL,   /* ours, and this program would dial past us, or the view is damaged */
    MESH_NAMES_APART   /* a single label whose expansions are denied: libc may be asked, but not for those */
};

struct mesh_names_found {
    enum mesh_names_verdict verdict;
    bool again; /* APART: one of the expansions is not known yet */
    struct mesh_answer answer;
};

enum mesh_names_how {
    MESH_NAMES_SEARCH = 1, /* through the search list; else the name as written alone */
    MESH_NAMES_WAIT = 2    /* waits up to MESH_RESOLVE_TIMEOUT for a name that is not known yet */
};

/* Where names come from: the process's view and environment. Tests put another in its place. */
struct mesh_names_source {
    struct mesh_view *(*view)(void); /* refreshed; once there is one, there always is */
    int (*name)(const struct mesh_view *v, const char *name, uint16_t port, struct mesh_answer *ret);
    bool (*falls_through)(const struct mesh_view *v, const char *name);
    bool (*is_provisional)(const struct mesh_view *v);
    int (*ask)(struct mesh_view *v, const char *name, uint16_t port);
    uint32_t (*answers)(const struct mesh_view *v);
    void (*wait)(const struct mesh_view *v, uint32_t seen, uint64_t ns);
    int (*name_of)(const struct mesh_view *v, int family, const void *addr, char *ret_name, size_t cap);
    bool (*is_virtual)(const struct mesh_view *v, int family, const void *addr);
    uint64_t (*timeout)(void); /* MESH_RESOLVE_TIMEOUT in ns */
};
extern const struct mesh_names_source *mesh_names_source;

/* Judges a name, traces the look-up (`resolve`, and `refused` for what is refused). `service` (NULL: none) gives the port
 * for which a name is asked that the view does not list. errno is kept. */
void mesh_names_find(const char *name, const char *service, unsigned how, struct mesh_names_found *ret);
/* The verdict APART carried out: calls `ask` with the name as written, while libc's own search list is off, and then
 * with each expansion that is not the mesh's (absolute, with a dot at the end), until it returns true. */
void mesh_names_apart(const char *name, bool (*ask)(void *arg, const char *name), void *arg);

/* Who has this address? `len` as in gethostbyaddr; v4-mapped IPv6 counts as IPv4. MESH: ret_name is set; DENIED: a virtual
 * address that nothing has; LIBC: not ours. */
enum mesh_names_verdict mesh_names_find_addr(int family, const void *addr, size_t len, char ret_name[MESH_NAME_MAX + 1]);

/* Addresses of an answer as one look-up wants them. */
struct mesh_names_addrs {
    uint16_t n;
    struct {
        uint8_t family; /* 4 or 6 */
        uint8_t addr[16];
    } a[MESH_ANSWER_ADDRS];
};
/* family AF_UNSPEC, AF_INET or AF_INET6; `mapped`: IPv4 as v4-mapped when there is no IPv6, `all`: and beside it. IPv4
 * goes first, as RFC 6724 orders a unique local address that no source matches; headless answers keep the view's order. */
void mesh_names_addrs_pick(const struct mesh_answer *answer, int family, bool mapped, bool all,
                           struct mesh_names_addrs *ret);

/* ---- what libc hands out ---------------------------------------------------------------------------------------- */
/* An addrinfo list that libc's freeaddrinfo frees. `addrs` may be empty: then 0 means that the hints and the service
 * are fine, and *ret_list is NULL. Returns 0 or the EAI_ code that libc has for these hints and service.
 * AI_ADDRCONFIG asks nothing of a virtual address, which needs no interface of its family. */
int mesh_names_list_build(const struct mesh_names_addrs *addrs, const char *canon, const char *service,
                          const struct addrinfo *hints, struct addrinfo **ret_list) MESH_MUST_CHECK;

/* Packs a hostent into buf; addresses of the family of the first one. Returns 0 or ERANGE. */
int mesh_names_hostent_build(const char *name, const struct mesh_names_addrs *addrs, struct hostent *ret, char *buf,
                             size_t len) MESH_MUST_CHECK;

/* ---- DNS messages (names_dns.c), RFC 1035 --------------------------------------------------------------------- */
enum {
    MESH_DNS_HEADER = 12,
    MESH_DNS_TTL = 30,
    MESH_DNS_A = 1, MESH_DNS_PTR = 12, MESH_DNS_AAAA = 28, MESH_DNS_ANY = 255, MESH_DNS_IN = 1,
    MESH_DNS_NOERROR = 0, MESH_DNS_SERVFAIL = 2, MESH_DNS_NXDOMAIN = 3
};

struct mesh_dns_question {
    uint16_t id, flags, type, class;
    char name[MESH_NAME_MAX + 1]; /* text, without a dot at the end */
    uint8_t wire[MESH_NAME_MAX];  /* as it stood in the question: the answer repeats its letters */
    uint16_t wire_len;
};

/* Reads a standard query with one question. MESH_E_SYNTAX: not a DNS message; MESH_E_UNSUPPORTED: another kind of
 * message, or a name that no mesh name can be (bytes that are not letters, digits, '-', '_'). */
int mesh_dns_question_parse(const uint8_t *msg, size_t len, struct mesh_dns_question *ret) MESH_MUST_CHECK;
/* The question for a name in text; MESH_E_UNSUPPORTED as above. */
int mesh_dns_question_of(const char *name, uint16_t type, uint16_t class, struct mesh_dns_question *ret) MESH_MUST_CHECK;
/* The address of a name under in-addr.arpa or ip6.arpa: 4, 6, or 0 when it is none. */
int mesh_dns_reverse_parse(const char *name, uint8_t ret_addr[16]);
/* The answer: header, question, a record for each address that the type asks for (or a PTR to `ptr`). What does not
 * fit is left out and TC set. Returns the length, or MESH_E_LIMIT when not even the question fits; *ret_count is the
 * number of records. `addrs` and `ptr` may be NULL. */
int mesh_dns_answer_build(const struct mesh_dns_question *q, int rcode, const struct mesh_names_addrs *addrs,
                          const char *ptr, uint8_t *buf, size_t len, unsigned *ret_count) MESH_MUST_CHECK;

/* ---- Go (names_go.c) -------------------------------------------------------------------------------------------- */
/* Is the main program written in Go? With cgo it resolves through libc and then dials by raw system calls, past us. */
bool mesh_names_program_is_go(void);

#endif
