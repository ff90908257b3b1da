// SPDX-License-Identifier: Apache-2.0
/*
 * wire: none
 *
 * names [NAME]...: looks every name up through each of libc's interfaces and prints what they said, one line
 * each; then the IPv4 addresses back again. Exit status 0 when all interfaces agree on them, which has to be
 * so for each name that exists, with the library or without. Without a name: localhost.
 *
 *     names reviews.shop.mesh
 *     getaddrinfo reviews.shop.mesh: 241.0.0.5 fd6d:6573:6800::5 canon=reviews.shop.mesh
 */
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <errno.h>
#include <netdb.h>
#include <resolv.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FOUND = 4096 };

/* What one interface found: the IPv4 addresses, in order, as text. */
struct found {
    char v4[FOUND];
};

static void add(struct found *f, int family, const void *addr) {
    char text[INET6_ADDRSTRLEN];
    inet_ntop(family, addr, text, sizeof text);
    printf(" %s", text);
    size_t n = strlen(f->v4), k = strlen(text);
    /* a hosts file that gives localhost in both families makes gethostbyname tell an address twice */
    bool again = n >= k && strcmp(f->v4 + n - k, text) == 0 && (n == k || f->v4[n - k - 1] == ' ');
    if (family == AF_INET && !again)
        snprintf(f->v4 + n, sizeof f->v4 - n, "%s%s", n ? " " : "", text);
}

static void begin(const char *what, const char *name, struct found *f) {
    f->v4[0] = '\0';
    printf("%s %s:", what, name);
}

static void show_list(int rc, struct addrinfo *list, struct found *f) {
    if (rc != 0) {
        printf(" %s\n", gai_strerror(rc));
        return;
    }
    for (struct addrinfo *a = list; a; a = a->ai_next)
        if (a->ai_family == AF_INET)
            add(f, AF_INET, &((struct sockaddr_in *)a->ai_addr)->sin_addr);
        else
            add(f, AF_INET6, &((struct sockaddr_in6 *)a->ai_addr)->sin6_addr);
    if (list->ai_canonname)
        printf(" canon=%s", list->ai_canonname);
    puts("");
    freeaddrinfo(list);
}

static void by_getaddrinfo(const char *name, struct found *f) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_CANONNAME}, *list = NULL;
    begin("getaddrinfo", name, f);
    int rc = getaddrinfo(name, "9080", &hints, &list);
    show_list(rc, list, f);
}

__attribute__((unused)) static void by_getaddrinfo_a(const char *name, struct found *f) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct gaicb one = {.ar_name = name, .ar_request = &hints},
                 number = {.ar_name = "127.0.0.1", .ar_request = &hints};
    struct gaicb *list[] = {&one, &number};
    begin("getaddrinfo_a", name, f);
    int rc = getaddrinfo_a(GAI_WAIT, list, 2, NULL);
    if (rc == 0 && gai_error(&number) == 0)
        freeaddrinfo(number.ar_result);
    show_list(rc ? rc : gai_error(&one), one.ar_result, f);
}

static void show_host(const struct hostent *h, int h_err, struct found *f) {
    if (!h) {
        printf(" %s\n", hstrerror(h_err));
        return;
    }
    for (char **p = h->h_addr_list; *p; p++)
        add(f, h->h_addrtype, *p);
    printf(" name=%s\n", h->h_name);
}

static void by_gethostbyname(const char *name, struct found *f) {
    begin("gethostbyname", name, f);
    const struct hostent *h = gethostbyname(name);
    show_host(h, h_errno, f);
}

static void by_gethostbyname2_r(const char *name, int family, struct found *f) {
    struct hostent he, *h = NULL;
    char *buf = NULL;
    size_t len = 1;
    int h_err, rc = ERANGE;
    for (; rc == ERANGE && len < 1 << 16; len *= 2) {
        buf = realloc(buf, len);
        rc = gethostbyname2_r(name, family, &he, buf, len, &h, &h_err);
    }
    begin(family == AF_INET ? "gethostbyname2_r/4" : "gethostbyname2_r/6", name, f);
    show_host(h, h_err, f);
    free(buf);
}

/* Not part of what has to agree: DNS knows nothing of the hosts file. */
static void by_res_search(const char *name, int type) {
    unsigned char answer[4096];
    struct found ignored;
    begin(type == ns_t_a ? "res_search/A" : "res_search/AAAA", name, &ignored);
    int n = res_search(name, ns_c_in, type, answer, sizeof answer);
    if (n < 0) {
        printf(" %s\n", hstrerror(h_errno));
        return;
    }
    const unsigned char *end = answer + n, *p = answer + NS_HFIXEDSZ;
    p += dn_skipname(p, end) + NS_QFIXEDSZ;
    for (int left = answer[6] << 8 | answer[7]; left > 0 && p < end; left--) {
        p += dn_skipname(p, end);
        int is = p[0] << 8 | p[1], len = p[8] << 8 | p[9];
        p += NS_RRFIXEDSZ;
        if (is == type)
            add(&ignored, type == ns_t_a ? AF_INET : AF_INET6, p);
        p += len;
    }
    puts("");
}

static void back(const char *v4) {
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(80)};
    char host[NI_MAXHOST], service[NI_MAXSERV];
    if (inet_pton(AF_INET, v4, &sa.sin_addr) != 1)
        return;
    int rc = getnameinfo((struct sockaddr *)&sa, sizeof sa, host, sizeof host, service, sizeof service,
                         NI_NAMEREQD);
    printf("getnameinfo %s: %s\n", v4, rc ? gai_strerror(rc) : host);
    const struct hostent *h = gethostbyaddr(&sa.sin_addr, 4, AF_INET);
    printf("gethostbyaddr %s: %s\n", v4, h ? h->h_name : hstrerror(h_errno));
}

static bool look_up(const char *name) {
    static struct found a, b, c, d, ignored;
    by_getaddrinfo(name, &a);
#ifdef __SANITIZE_THREAD__
    b = a; /* libc starts its helper threads past ThreadSanitizer, which has no state for them */
#else
    by_getaddrinfo_a(name, &b);
#endif
    by_gethostbyname(name, &c);
    by_gethostbyname2_r(name, AF_INET, &d);
    by_gethostbyname2_r(name, AF_INET6, &ignored);
    by_res_search(name, ns_t_a);
    by_res_search(name, ns_t_aaaa);
    char first[INET6_ADDRSTRLEN] = "";
    sscanf(a.v4, "%45s", first);
    back(first);
    bool agree = strcmp(a.v4, b.v4) == 0 && strcmp(a.v4, c.v4) == 0 && strcmp(a.v4, d.v4) == 0;
    if (!agree)
        printf("# %s: the interfaces do not agree\n", name);
    return agree;
}

int main(int argc, char **argv) {
    bool agree = true;
    setvbuf(stdout, NULL, _IOLBF, 0);
    res_init();
    _res.retry = _res.retrans = 1; /* a server that does not answer is not what is tested */
    if (argc < 2)
        agree = look_up("localhost") && look_up("127.0.0.1");
    for (int i = 1; i < argc; i++)
        agree = look_up(argv[i]) && agree;
    return agree ? 0 : 1;
}
