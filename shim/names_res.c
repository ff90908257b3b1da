// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <resolv.h>
#include <string.h>
#include "shim/base/mem.h"
#include "shim/names.h"
#include "shim/real.h"

/* A question of res_query and its kin. `state` is NULL for the forms that use the thread's own. */
struct call {
    res_state state;
    int class, type;
    unsigned char *answer;
    int cap;
    int result; /* what the caller gets */
};

static int set_h_err(const struct call *c, int h_err) {
    h_errno = h_err;
    (c->state ? c->state : &_res)->res_h_errno = h_err;
    return -1;
}

/* Everything that an answer can say: a code, addresses, or the name behind an address. */
struct content {
    int rcode;
    const struct mesh_names_addrs *addrs;
    const char *ptr;
};

/* res_query tells "no such name" and "no such record" apart by h_errno, and returns the length of a positive
 * answer. */
static int reply(const struct call *c, const struct mesh_dns_question *q, const struct content *what) {
    unsigned count = 0;
    size_t cap = c->cap > 0 ? (size_t)c->cap : 0;
    int n = mesh_dns_answer_build(q, what->rcode, what->addrs, what->ptr, c->answer, cap, &count);
    if (n < 0) {
        errno = c->cap < MESH_DNS_HEADER ? EINVAL : EMSGSIZE;
        return set_h_err(c, NETDB_INTERNAL);
    }
    if (what->rcode == MESH_DNS_NXDOMAIN)
        return set_h_err(c, HOST_NOT_FOUND);
    if (what->rcode == MESH_DNS_SERVFAIL)
        return set_h_err(c, TRY_AGAIN);
    return count > 0 ? n : set_h_err(c, NO_DATA);
}

/* ---- what the mesh says
 * ------------------------------------------------------------------------------------------ */

struct content_space { /* what a content points to */
    struct mesh_names_found found;
    struct mesh_names_addrs addrs;
    char ptr[MESH_NAME_MAX + 1];
};

static enum mesh_names_verdict judge_reverse(int family, const uint8_t *addr, struct content_space *space,
                                             struct content *ret) {
    enum mesh_names_verdict verdict =
        mesh_names_find_addr(family == 4 ? AF_INET : AF_INET6, addr, family == 4 ? 4 : 16, space->ptr);
    *ret = (struct content){.rcode = verdict == MESH_NAMES_MESH ? MESH_DNS_NOERROR : MESH_DNS_NXDOMAIN};
    if (verdict == MESH_NAMES_MESH)
        ret->ptr = space->ptr;
    return verdict;
}

/* LIBC, or *ret is what to answer. APART is for the caller. */
static enum mesh_names_verdict judge(const char *name, unsigned how, struct content_space *space,
                                     struct content *ret) {
    uint8_t addr[16];
    int family = mesh_dns_reverse_parse(name, addr);
    if (family != 0)
        return judge_reverse(family, addr, space, ret);
    mesh_names_find(name, NULL, how, &space->found);
    enum mesh_names_verdict verdict = space->found.verdict;
    *ret = (struct content){.rcode = MESH_DNS_SERVFAIL};
    if (verdict == MESH_NAMES_DENIED)
        ret->rcode = MESH_DNS_NXDOMAIN;
    if (verdict != MESH_NAMES_MESH)
        return verdict;
    mesh_names_addrs_pick(&space->found.answer, AF_UNSPEC, false, false, &space->addrs);
    *ret = (struct content){.rcode = MESH_DNS_NOERROR, .addrs = &space->addrs};
    return verdict;
}

/* ---- queries by name
 * ------------------------------------------------------------------------------------------- */

static bool ask_libc(void *arg, const char *name) {
    struct call *c = arg;
    c->result = c->state ? real.res_nquery(c->state, name, c->class, c->type, c->answer, c->cap)
                         : real.res_query(name, c->class, c->type, c->answer, c->cap);
    return c->result >= 0;
}

/* True: c->result is the answer. False: libc's. */
static bool serve(struct call *c, const char *name, unsigned how) {
    struct content_space space;
    struct content what;
    struct mesh_dns_question q;
    if (!name || !c->answer || c->class != MESH_DNS_IN ||
        mesh_dns_question_of(name, (uint16_t)c->type, MESH_DNS_IN, &q) != 0)
        return false;
    enum mesh_names_verdict verdict = judge(name, how | MESH_NAMES_WAIT, &space, &what);
    if (verdict == MESH_NAMES_LIBC)
        return false;
    if (verdict == MESH_NAMES_APART) {
        c->result = set_h_err(c, HOST_NOT_FOUND);
        mesh_names_apart(name, ask_libc, c);
        return true;
    }
    if (verdict == MESH_NAMES_MESH && what.addrs &&
        mesh_dns_question_of(space.found.answer.canon, q.type, q.class, &q) != 0)
        return false;
    q.id = (uint16_t)mesh_random();
    c->result = reply(c, &q, &what);
    if (verdict == MESH_NAMES_FAIL)
        set_h_err(c, NO_RECOVERY);
    return true;
}

/* NAME.DOMAIN as libc joins them; false: too long, or libc's to refuse. */
static bool join(const char *name, const char *domain, char ret[MESH_NAME_MAX + 2]) {
    size_t n = name ? strnlen(name, MESH_NAME_MAX + 1) : 0,
           d = domain ? strnlen(domain, MESH_NAME_MAX + 1) : 0;
    if (n == 0 || n + d + 1 > MESH_NAME_MAX)
        return false;
    memcpy(ret, name, n);
    ret[n] = '\0';
    if (!domain)
        return true;
    ret[n] = '.';
    memcpy(ret + n + 1, domain, d);
    ret[n + 1 + d] = '\0';
    return true;
}

int shim_res_query(const char *name, int class, int type, unsigned char *answer, int cap) {
    struct call c = {NULL, class, type, answer, cap, -1};
    return serve(&c, name, 0) ? c.result : real.res_query(name, class, type, answer, cap);
}

int shim_res_search(const char *name, int class, int type, unsigned char *answer, int cap) {
    struct call c = {NULL, class, type, answer, cap, -1};
    return serve(&c, name, MESH_NAMES_SEARCH) ? c.result : real.res_search(name, class, type, answer, cap);
}

int shim_res_querydomain(const char *name, const char *domain, int class, int type, unsigned char *answer,
                         int cap) {
    struct call c = {NULL, class, type, answer, cap, -1};
    char whole[MESH_NAME_MAX + 2];
    if (join(name, domain, whole) && serve(&c, whole, 0))
        return c.result;
    return real.res_querydomain(name, domain, class, type, answer, cap);
}

int shim_res_nquery(res_state state, const char *name, int class, int type, unsigned char *answer, int cap) {
    struct call c = {state, class, type, answer, cap, -1};
    return serve(&c, name, 0) ? c.result : real.res_nquery(state, name, class, type, answer, cap);
}

int shim_res_nsearch(res_state state, const char *name, int class, int type, unsigned char *answer, int cap) {
    struct call c = {state, class, type, answer, cap, -1};
    return serve(&c, name, MESH_NAMES_SEARCH) ? c.result
                                              : real.res_nsearch(state, name, class, type, answer, cap);
}

int shim_res_nquerydomain(res_state state, const char *name, const char *domain, int class, int type,
                          unsigned char *answer, int cap) {
    struct call c = {state, class, type, answer, cap, -1};
    char whole[MESH_NAME_MAX + 2];
    if (join(name, domain, whole) && serve(&c, whole, 0))
        return c.result;
    return real.res_nquerydomain(state, name, domain, class, type, answer, cap);
}

/* ---- messages
 * ---------------------------------------------------------------------------------------------------- */

/* Whoever sends a message of his own reads the answer's code himself: its length, whatever it says. */
static bool serve_message(const unsigned char *msg, int len, unsigned char *answer, int cap, int *ret_len) {
    struct content_space space;
    struct content what;
    struct mesh_dns_question q;
    unsigned count;
    if (!msg || !answer || len <= 0 || cap < MESH_DNS_HEADER ||
        mesh_dns_question_parse(msg, (size_t)len, &q) != 0 || q.class != MESH_DNS_IN)
        return false;
    enum mesh_names_verdict verdict = judge(q.name, MESH_NAMES_WAIT, &space, &what);
    if (verdict == MESH_NAMES_LIBC || verdict == MESH_NAMES_APART)
        return false;
    int n = mesh_dns_answer_build(&q, what.rcode, what.addrs, what.ptr, answer, (size_t)cap, &count);
    if (n < 0)
        errno = EMSGSIZE;
    *ret_len = n < 0 ? -1 : n;
    return true;
}

int shim_res_send(const unsigned char *msg, int len, unsigned char *answer, int cap) {
    int n;
    return serve_message(msg, len, answer, cap, &n) ? n : real.res_send(msg, len, answer, cap);
}

int shim_res_nsend(res_state state, const unsigned char *msg, int len, unsigned char *answer, int cap) {
    int n;
    return serve_message(msg, len, answer, cap, &n) ? n : real.res_nsend(state, msg, len, answer, cap);
}
