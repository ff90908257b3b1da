/* SPDX-License-Identifier: Apache-2.0
 *
 * openloop PORT CONNECTIONS RATE SECONDS: HTTP/1.1 requests to 127.0.0.1 at a fixed rate, whether or not
 * earlier ones were answered: a request's latency counts from the moment it was due, so that a stalled server
 * cannot hide behind a client that waits for it. Requests go round the connections, one in flight on each;
 * one that is due while all are busy waits. Prints "p50_us", "p99_us", "rate" and "late" (requests that were
 * due but never sent). The first fifth is not counted.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 256, ANSWER_MAX = 16384 };
static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

struct conn {
    int fd, busy;
    uint64_t due; /* of the request in flight */
    size_t got, want;
    char answer[ANSWER_MAX + 1];
};

static struct conn conns[CONNECTIONS_MAX];
static int idle[CONNECTIONS_MAX], nidle, ep;
static double *took;
static size_t ntook, captook;

static void die(const char *what) {
    fprintf(stderr, "openloop: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void open_one(int i, int port) {
    struct sockaddr_in sa = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof sa))
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (fcntl(fd, F_SETFL, O_NONBLOCK) || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e))
        die("epoll");
    conns[i].fd = fd;
    idle[nidle++] = i;
}

static void ask(uint64_t due) {
    struct conn *c = &conns[idle[--nidle]];
    c->due = due;
    c->busy = 1;
    c->got = c->want = 0;
    if (send(c->fd, request, sizeof request - 1, MSG_NOSIGNAL) != sizeof request - 1)
        die("send");
}

/* Bytes of the whole answer, 0 while its head is not complete. */
static size_t answer_size(struct conn *c) {
    c->answer[c->got] = 0;
    char *end = strstr(c->answer, "\r\n\r\n"), *length = strcasestr(c->answer, "content-length:");
    if (!end || !length || length > end)
        return 0;
    return (size_t)(end + 4 - c->answer) + strtoul(length + 15, NULL, 10);
}

static void answered(struct conn *c, uint64_t counted_from) {
    for (;;) {
        ssize_t r = recv(c->fd, c->answer + c->got, ANSWER_MAX - c->got, 0);
        if (r < 0 && errno == EAGAIN)
            return;
        if (r <= 0 || !c->busy)
            die("recv");
        c->got += (size_t)r;
        if (!c->want)
            c->want = answer_size(c);
        if (c->want && c->got >= c->want)
            break;
    }
    if (c->due >= counted_from && ntook < captook)
        took[ntook++] = (double)(now() - c->due) / 1e3;
    c->busy = 0;
    idle[nidle++] = (int)(c - conns);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    int n = argc == 5 ? atoi(argv[2]) : 0;
    double rate = n ? atof(argv[3]) : 0, seconds = n ? atof(argv[4]) : 0;
    if (n < 1 || n > CONNECTIONS_MAX || rate < 1 || seconds <= 0) {
        fprintf(stderr, "usage: openloop PORT CONNECTIONS RATE SECONDS\n");
        return 2;
    }
    captook = (size_t)(rate * seconds) + 1;
    took = calloc(captook, sizeof *took);
    ep = epoll_create1(0);
    if (!took || ep < 0)
        die("start");
    for (int i = 0; i < n; i++)
        open_one(i, atoi(argv[1]));
    uint64_t start = now(), step = (uint64_t)(1e9 / rate), end = start + (uint64_t)(seconds * 1e9),
             due = start;
    uint64_t counted_from = start + (end - start) / 5, t;
    while ((t = now()) < end) {
        while (due <= t && nidle) {
            ask(due);
            due += step;
        }
        struct epoll_event e[64];
        /* Spins rather than sleeps until the next is due: a timer's slack would be in the figures. */
        int k = epoll_wait(ep, e, 64, 0);
        for (int i = 0; i < k; i++)
            answered(&conns[e[i].data.u32], counted_from);
    }
    if (ntook < 100) {
        errno = ETIMEDOUT;
        die("too few answers");
    }
    qsort(took, ntook, sizeof *took, by_value);
    printf("p50_us %.1f\np99_us %.1f\nrate %.0f\nlate %lu\n", took[ntook / 2], took[ntook / 100 * 99],
           (double)ntook / (seconds * 0.8), (unsigned long)(due < end ? (end - due) / step : 0));
    return 0;
}
