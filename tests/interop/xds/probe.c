/* SPDX-License-Identifier: Apache-2.0
 *
 * probe BOOTSTRAP-FILE: the channel by itself, to the bootstrap's first server. JSON lines out, for
 * channel_test.py:
 *   {"event": "up"} {"event": "message", "bytes": N, "sum": N} {"event": "down", "status": N, "answered":
 * bool, "why": TEXT, "wait_ms": N}
 *   {"event": "dns", ...} {"event": "open", "fds": N}
 * Commands in, a line each: `ask URL` (a DiscoveryRequest for a type), `pad N` (a message of N bytes),
 * `restart`, `path PATH`, `dns NAME FAMILIES`, `fds`.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "resolver/bootstrap.h"
#include "resolver/channel.h"
#include "shim/base/clock.h"

static struct mesh_channel *channel;
static struct mesh_bootstrap *bootstrap;
static struct mesh_dns *dns;
static int kept;
static bool told; /* the wait after the last end */

static int keep(int fd) {
    kept++;
    return fd;
}

static void drop(int fd) {
    kept--;
}

static void up(void *arg) {
    puts("{\"event\": \"up\"}");
}

static void message(void *arg, const uint8_t *p, size_t n) {
    unsigned long sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += p[i];
    printf("{\"event\": \"message\", \"bytes\": %zu, \"sum\": %lu}\n", n, sum);
}

static void print_text(const char *text) {
    putchar('"');
    for (; *text; text++)
        printf(*text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    putchar('"');
}

static void down(void *arg, int status, bool answered, const char *why) {
    printf("{\"event\": \"down\", \"status\": %d, \"answered\": %s, \"why\": ", status,
           answered ? "true" : "false");
    print_text(why);
    told = false;
}

static void answer(void *arg, const struct mesh_dns_answer *a) {
    printf("{\"event\": \"dns\", \"err\": \"%s\", \"ttl\": %u, \"addresses\": [",
           a->err ? mesh_err_text(a->err) : "", a->ttl);
    for (uint32_t i = 0; i < a->n; i++) {
        char text[INET6_ADDRSTRLEN];
        inet_ntop(a->addrs[i].family == 4 ? AF_INET : AF_INET6, a->addrs[i].addr, text, sizeof text);
        printf("%s\"%s\"", i ? ", " : "", text);
    }
    puts("]}");
}

/* The node is sent with every request; type_url is field 4 of a DiscoveryRequest, node 2. */
static void ask(const char *url) {
    size_t n = strlen(url), cap = bootstrap->node_len + n + 16, len = 0;
    uint8_t *p = malloc(cap);
    p[len++] = 0x12;
    size_t left = bootstrap->node_len;
    for (; left > 127; left >>= 7)
        p[len++] = (uint8_t)(left | 128);
    p[len++] = (uint8_t)left;
    memcpy(p + len, bootstrap->node, bootstrap->node_len);
    len += bootstrap->node_len;
    p[len++] = 0x22;
    p[len++] = (uint8_t)n;
    memcpy(p + len, url, n);
    (void)!mesh_channel_send(channel, p, len + n);
    free(p);
}

/* A field 1000 that nobody knows. */
static void pad(size_t n) {
    uint8_t *p = calloc(1, n);
    uint8_t head[] = {0xc2,
                      0x3e,
                      (uint8_t)(((n - 6) & 127) | 128),
                      (uint8_t)(((n - 6) >> 7 & 127) | 128),
                      (uint8_t)(((n - 6) >> 14 & 127) | 128),
                      (uint8_t)((n - 6) >> 21)};
    memcpy(p, head, sizeof head);
    (void)!mesh_channel_send(channel, p, n);
    free(p);
}

static void count_fds(void) {
    int n = -3; /* ., .. and the folder */
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    printf("{\"event\": \"open\", \"fds\": %d, \"kept\": %d}\n", n, kept);
}

static bool obey(void) {
    char line[1024], what[512], name[512];
    unsigned number = 0;
    if (!fgets(line, sizeof line, stdin))
        return false;
    if (sscanf(line, "ask %511s", what) == 1)
        ask(what);
    else if (sscanf(line, "pad %u", &number) == 1)
        pad(number);
    else if (sscanf(line, "path %511s", what) == 1)
        mesh_channel_path(channel, what);
    else if (sscanf(line, "dns %511s %u", name, &number) == 2)
        (void)!mesh_dns_ask(dns, name, number, answer, NULL);
    else if (strcmp(line, "restart\n") == 0)
        mesh_channel_restart(channel, "told to");
    else if (strcmp(line, "fds\n") == 0)
        count_fds();
    return true;
}

static void turn(bool *ret_more) {
    enum { MAX = 40 };
    struct pollfd fds[MAX] = {{.fd = 0, .events = POLLIN}};
    uint64_t at = UINT64_MAX, now = mesh_now();
    uint32_t n = 1;
    n += mesh_channel_fill(channel, fds + n, 1, &at);
    if (!told)
        printf(", \"wait_ms\": %lld}\n", at < now ? 0 : (long long)((at - now) / MESH_MS));
    told = true;
    n += mesh_dns_fill(dns, fds + n, MAX - n, &at);
    int ms = at <= now ? 0 : at - now > 3600 * MESH_SEC ? 3600000 : (int)((at - now) / MESH_MS) + 1;
    poll(fds, n, ms);
    if (fds[0].revents)
        *ret_more = obey();
    now = mesh_now();
    mesh_dns_drive(dns, now);
    mesh_channel_drive(channel, now);
}

int main(int argc, char **argv) {
    static const struct mesh_fd_hooks hooks = {keep, drop};
    static const struct mesh_channel_events events = {up, message, down};
    struct mesh_why why = {""};
    setvbuf(stdin, NULL, _IONBF, 0); /* a line in the buffer would not wake poll */
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 2 || mesh_bootstrap_load(argv[1], NULL, &bootstrap, &why) != 0 ||
        mesh_dns_new(&hooks, &dns) != 0) {
        fprintf(stderr, "probe: %s\n", argc == 2 ? why.text : "probe BOOTSTRAP-FILE");
        return 2;
    }
    struct mesh_channel_config cfg = {
        .server = &bootstrap->servers[0],
        .path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        .hooks = &hooks,
        .dns = dns,
        .events = &events,
        .eager = true};
    told = true;
    bool more = mesh_channel_new(&cfg, &channel) == 0;
    while (more)
        turn(&more);
    mesh_channel_free(channel);
    mesh_dns_free(dns);
    mesh_bootstrap_free(bootstrap);
    return kept != 0;
}
