// SPDX-License-Identifier: Apache-2.0
// Bulk in both directions at once; several threads on one descriptor; event loops under load. Every byte is
// checked.
#include "t.h"

enum { ALL = 64 * 1024 * 1024 };

struct way {
    int fd;
    uint64_t n;
    size_t chunk;
};

static void *write_all(void *arg) {
    struct way *w = arg;
    char *buf = malloc(w->chunk);
    CHECK(buf);
    for (uint64_t off = 0; off < w->n;) {
        size_t len = w->n - off < w->chunk ? (size_t)(w->n - off) : w->chunk;
        t_fill(buf, off, len);
        for (size_t done = 0; done < len;)
            done += (size_t)SYS(send(w->fd, buf + done, len - done, MSG_NOSIGNAL));
        off += len;
    }
    SYS(shutdown(w->fd, SHUT_WR));
    free(buf);
    return NULL;
}

static void *read_all(void *arg) {
    struct way *w = arg;
    char *buf = malloc(w->chunk);
    CHECK(buf);
    for (uint64_t off = 0; off < w->n;) {
        ssize_t n = SYS(recv(w->fd, buf, w->chunk, 0));
        CHECK(n > 0);
        SAME(buf, off, n);
        off += (uint64_t)n;
    }
    END(w->fd);
    free(buf);
    return NULL;
}

static void both_ways(uint64_t n, size_t w, size_t r) {
    int p[2];
    t_pair(p);
    struct way ways[4] = {{p[0], n, w}, {p[1], n, r}, {p[1], n, w}, {p[0], n, r}};
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        t[i] = t_thread(i & 1 ? read_all : write_all, &ways[i]);
    for (int i = 0; i < 4; i++)
        t_join(t[i]);
    t_close_pair(p);
}

static void large_pieces_both_ways(void) {
    both_ways(ALL, 65536, 65536);
}

static void odd_pieces_both_ways(void) {
    both_ways(ALL / 4, 10007, 4099);
}

static void large_writes_small_reads(void) {
    both_ways(ALL / 32, 200000, 333);
}

static void small_writes_large_reads(void) {
    both_ways(ALL / 64, 217, 100000);
}

// One thread moves both directions of both ends by epoll, without ever blocking.
static void one_loop_moves_everything(void) {
    enum { N = 16 * 1024 * 1024, CHUNK = 50000 };
    static char buf[CHUNK];
    int p[2], ep = SYS(epoll_create1(0)), ended = 0;
    uint64_t sent[2] = {0}, got[2] = {0};
    t_pair(p);
    for (int i = 0; i < 2; i++) {
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.u32 = (uint32_t)i};
        t_nonblock(p[i], true);
        SYS(epoll_ctl(ep, EPOLL_CTL_ADD, p[i], &e));
    }
    while (ended < 2) {
        struct epoll_event e;
        EQ(SYS(epoll_wait(ep, &e, 1, 10000)), 1);
        uint32_t i = e.data.u32;
        if (e.events & EPOLLIN) {
            ssize_t n = recv(p[i], buf, CHUNK, 0);
            if (n > 0) {
                SAME(buf, got[i], n);
                got[i] += (uint64_t)n;
            } else if (n == 0) {
                EQ(got[i], N);
                ended++;
                struct epoll_event out = {.events = sent[i] < N ? EPOLLOUT : 0, .data.u32 = i};
                SYS(epoll_ctl(ep, EPOLL_CTL_MOD, p[i], &out));
            } else
                EQ(errno, EAGAIN);
        }
        if ((e.events & EPOLLOUT) && sent[i] < N) {
            size_t len = N - sent[i] < CHUNK ? (size_t)(N - sent[i]) : CHUNK;
            t_fill(buf, sent[i], len);
            ssize_t n = send(p[i], buf, len, MSG_NOSIGNAL);
            if (n < 0)
                EQ(errno, EAGAIN);
            else
                sent[i] += (uint64_t)n;
            if (sent[i] == N) {
                struct epoll_event in = {.events = EPOLLIN, .data.u32 = i};
                SYS(shutdown(p[i], SHUT_WR));
                SYS(epoll_ctl(ep, EPOLL_CTL_MOD, p[i], &in));
            }
        }
    }
}

// Writers share a descriptor: each send arrives in one piece, in some order; readers share the other and lose
// none.
enum { WRITERS = 4, SENDS = 500, LEN = 800 };

struct shared {
    int fd, who;
    unsigned char *seen;
};

static void *write_tagged(void *arg) {
    struct shared *s = arg;
    char buf[LEN];
    for (int i = 0; i < SENDS; i++) {
        uint32_t tag = (uint32_t)(s->who * SENDS + i);
        memcpy(buf, T_MARK, 16);
        for (size_t k = 16; k < LEN; k += 4)
            memcpy(buf + k, &tag, 4);
        EQ(send(s->fd, buf, LEN, 0), LEN);
    }
    return NULL;
}

static void *read_tagged(void *arg) {
    struct shared *s = arg;
    char buf[LEN];
    ssize_t n;
    while ((n = SYS(recv(s->fd, buf, LEN, MSG_WAITALL))) > 0) {
        uint32_t tag, other;
        EQ(n, LEN);
        EQ(memcmp(buf, T_MARK, 16), 0);
        memcpy(&tag, buf + 16, 4);
        for (size_t k = 16; k < LEN; k += 4) {
            memcpy(&other, buf + k, 4);
            EQ(other, tag);
        }
        CHECK(tag < WRITERS * SENDS);
        EQ(__atomic_exchange_n(&s->seen[tag], 1, __ATOMIC_RELAXED), 0);
    }
    return NULL;
}

static void many_writers_one_reader(void) {
    static unsigned char seen[WRITERS * SENDS];
    int p[2];
    t_pair(p);
    pthread_t t[WRITERS], r;
    struct shared w[WRITERS], reader = {p[1], 0, seen};
    for (int i = 0; i < WRITERS; i++) {
        w[i] = (struct shared){p[0], i, NULL};
        t[i] = t_thread(write_tagged, &w[i]);
    }
    r = t_thread(read_tagged, &reader);
    for (int i = 0; i < WRITERS; i++)
        t_join(t[i]);
    SYS(shutdown(p[0], SHUT_WR));
    t_join(r);
    for (int i = 0; i < WRITERS * SENDS; i++)
        EQ(seen[i], 1);
}

static void *take_bytes(void *arg) {
    struct shared *s = arg;
    char buf[1000];
    ssize_t n;
    uint64_t sum = 0;
    while ((n = SYS(recv(s->fd, buf, sizeof buf, 0))) > 0)
        for (ssize_t i = 0; i < n; i++)
            sum += (unsigned char)buf[i] + 1u;
    return (void *)(uintptr_t)sum;
}

static void one_writer_many_readers(void) {
    enum { N = 2000000 };
    static char buf[N];
    int p[2];
    uint64_t want = 0, sum = 0;
    t_pair(p);
    pthread_t t[WRITERS];
    struct shared s = {p[1], 0, NULL};
    for (int i = 0; i < WRITERS; i++)
        t[i] = t_thread(take_bytes, &s);
    t_fill(buf, 0, N);
    for (size_t i = 0; i < N; i++)
        want += (unsigned char)buf[i] + 1u;
    PUT(p[0], 0, N);
    SYS(shutdown(p[0], SHUT_WR));
    for (int i = 0; i < WRITERS; i++)
        sum += (uintptr_t)t_join(t[i]);
    EQ(sum, want);
}

// A slow reader: the writer must wait, and go on, again and again.
static void slow_reader(void) {
    enum { N = 3000000 };
    static char buf[N];
    int p[2];
    t_pair(p);
    struct way w = {p[0], N, 100000};
    pthread_t t = t_thread(write_all, &w);
    uint64_t off = 0;
    for (int i = 0; off < N; i++) {
        size_t len = 1 + t_mix((uint64_t)i) % 60000;
        ssize_t n = SYS(recv(p[1], buf, len, 0));
        CHECK(n > 0);
        SAME(buf, off, n);
        off += (uint64_t)n;
        if (i % 20 == 0)
            t_sleep_ms(2);
    }
    END(p[1]);
    t_join(t);
}

T_MAIN(T_CASE(large_pieces_both_ways), T_CASE(odd_pieces_both_ways), T_CASE(large_writes_small_reads),
       T_CASE(small_writes_large_reads), T_CASE(one_loop_moves_everything), T_CASE(many_writers_one_reader),
       T_CASE(one_writer_many_readers), T_CASE(slow_reader))
