// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <resolv.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "shim/base/clock.h"
#include "shim/base/trace.h"
#include "shim/engine.h"
#include "shim/env.h"
#include "shim/names.h"

/* How often a look-up that waits for a name looks again when nobody wakes it, and whether somebody is there
 * to answer. */
enum { WAIT_STEP_MS = 50, WRITTEN_MS = 10 };

/* Without a control plane, one more look is for a view that was just being written. */
static uint64_t resolve_timeout(void) {
    const struct mesh_view *v = mesh_engine_view_if_any();
    return v && mesh_view_learns(v) ? mesh_env()->resolve_timeout_ns : WRITTEN_MS * MESH_MS;
}

static const struct mesh_names_source process = {
    .view = mesh_engine_view,
    .name = mesh_view_name_at,
    .falls_through = mesh_view_falls_through,
    .is_provisional = mesh_view_is_provisional,
    .ask = mesh_view_ask,
    .answers = mesh_view_answers,
    .wait = mesh_view_wait,
    .name_of = mesh_view_name_of,
    .is_virtual = mesh_view_is_virtual,
    .timeout = resolve_timeout,
};
const struct mesh_names_source *mesh_names_source = &process;

/* ---- trace
 * -------------------------------------------------------------------------------------------------- */

static void line_addr(struct mesh_line *l, const char *key, int family, const void *addr) {
    char text[INET6_ADDRSTRLEN];
    mesh_line_str(l, key, inet_ntop(family, addr, text, sizeof text));
}

static void trace_resolve(const char *name, const struct mesh_names_found *f) {
    static const char *const words[] = {
        [MESH_NAMES_LIBC] = "libc",   [MESH_NAMES_MESH] = "mesh", [MESH_NAMES_DENIED] = "denied",
        [MESH_NAMES_AGAIN] = "again", [MESH_NAMES_FAIL] = "fail", [MESH_NAMES_APART] = "apart"};
    if (!mesh_trace_on(MESH_TRACE_DEBUG))
        return;
    const struct mesh_answer *a = &f->answer;
    struct mesh_line l;
    mesh_line_begin(&l, MESH_TRACE_DEBUG, "resolve");
    mesh_line_str(&l, "name", name);
    mesh_line_str(&l, "answer", words[f->verdict]);
    if (f->verdict == MESH_NAMES_MESH) {
        mesh_line_str(&l, "canon", a->canon);
        if (a->naddrs > 0)
            mesh_line_int(&l, "addresses", a->naddrs);
        if (a->naddrs == 0 && a->has4)
            line_addr(&l, "address4", AF_INET, a->v4);
        if (a->naddrs == 0 && a->has6)
            line_addr(&l, "address6", AF_INET6, a->v6);
    }
    mesh_line_end(&l);
}

/* ---- verdicts
 * ----------------------------------------------------------------------------------------------- */

/* inet_aton takes "10.1" and "0x7f000001", and libc tries it before any name. */
static bool is_numeric(const char *name) {
    struct in_addr ignored;
    return strchr(name, ':') || (isdigit((unsigned char)name[0]) && inet_aton(name, &ignored));
}

/* RFC 6761: localhost is this machine, whatever the view lists under the search list's domains. */
static bool is_localhost(const char *name) {
    static const char local[] = "localhost";
    size_t n = strnlen(name, MESH_NAME_MAX + 2), len = sizeof local - 1;
    n -= n > 0 && name[n - 1] == '.';
    return n >= len && strncasecmp(name + n - len, local, len) == 0 && (n == len || name[n - len - 1] == '.');
}

/* What the names that one name stands for answered, short of a mesh name. */
struct seen {
    bool denied, again;           /* the name as written */
    bool part_denied, part_again; /* expansions of a single label */
    bool broken;
};

static void note(struct seen *seen, int rc, bool as_written, bool single) {
    if (rc == MESH_E_NOTFOUND)
        return;
    if (rc != MESH_E_DENIED && rc != MESH_E_AGAIN)
        seen->broken = true;
    else if (as_written)
        *(rc == MESH_E_DENIED ? &seen->denied : &seen->again) = true;
    else if (single)
        *(rc == MESH_E_DENIED ? &seen->part_denied : &seen->part_again) = true;
}

/* A headless name without endpoints exists, and has no address: no data, as DNS says it. */
static int give_nothing(const char *name, struct mesh_answer *ret) {
    memcpy(ret->canon, name, strlen(name) + 1);
    ret->has4 = ret->has6 = ret->pattern = 0;
    ret->naddrs = 0;
    return 0;
}

/* An expansion counts when the view lists it, or when a single label was written (INTERFACE.md, "Names"):
 * nobody who asks for www.example.com waits for www.example.com.svc.cluster.local. */
struct question {
    struct mesh_names_walk walk;
    const char *service;
    uint16_t port; /* of the service, once somebody wanted to know it */
    bool asks;     /* what is not known yet is asked for */
    bool last;     /* no more waiting: what is not answered and may go to libc goes there */
};

static enum mesh_names_verdict judge(struct mesh_view *v, const struct question *q,
                                     struct mesh_names_found *ret) {
    struct seen seen = {0};
    struct mesh_names_walk w = q->walk;
    bool as_written;
    while (mesh_names_walk_next(&w, &as_written)) {
        int rc = mesh_names_source->name(v, w.text, q->port, &ret->answer);
        if (rc == MESH_E_NOENDPOINT)
            rc = give_nothing(w.text, &ret->answer);
        /* A wildcard lists no name: by it www.example.com would be one of ours under some domain of the list.
         */
        if (rc == 0 && ret->answer.pattern && !as_written && !w.single)
            continue;
        if (rc == 0)
            return mesh_names_program_is_go() ? MESH_NAMES_FAIL : MESH_NAMES_MESH;
        if (rc == MESH_E_AGAIN && q->last && mesh_names_source->falls_through(v, w.text))
            rc = MESH_E_NOTFOUND;
        if (rc == MESH_E_AGAIN && q->asks && (as_written || w.single))
            (void)mesh_names_source->ask(v, w.text, q->port); /* full: it stays unknown */
        note(&seen, rc, as_written, w.single);
    }
    ret->again = seen.part_again;
    if (seen.broken)
        return MESH_NAMES_FAIL;
    if (seen.again)
        return MESH_NAMES_AGAIN;
    if (seen.denied)
        return MESH_NAMES_DENIED;
    return seen.part_denied || seen.part_again ? MESH_NAMES_APART : MESH_NAMES_LIBC;
}

static bool is_pending(const struct mesh_names_found *f) {
    return f->verdict == MESH_NAMES_AGAIN || (f->verdict == MESH_NAMES_APART && f->again);
}

/* A service that is no number and that nobody knows leaves the port open. */
static uint16_t port_of(const char *service) {
    char space[1024], *end;
    struct servent entry, *found = NULL;
    if (!service || !*service)
        return 0;
    unsigned long port = strtoul(service, &end, 10);
    if (!*end)
        return port <= UINT16_MAX ? (uint16_t)port : 0;
    if (getservbyname_r(service, "tcp", &entry, space, sizeof space, &found) || !found)
        return 0;
    return ntohs((uint16_t)found->s_port);
}

static void wait_for(struct question *q, struct mesh_names_found *f) {
    uint64_t deadline = mesh_now() + mesh_names_source->timeout(), now;
    q->asks = true;
    q->port = port_of(q->service);
    while (is_pending(f) && (now = mesh_now()) < deadline) {
        struct mesh_view *v = mesh_names_source->view(); /* sees to it that somebody is there to answer */
        uint32_t seen = mesh_names_source->answers(v);
        f->verdict = judge(v, q, f);
        uint64_t step = deadline - now < WAIT_STEP_MS * MESH_MS ? deadline - now : WAIT_STEP_MS * MESH_MS;
        if (is_pending(f))
            mesh_names_source->wait(v, seen, step);
    }
}

static void refuse(const char *name, enum mesh_names_verdict verdict) {
    if (verdict == MESH_NAMES_DENIED)
        mesh_trace_refused("denied", "name", name);
    else if (verdict == MESH_NAMES_AGAIN)
        mesh_trace_refused("no-answer", "name", name);
    else if (verdict == MESH_NAMES_FAIL)
        mesh_trace_refused(mesh_names_program_is_go() ? "go-cgo" : "view", "name", name);
}

static const struct mesh_names_search as_written_only = {.ndots = 0};

void mesh_names_find(const char *name, const char *service, unsigned how, struct mesh_names_found *ret) {
    struct question q = {.service = service};
    int saved = errno;
    struct mesh_view *v;
    ret->verdict = MESH_NAMES_LIBC;
    ret->again = false;
    if (!is_numeric(name) && !is_localhost(name) && (v = mesh_names_source->view())) {
        uint64_t now = mesh_now_coarse();
        if (mesh_names_walk_init(&q.walk, name,
                                 how & MESH_NAMES_SEARCH ? mesh_names_search_get(now) : &as_written_only))
            ret->verdict = judge(v, &q, ret);
        if (how & MESH_NAMES_WAIT && is_pending(ret))
            wait_for(&q, ret);
        if (ret->verdict == MESH_NAMES_MESH && mesh_names_source->is_provisional(v))
            (void)mesh_names_source->ask(v, ret->answer.canon,
                                         port_of(service)); /* what is there may soon be gone */
        if (is_pending(ret)) {
            q.last = true;
            ret->verdict = judge(mesh_names_source->view(), &q, ret);
        }
        trace_resolve(name, ret);
        refuse(name, ret->verdict);
    }
    errno = saved;
}

/* ---- single labels
 * ------------------------------------------------------------------------------------------ */

/* libc's search list is a thread's own state: off for one question, so that the hosts file is asked
 * (localhost, our own name), but no denied expansion leaves for a DNS server. */
static bool ask_without_search(const char *name, bool (*ask)(void *arg, const char *name), void *arg) {
    const unsigned long search = RES_DEFNAMES | RES_DNSRCH;
    res_state state = &_res;
    if (!(state->options & RES_INIT) && res_ninit(state) != 0)
        return false;
    unsigned long was = state->options & search;
    state->options &= ~search;
    bool done = ask(arg, name);
    state->options |= was;
    return done;
}

void mesh_names_apart(const char *name, bool (*ask)(void *arg, const char *name), void *arg) {
    struct mesh_names_walk w;
    struct mesh_answer ignored;
    bool as_written;
    const struct mesh_view *v = mesh_names_source->view();
    if (ask_without_search(name, ask, arg) || !v ||
        !mesh_names_walk_init(&w, name, mesh_names_search_get(mesh_now_coarse())))
        return;
    while (mesh_names_walk_next(&w, &as_written)) {
        char absolute[MESH_NAME_MAX + 2];
        int rc = as_written ? 0 : mesh_names_source->name(v, w.text, 0, &ignored);
        if (rc == MESH_E_AGAIN && mesh_names_source->falls_through(v, w.text))
            rc = MESH_E_NOTFOUND;
        if (rc != MESH_E_NOTFOUND)
            continue;
        size_t n = strlen(w.text);
        memcpy(absolute, w.text, n);
        memcpy(absolute + n, ".", 2);
        if (ask(arg, absolute))
            return;
    }
}

/* ---- addresses
 * ---------------------------------------------------------------------------------------------- */

enum mesh_names_verdict mesh_names_find_addr(int family, const void *addr, size_t len,
                                             char ret_name[MESH_NAME_MAX + 1]) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct mesh_view *v = mesh_names_source->view();
    if (!v || !addr || len != (family == AF_INET ? 4 : family == AF_INET6 ? 16 : 0))
        return MESH_NAMES_LIBC;
    if (family == AF_INET6 && memcmp(addr, mapped, sizeof mapped) == 0) {
        family = AF_INET;
        addr = (const char *)addr + sizeof mapped;
    }
    int saved = errno, number = family == AF_INET ? 4 : 6;
    enum mesh_names_verdict verdict = MESH_NAMES_LIBC;
    if (mesh_names_source->name_of(v, number, addr, ret_name, MESH_NAME_MAX + 1) == 0)
        verdict = MESH_NAMES_MESH;
    else if (mesh_names_source->is_virtual(v, number, addr))
        verdict = MESH_NAMES_DENIED;
    errno = saved;
    return verdict;
}
