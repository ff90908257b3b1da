/* SPDX-License-Identifier: Apache-2.0
 *
 * The channel's policy against sockets of this process; time is what the test says. Whole servers, TLS and
 * DNS servers: tests/interop/xds.
 */
#include "resolver/channel.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "resolver/bootstrap.h"
#include "shim/base/clock.h"

TestSuite(channel, .timeout = 60);

struct seen {
    int ups, messages, downs, status, kept, dropped, refuse_keep;
    bool answered;
    char why[200];
    struct mesh_channel *ch;
    bool restart_on_message;
};

static struct seen seen;

static void on_up(void *arg) {
    ((struct seen *)arg)->ups++;
}

static void on_message(void *arg, const uint8_t *p, size_t n) {
    struct seen *s = arg;
    s->messages++;
    if (s->restart_on_message)
        mesh_channel_restart(s->ch, "bad message");
}

static void on_down(void *arg, int status, bool answered, const char *why) {
    struct seen *s = arg;
    s->downs++;
    s->status = status;
    s->answered = answered;
    snprintf(s->why, sizeof s->why, "%s", why);
}

static int keep(int fd) {
    seen.kept++;
    if (!seen.refuse_keep)
        return fd;
    close(fd);
    return -EMFILE;
}

static void drop(int fd) {
    seen.dropped++;
}

static const struct mesh_fd_hooks hooks = {keep, drop};
static struct mesh_bootstrap *bootstrap;
static struct mesh_dns *dns;
static uint64_t now;

static struct mesh_channel *channel(const char *uri) {
    static const struct mesh_channel_events events = {on_up, on_message, on_down};
    char text[512];
    struct mesh_why why;
    snprintf(text, sizeof text,
             "{\"xds_servers\": [{\"server_uri\": \"%s\", \"channel_creds\": [{\"type\": \"insecure\"}]}]}",
             uri);
    cr_assert_eq(mesh_bootstrap_parse(text, strlen(text), "f", &bootstrap, &why), 0, "%s", why.text);
    cr_assert_eq(mesh_dns_new(&hooks, &dns), 0);
    memset(&seen, 0, sizeof seen);
    now = 1000 * MESH_SEC;
    struct mesh_channel_config cfg = {.server = &bootstrap->servers[0],
                                      .path = "/s/M",
                                      .hooks = &hooks,
                                      .dns = dns,
                                      .events = &events,
                                      .arg = &seen,
                                      .eager = true};
    cr_assert_eq(mesh_channel_new(&cfg, &seen.ch), 0);
    return seen.ch;
}

static void done(struct mesh_channel *ch) {
    mesh_channel_free(ch);
    mesh_dns_free(dns);
    mesh_bootstrap_free(bootstrap);
    cr_expect_eq(seen.kept - seen.refuse_keep, seen.dropped, "%d kept, %d dropped", seen.kept, seen.dropped);
}

static uint64_t deadline(struct mesh_channel *ch) {
    struct pollfd p;
    uint64_t at = UINT64_MAX;
    (void)mesh_channel_fill(ch, &p, 1, &at);
    return at;
}

static enum mesh_channel_state state(struct mesh_channel *ch) {
    struct mesh_channel_info info;
    mesh_channel_describe(ch, &info);
    return info.state;
}

/* Waits for the kernel, not for the clock: until `what` has become true. */
#define UNTIL(ch, what)                                                                                      \
    for (int turn_ = 0; !(what); turn_++) {                                                                  \
        struct pollfd p_;                                                                                    \
        uint64_t at_ = UINT64_MAX;                                                                           \
        uint32_t n_ = mesh_channel_fill(ch, &p_, 1, &at_);                                                   \
        cr_assert_lt(turn_, 1500, "waited in vain: %s", #what);                                              \
        poll(&p_, n_, 10);                                                                                   \
        mesh_channel_drive(ch, now);                                                                         \
    }

static int listener(int family, struct sockaddr *sa, socklen_t len) {
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    cr_assert_eq(bind(fd, sa, len), 0);
    cr_assert_eq(listen(fd, 8), 0);
    cr_assert_eq(getsockname(fd, sa, &len), 0);
    return fd;
}

static int tcp_listener(uint16_t *ret_port) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = listener(AF_INET, (struct sockaddr *)&in, sizeof in);
    *ret_port = ntohs(in.sin_port);
    return fd;
}

/* A server's answers, made once: its SETTINGS; and headers of stream 1 with one message of three bytes. */
static const uint8_t settings[] = {0, 0, 0, 4, 0, 0, 0, 0, 0};

static void serve_message(int fd) {
    uint8_t out[200];
    nghttp2_hd_deflater *d;
    nghttp2_nv nv[] = {{(uint8_t *)":status", (uint8_t *)"200", 7, 3, 0},
                       {(uint8_t *)"content-type", (uint8_t *)"application/grpc", 12, 16, 0}};
    nghttp2_hd_deflate_new(&d, 4096);
    ssize_t n = nghttp2_hd_deflate_hd(d, out + 9, sizeof out - 9, nv, 2);
    nghttp2_hd_deflate_del(d);
    memcpy(out, (uint8_t[]){0, 0, (uint8_t)n, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 0, 0, 0, 1}, 9);
    memcpy(out + 9 + n, (uint8_t[]){0, 0, 8, NGHTTP2_DATA, 0, 0, 0, 0, 1, 0, 0, 0, 0, 3, 'a', 'b', 'c'}, 17);
    cr_assert_eq(write(fd, out, (size_t)n + 26), n + 26);
}

static int accept_up(struct mesh_channel *ch, int l) {
    int ups = seen.ups, fd = -1;
    UNTIL(ch, (fd = accept(l, NULL, NULL)) >= 0);
    cr_assert_eq(write(fd, settings, sizeof settings), (ssize_t)sizeof settings);
    UNTIL(ch, seen.ups > ups);
    return fd;
}

Test(channel, refused_is_tried_again_later_each_time_up_to_two_minutes) {
    uint16_t port;
    char uri[64];
    close(tcp_listener(&port)); /* nobody listens there now */
    snprintf(uri, sizeof uri, "127.0.0.1:%u", port);
    struct mesh_channel *ch = channel(uri);
    cr_expect_eq(state(ch), MESH_CHANNEL_IDLE);
    double want = 1;
    for (int i = 0; i < 15; i++) {
        uint64_t begun = now;
        cr_expect_eq(deadline(ch) <= now, true);
        mesh_channel_drive(ch, now);
        UNTIL(ch, seen.downs > i);
        cr_expect_eq(seen.status, 14);
        cr_expect(!seen.answered);
        cr_expect(strstr(seen.why, uri) && strstr(seen.why, "Connection refused"), "%s", seen.why);
        cr_expect_eq(state(ch), MESH_CHANNEL_BACKOFF);
        double wait = (double)(deadline(ch) - begun) / 1e9;
        cr_expect(wait >= want * 0.799 && wait <= want * 1.201, "%d: %f, not %f", i, wait, want);
        mesh_channel_drive(ch, deadline(ch) - 1);
        cr_expect_eq(seen.downs, i + 1, "not before its time");
        now = deadline(ch);
        want = want * 1.6 < 120 ? want * 1.6 : 120;
    }
    done(ch);
}

Test(channel, stream_opens_over_tcp) {
    uint16_t port;
    char uri[64], preface[400];
    int l = tcp_listener(&port), one = 0;
    snprintf(uri, sizeof uri, "127.0.0.1:%u", port);
    struct mesh_channel *ch = channel(uri);
    cr_expect_eq(mesh_channel_send(ch, (const uint8_t *)"x", 1), MESH_E_AGAIN);
    int fd = accept_up(ch, l);
    cr_expect_eq(state(ch), MESH_CHANNEL_UP);
    struct mesh_channel_info info;
    mesh_channel_describe(ch, &info);
    cr_expect_str_eq(info.peer, uri);
    cr_expect_str_eq(info.error, "");
    cr_assert_geq(read(fd, preface, sizeof preface), 24);
    cr_expect_eq(memcmp(preface, "PRI * HTTP/2.0\r\n", 16), 0);
    /* what was made of the socket */
    struct pollfd p;
    uint64_t at = UINT64_MAX;
    socklen_t len = sizeof one;
    cr_assert_eq(mesh_channel_fill(ch, &p, 1, &at), 1u);
    cr_expect(fcntl(p.fd, F_GETFD) & FD_CLOEXEC);
    cr_expect(fcntl(p.fd, F_GETFL) & O_NONBLOCK);
    cr_expect(getsockopt(p.fd, IPPROTO_TCP, TCP_NODELAY, &one, &len) == 0 && one);
    cr_expect(getsockopt(p.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &one, &len) == 0 && one == 20000);
    cr_expect_eq(at, now + 300 * MESH_SEC, "the keepalive");
    /* a message both ways */
    cr_assert_eq(mesh_channel_send(ch, (const uint8_t *)"x", 1), 0);
    cr_assert_eq(mesh_channel_fill(ch, &p, 1, &at), 1u);
    cr_expect(p.events & POLLOUT, "there is something to be sent");
    serve_message(fd);
    UNTIL(ch, seen.messages == 1);
    cr_assert_eq(mesh_channel_fill(ch, &p, 1, &at), 1u);
    cr_expect_eq(p.events, POLLIN);
    done(ch);
    cr_expect_eq(seen.downs, 0, "free says nothing");
    close(fd);
    close(l);
}

Test(channel, end_after_an_answer_comes_back_within_a_second) {
    uint16_t port;
    char uri[64];
    int l = tcp_listener(&port);
    snprintf(uri, sizeof uri, "127.0.0.1:%u", port);
    struct mesh_channel *ch = channel(uri);
    for (int i = 0; i < 5; i++) {
        int fd = accept_up(ch, l);
        serve_message(fd);
        UNTIL(ch, seen.messages == i + 1);
        close(fd);
        UNTIL(ch, seen.downs == i + 1);
        cr_expect(seen.answered);
        cr_expect_lt(deadline(ch), now + MESH_SEC);
        now = deadline(ch);
    }
    done(ch);
    close(l);
}

Test(channel, end_before_an_answer_counts_as_a_failure) {
    uint16_t port;
    char uri[64];
    int l = tcp_listener(&port);
    snprintf(uri, sizeof uri, "127.0.0.1:%u", port);
    struct mesh_channel *ch = channel(uri);
    for (int i = 0; i < 3; i++) {
        close(accept_up(ch, l));
        UNTIL(ch, seen.downs == i + 1);
        cr_expect(!seen.answered);
        cr_expect_eq(seen.status, 14);
        if (i == 2)
            cr_expect_geq(deadline(ch), now + 2 * MESH_SEC);
        now = deadline(ch);
    }
    done(ch);
    close(l);
}

Test(channel, restart_ends_the_stream_and_backs_off) {
    uint16_t port;
    char uri[64];
    int l = tcp_listener(&port);
    snprintf(uri, sizeof uri, "127.0.0.1:%u", port);
    struct mesh_channel *ch = channel(uri);
    int fd = accept_up(ch, l);
    seen.restart_on_message = true;
    serve_message(fd);
    UNTIL(ch, seen.downs == 1);
    cr_expect_eq(seen.messages, 1);
    cr_expect(seen.answered);
    cr_expect(strstr(seen.why, "bad message"), "%s", seen.why);
    cr_expect_geq(deadline(ch), now + MESH_SEC * 8 / 10);
    now = deadline(ch);
    close(fd);
    fd = accept_up(ch, l);
    mesh_channel_restart(ch, "from outside");
    cr_expect_eq(deadline(ch), 0u, "at once");
    cr_expect_eq(mesh_channel_send(ch, NULL, 0), MESH_E_AGAIN);
    mesh_channel_drive(ch, now);
    cr_expect_eq(seen.downs, 2);
    done(ch);
    close(fd);
    close(l);
}

Test(channel, server_that_accepts_and_says_nothing_times_out) {
    uint16_t port;
    char uri[64];
    int l = tcp_listener(&port);
    snprintf(uri, sizeof uri, "127.0.0.1:%u", port);
    struct mesh_channel *ch = channel(uri);
    mesh_channel_drive(ch, now);
    UNTIL(ch, deadline(ch) == now + 20 * MESH_SEC);
    int fd = accept(l, NULL, NULL);
    mesh_channel_drive(ch, now + 20 * MESH_SEC - 1);
    cr_expect_eq(seen.downs, 0);
    now += 20 * MESH_SEC;
    UNTIL(ch, seen.downs == 1);
    cr_expect(strstr(seen.why, "no handshake in time"), "%s", seen.why);
    done(ch);
    close(fd);
    close(l);
}

Test(channel, silent_stream_is_asked_and_then_given_up) {
    uint16_t port;
    char uri[64];
    int l = tcp_listener(&port);
    snprintf(uri, sizeof uri, "127.0.0.1:%u", port);
    struct mesh_channel *ch = channel(uri);
    int fd = accept_up(ch, l);
    now += 300 * MESH_SEC;
    mesh_channel_drive(ch, now);
    cr_expect_eq(deadline(ch), now + 20 * MESH_SEC);
    now += 20 * MESH_SEC;
    UNTIL(ch, seen.downs == 1);
    cr_expect(strstr(seen.why, "ping"), "%s", seen.why);
    done(ch);
    close(fd);
    close(l);
}

Test(channel, unix_sockets_by_path_and_by_name) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    char uri[128];
    for (int abstract = 0; abstract < 2; abstract++) {
        snprintf(un.sun_path, sizeof un.sun_path, "%s/tmp/mesh-channel-%d", abstract ? "@" : "", getpid());
        snprintf(uri, sizeof uri, "%s%s", abstract ? "unix-abstract:" : "unix:", un.sun_path + abstract);
        socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(un.sun_path) + !abstract);
        char path[108];
        strcpy(path, un.sun_path);
        if (abstract)
            un.sun_path[0] = 0;
        int l = listener(AF_UNIX, (struct sockaddr *)&un, len);
        struct mesh_channel *ch = channel(uri);
        close(accept_up(ch, l));
        struct mesh_channel_info info;
        mesh_channel_describe(ch, &info);
        cr_expect_str_eq(info.peer, uri);
        done(ch);
        close(l);
        unlink(path);
    }
}

Test(channel, socket_that_cannot_be_kept_is_an_ordinary_failure) {
    struct mesh_channel *ch = channel("127.0.0.1:9");
    seen.refuse_keep = 1;
    mesh_channel_drive(ch, now);
    cr_expect_eq(seen.downs, 1);
    cr_expect(strstr(seen.why, "Too many open files"), "%s", seen.why);
    done(ch);
}

Test(channel, fleet_does_not_come_at_once) {
    static const struct mesh_channel_events events = {on_up, on_message, on_down};
    struct mesh_channel *ch = channel("127.0.0.1:9"), *other;
    struct mesh_channel_config cfg = {
        .server = &bootstrap->servers[0], .path = "/s/M", .dns = dns, .events = &events, .arg = &seen};
    uint64_t first = 0;
    bool differ = false;
    for (int i = 0; i < 8; i++) {
        cr_assert_eq(mesh_channel_new(&cfg, &other), 0);
        mesh_channel_drive(other, now);
        cr_expect_lt(deadline(other), now + MESH_SEC);
        cr_expect_eq(state(other), MESH_CHANNEL_IDLE);
        differ = differ || (i && deadline(other) != first);
        first = deadline(other);
        mesh_channel_free(other);
    }
    cr_expect(differ);
    done(ch);
}

Test(channel, name_that_does_not_exist_is_said) {
    struct mesh_channel *ch = channel("a..b:1");
    mesh_channel_drive(ch, now);
    cr_expect_eq(seen.downs, 1);
    cr_expect(strstr(seen.why, "a..b: no such name"), "%s", seen.why);
    done(ch);
}
