// SPDX-License-Identifier: Apache-2.0
// Readiness as each wait call tells it: nothing too late, nothing that is not so.
#include <sys/select.h>
#include "t.h"

enum { SOON = 10000, IDLE = 60 };

// ---- one question, eleven ways to ask: which of `events` are so, within ms? ----

typedef short asker(int fd, short events, int ms);

static short by_poll(int fd, short events, int ms) {
    struct pollfd p = {.fd = fd, .events = events};
    EQ(SYS(poll(&p, 1, ms)), p.revents != 0);
    return p.revents;
}

static short by_ppoll(int fd, short events, int ms) {
    struct pollfd p = {.fd = fd, .events = events};
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000l};
    sigset_t none;
    sigemptyset(&none);
    EQ(SYS(ppoll(&p, 1, &ts, &none)), p.revents != 0);
    return p.revents;
}

static short by_sets(int fd, short events, int ms, bool with_mask) {
    fd_set r, w;
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000l};
    sigset_t none;
    sigemptyset(&none);
    FD_ZERO(&r);
    FD_ZERO(&w);
    if (events & POLLIN)
        FD_SET(fd, &r);
    if (events & POLLOUT)
        FD_SET(fd, &w);
    int n =
        with_mask ? SYS(pselect(fd + 1, &r, &w, NULL, &ts, &none)) : SYS(select(fd + 1, &r, &w, NULL, &tv));
    bool in = FD_ISSET(fd, &r), out = FD_ISSET(fd, &w);
    EQ(n, in + out);
    return (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0));
}

static short by_select(int fd, short events, int ms) {
    return by_sets(fd, events, ms, false);
}

static short by_pselect(int fd, short events, int ms) {
    return by_sets(fd, events, ms, true);
}

static int watch(int fd, uint32_t events) {
    int ep = SYS(epoll_create1(EPOLL_CLOEXEC));
    struct epoll_event e = {.events = events, .data.u64 = 0xfeedfacecafe0000ull + (unsigned)fd};
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    return ep;
}

// Waits once and checks that the data comes back as it was given.
static uint32_t told(int ep, int fd, int ms) {
    struct epoll_event e[4];
    int n = SYS(epoll_wait(ep, e, 4, ms));
    if (n == 0)
        return 0;
    EQ(n, 1);
    EQ(e[0].data.u64, 0xfeedfacecafe0000ull + (unsigned)fd);
    return e[0].events;
}

static short by_epoll_flags(int fd, short events, int ms, uint32_t flags) {
    int ep = watch(fd, (uint32_t)events | flags);
    uint32_t got = told(ep, fd, ms);
    SYS(close(ep));
    return (short)got;
}

static short by_level(int fd, short events, int ms) {
    return by_epoll_flags(fd, events, ms, 0);
}

static short by_edge(int fd, short events, int ms) {
    return by_epoll_flags(fd, events, ms, EPOLLET);
}

static short by_oneshot(int fd, short events, int ms) {
    return by_epoll_flags(fd, events, ms, EPOLLONESHOT);
}

static short by_exclusive(int fd, short events, int ms) {
    return by_epoll_flags(fd, events & (POLLIN | POLLOUT), ms, EPOLLEXCLUSIVE);
}

static short by_epoll_pwait(int fd, short events, int ms) {
    int ep = watch(fd, (uint32_t)events);
    struct epoll_event e = {.events = 0};
    sigset_t none;
    sigemptyset(&none);
    int n = SYS(epoll_pwait(ep, &e, 1, ms, &none));
    SYS(close(ep));
    return n ? (short)e.events : 0;
}

static short by_epoll_pwait2(int fd, short events, int ms) {
    int ep = watch(fd, (uint32_t)events);
    struct epoll_event e = {.events = 0};
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000l};
    int n = epoll_pwait2(ep, &e, 1, &ts, NULL);
    if (n < 0 && errno == ENOSYS) {
        SYS(close(ep));
        return by_level(fd, events, ms);
    }
    SYS(n);
    SYS(close(ep));
    return n ? (short)e.events : 0;
}

// epoll inside epoll inside poll
static short by_nested(int fd, short events, int ms) {
    int inner = watch(fd, (uint32_t)events), outer = watch(inner, EPOLLIN);
    struct pollfd p = {.fd = outer, .events = POLLIN};
    uint32_t got = 0;
    if (SYS(poll(&p, 1, ms)) > 0) {
        EQ(told(outer, inner, SOON), EPOLLIN);
        got = told(inner, fd, SOON);
        CHECK(got != 0);
    }
    SYS(close(outer));
    SYS(close(inner));
    return (short)got;
}

static const struct {
    const char *name;
    asker *ask;
    bool full; // tells RDHUP, HUP and ERR apart
} askers[] = {{"poll", by_poll, true},
              {"ppoll", by_ppoll, true},
              {"select", by_select, false},
              {"pselect", by_pselect, false},
              {"level", by_level, true},
              {"edge", by_edge, true},
              {"oneshot", by_oneshot, true},
              {"exclusive", by_exclusive, false},
              {"epoll_pwait", by_epoll_pwait, true},
              {"epoll_pwait2", by_epoll_pwait2, true},
              {"nested", by_nested, true}};
#define EACH(i) for (size_t i = 0; i < sizeof askers / sizeof *askers; i++)

static void expect_at(int line, size_t i, int fd, short events, int ms, short want) {
    short got = askers[i].ask(fd, events, ms);
    if (got != want)
        t_fail(__FILE__, line, "%s tells 0x%x, not 0x%x", askers[i].name, (unsigned)got, (unsigned)want);
}
#define EXPECT(i, fd, events, ms, want) expect_at(__LINE__, i, fd, events, ms, want)

static void idle_is_writable_and_not_readable(void) {
    int p[2];
    t_pair(p);
    EACH(i) for (int end = 0; end < 2; end++) {
        EXPECT(i, p[end], POLLIN, 10, 0);
        EXPECT(i, p[end], POLLIN | POLLOUT, SOON, POLLOUT);
    }
}

static void never_used_is_writable_and_not_readable(void) {
    EACH(i) {
        int p[2];
        t_pair_cold(AF_INET, p);
        EXPECT(i, p[0], POLLOUT, SOON, POLLOUT);
        EXPECT(i, p[1], POLLOUT, SOON, POLLOUT);
        EXPECT(i, p[1], POLLIN, 10, 0);
        EXPECT(i, p[0], POLLIN, 10, 0);
        PUT(p[1], 0, 10);
        EXPECT(i, p[0], POLLIN, SOON, POLLIN);
        GET(p[0], 0, 10);
        t_close_pair(p);
    }
}

static void readable_until_all_is_read(void) {
    EACH(i) {
        int p[2];
        t_pair(p);
        PUT(p[0], 0, 50);
        for (int k = 0; k < 5; k++) {
            EXPECT(i, p[1], POLLIN, SOON, POLLIN);
            GET(p[1], k * 10, 10);
        }
        EXPECT(i, p[1], POLLIN, IDLE / 4, 0);
        PUT(p[0], 50, 10);
        CHECK(t_wait(p[1], POLLIN, SOON)); // Nagle may hold it for a moment
        EXPECT(i, p[1], POLLIN | POLLOUT, SOON, POLLIN | POLLOUT);
        t_close_pair(p);
    }
}

static void readable_through_a_large_piece(void) {
    EACH(i) {
        int p[2];
        t_pair(p);
        PUT(p[0], 0, 40000);
        for (size_t off = 0; off < 40000; off += 1000) {
            EXPECT(i, p[1], POLLIN, SOON, POLLIN);
            GET(p[1], off, 1000);
        }
        EXPECT(i, p[1], POLLIN, IDLE / 4, 0);
        t_close_pair(p);
    }
}

static void half_closed_is_readable(void) {
    EACH(i) {
        int p[2];
        t_pair(p);
        SYS(shutdown(p[0], SHUT_WR));
        CHECK(t_wait(p[1], POLLRDHUP, SOON));
        EXPECT(i, p[1], POLLIN | POLLRDHUP, SOON, askers[i].full ? POLLIN | POLLRDHUP : POLLIN);
        EXPECT(i, p[1], POLLIN | POLLOUT, SOON, POLLIN | POLLOUT);
        END(p[1]);
        EXPECT(i, p[1], POLLIN, SOON, POLLIN);
        t_close_pair(p);
    }
}

static void closed_both_ways_hangs_up(void) {
    EACH(i) {
        int p[2];
        t_pair(p);
        SYS(shutdown(p[1], SHUT_WR));
        END(p[0]);
        SYS(shutdown(p[0], SHUT_WR));
        END(p[1]);
        if (askers[i].full)
            EXPECT(i, p[1], 0, SOON, POLLHUP);
        EXPECT(i, p[1], POLLIN, SOON,
               askers[i].ask == by_select || askers[i].ask == by_pselect ? POLLIN : POLLIN | POLLHUP);
        t_close_pair(p);
    }
}

static void reset_is_an_error(void) {
    struct linger now = {1, 0};
    EACH(i) {
        int p[2];
        t_pair(p);
        SYS(setsockopt(p[0], SOL_SOCKET, SO_LINGER, &now, sizeof now));
        SYS(close(p[0]));
        EQ(by_poll(p[1], 0, SOON), POLLERR | POLLHUP); // the reset has come
        if (askers[i].full)
            EXPECT(i, p[1], 0, SOON, POLLERR | POLLHUP);
        EXPECT(i, p[1], POLLIN | POLLOUT, SOON,
               askers[i].ask == by_select || askers[i].ask == by_pselect
                   ? POLLIN | POLLOUT
                   : POLLIN | POLLOUT | POLLERR | POLLHUP);
        SYS(close(p[1]));
    }
}

static void full_is_not_writable(void) {
    static char big[100000];
    EACH(i) {
        int p[2], idle = 0;
        uint64_t sent = 0;
        t_pair(p);
        while (idle < 5) {
            t_fill(big, sent, sizeof big);
            ssize_t n = send(p[0], big, sizeof big, MSG_DONTWAIT);
            if (n > 0) {
                sent += (uint64_t)n;
                idle = 0;
            } else {
                idle++;
                t_sleep_ms(2);
            }
        }
        EXPECT(i, p[0], POLLOUT, IDLE / 4, 0);
        t_nonblock(p[1], true);
        GET(p[1], 0, sent);
        EXPECT(i, p[0], POLLOUT, SOON, POLLOUT);
        PUT(p[0], sent, 10);
        GET(p[1], sent, 10);
        t_close_pair(p);
    }
}

struct later {
    int fd;
    size_t n;
};

static void *send_later(void *arg) {
    struct later *l = arg;
    t_sleep_ms(IDLE);
    PUT(l->fd, 0, l->n);
    return NULL;
}

static void a_wait_under_way_is_woken(void) {
    EACH(i) {
        int p[2];
        t_pair(p);
        struct later l = {p[0], 100};
        pthread_t t = t_thread(send_later, &l);
        EXPECT(i, p[1], POLLIN, SOON, POLLIN);
        GET(p[1], 0, 100);
        t_join(t);
        t_close_pair(p);
    }
}

static void timeouts_are_waited_for(void) {
    EACH(i) {
        int p[2];
        t_pair(p);
        long long start = t_now_ms();
        EXPECT(i, p[1], POLLIN, IDLE, 0);
        CHECK(t_now_ms() - start >= IDLE - 1);
        EXPECT(i, p[1], POLLIN, 0, 0);
        t_close_pair(p);
    }
}

// ---- what is particular to one of them ----

static void edge_tells_once_for_each_arrival(void) {
    int p[2];
    t_pair(p);
    int ep = watch(p[1], EPOLLIN | EPOLLET);
    EQ(told(ep, p[1], 10), 0);
    for (int i = 0; i < 20; i++) {
        PUT(p[0], i * 100, 100);
        EQ(told(ep, p[1], SOON), EPOLLIN);
        GET(p[1], i * 100, 100);
        EQ(told(ep, p[1], 5), 0);
    }
    // Not drained: no second event for the same data, one for new data.
    PUT(p[0], 2000, 100);
    EQ(told(ep, p[1], SOON), EPOLLIN);
    GET(p[1], 2000, 50);
    EQ(told(ep, p[1], 20), 0);
    PUT(p[0], 2100, 100);
    EQ(told(ep, p[1], SOON), EPOLLIN);
    GET(p[1], 2050, 150);
    SYS(shutdown(p[0], SHUT_WR));
    CHECK(told(ep, p[1], SOON) & EPOLLIN);
    END(p[1]);
}

static void edge_is_rearmed_by_a_change(void) {
    int p[2];
    t_pair(p);
    int ep = watch(p[1], EPOLLIN | EPOLLET);
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.u64 = 0xfeedfacecafe0000ull + (unsigned)p[1]};
    PUT(p[0], 0, 100);
    EQ(told(ep, p[1], SOON), EPOLLIN);
    EQ(told(ep, p[1], 10), 0);
    SYS(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &e));
    EQ(told(ep, p[1], SOON), EPOLLIN);
    GET(p[1], 0, 100);
    SYS(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &e));
    EQ(told(ep, p[1], 20), 0);
    e.events = EPOLLOUT | EPOLLET;
    SYS(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &e));
    EQ(told(ep, p[1], SOON), EPOLLOUT);
}

static void edge_for_both_directions(void) {
    int p[2];
    t_pair(p);
    int ep = watch(p[1], EPOLLIN | EPOLLOUT | EPOLLET);
    EQ(told(ep, p[1], SOON), EPOLLOUT);
    EQ(told(ep, p[1], 10), 0);
    PUT(p[0], 0, 10);
    CHECK(told(ep, p[1], SOON) & EPOLLIN);
    GET(p[1], 0, 10);
}

static void oneshot_tells_once_until_rearmed(void) {
    int p[2];
    t_pair(p);
    int ep = watch(p[1], EPOLLIN | EPOLLONESHOT);
    struct epoll_event e = {.events = EPOLLIN | EPOLLONESHOT,
                            .data.u64 = 0xfeedfacecafe0000ull + (unsigned)p[1]};
    for (int i = 0; i < 10; i++) {
        PUT(p[0], i * 10, 10);
        EQ(told(ep, p[1], SOON), EPOLLIN);
        EQ(told(ep, p[1], 5), 0); // still unread, and still silent
        SYS(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &e));
        EQ(told(ep, p[1], SOON), EPOLLIN);
        GET(p[1], i * 10, 10);
        SYS(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &e));
        EQ(told(ep, p[1], 5), 0);
    }
}

static void registration_says_what_is_wrong(void) {
    int p[2], ep = SYS(epoll_create1(0));
    struct epoll_event e = {.events = EPOLLIN};
    t_pair(p);
    ERR(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &e), ENOENT);
    ERR(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL), ENOENT);
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
    ERR(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e), EEXIST);
    SYS(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &e));
    SYS(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
    ERR(epoll_ctl(ep, EPOLL_CTL_ADD, -1, &e), EBADF);
    ERR(epoll_ctl(p[0], EPOLL_CTL_ADD, p[1], &e), EINVAL);
    ERR(epoll_wait(ep, &e, 0, 0), EINVAL);
    ERR(epoll_wait(p[0], &e, 1, 0), EINVAL);
    // Closing takes it out by itself.
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
    SYS(close(p[0]));
    EQ(epoll_wait(ep, &e, 1, 20), 0);
}

// Ready for `events`, with that data, and for nothing else?
static void tells_with(int ep, uint32_t events, uint64_t data, int ms) {
    struct epoll_event got[2];
    EQ(SYS(epoll_wait(ep, got, 2, ms)), events != 0);
    if (events) {
        EQ(got[0].events, events);
        EQ(got[0].data.u64, data);
    }
}

static void change(int ep, int op, int fd, uint32_t events, uint64_t data) {
    struct epoll_event e = {.events = events, .data.u64 = data};
    SYS(epoll_ctl(ep, op, fd, &e));
}

static void changed_and_put_back_as_event_loops_do(void) {
    int p[2], other = SYS(epoll_create1(0)), ep = SYS(epoll_create1(0));
    t_pair(p);
    PUT(p[0], 0, 10);
    GET(p[1], 0, 10);
    PUT(p[1], 0, 10);
    GET(p[0], 0, 10);
    change(other, EPOLL_CTL_ADD, p[1], EPOLLIN, 7);
    for (uint64_t i = 1; i < 200; i++) {
        struct epoll_event e = {.events = EPOLLIN};
        change(ep, EPOLL_CTL_ADD, p[1], EPOLLOUT, i);
        ERR(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &e), EEXIST);
        tells_with(ep, EPOLLOUT, i, SOON);
        change(ep, EPOLL_CTL_MOD, p[1], EPOLLIN, i << 32);
        tells_with(ep, 0, 0, 0);
        PUT(p[0], 10 * i, 10);
        tells_with(ep, EPOLLIN, i << 32, SOON);
        change(ep, EPOLL_CTL_MOD, p[1], EPOLLIN | EPOLLOUT, i);
        tells_with(ep, EPOLLIN | EPOLLOUT, i, SOON);
        SYS(epoll_ctl(ep, EPOLL_CTL_DEL, p[1], NULL));
        tells_with(ep, 0, 0, 0);
        tells_with(other, EPOLLIN, 7, SOON);
        ERR(epoll_ctl(ep, EPOLL_CTL_DEL, p[1], NULL), ENOENT);
        ERR(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &e), ENOENT);
        GET(p[1], 10 * i, 10);
    }
    t_close_pair(p);
}

// Taken out while there was room, put back when there is none, and the other way round.
static void put_back_when_full_and_when_drained(void) {
    static char big[100000];
    int p[2], idle = 0, ep = SYS(epoll_create1(0));
    uint64_t sent = 0;
    t_pair(p);
    PUT(p[1], 0, 10);
    GET(p[0], 0, 10);
    for (int round = 0; round < 3; round++) {
        change(ep, EPOLL_CTL_ADD, p[0], EPOLLOUT, 1);
        tells_with(ep, EPOLLOUT, 1, SOON);
        SYS(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
        uint64_t from = sent;
        for (idle = 0; idle < 5;) {
            t_fill(big, sent, sizeof big);
            ssize_t n = send(p[0], big, sizeof big, MSG_DONTWAIT);
            sent += n > 0 ? (uint64_t)n : 0;
            idle = n > 0 ? 0 : idle + 1;
            if (n < 0)
                t_sleep_ms(2);
        }
        change(ep, EPOLL_CTL_ADD, p[0], EPOLLOUT, 2);
        tells_with(ep, 0, 0, IDLE / 4);
        change(ep, EPOLL_CTL_MOD, p[0], EPOLLOUT | EPOLLIN, 3);
        tells_with(ep, 0, 0, IDLE / 4);
        t_nonblock(p[1], true);
        GET(p[1], from, sent - from);
        t_nonblock(p[1], false);
        tells_with(ep, EPOLLOUT, 3, SOON);
        SYS(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
    }
    t_close_pair(p);
}

static void *change_on_and_on(void *arg) {
    const int *at = arg; // epoll, descriptor, rounds
    for (int i = 0; i < at[2]; i++) {
        struct epoll_event e = {.events = i % 2 ? EPOLLIN : EPOLLOUT, .data.u64 = (uint64_t)i};
        if (epoll_ctl(at[0], i % 3 ? EPOLL_CTL_MOD : i % 2 ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, at[1], &e) != 0)
            CHECK(errno == ENOENT || errno == EEXIST);
    }
    return NULL;
}

// Two threads change one registration: what stands at the end is what the last change said.
static void changed_by_two_threads(void) {
    int p[2], ep = SYS(epoll_create1(0));
    t_pair(p);
    PUT(p[0], 0, 10);
    GET(p[1], 0, 10);
    int at[3] = {ep, p[1], 20000};
    pthread_t one = t_thread(change_on_and_on, at), two = t_thread(change_on_and_on, at);
    t_join(one);
    t_join(two);
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = 99};
    if (epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &e) != 0)
        change(ep, EPOLL_CTL_ADD, p[1], EPOLLIN, 99);
    tells_with(ep, 0, 0, 20);
    PUT(p[0], 10, 10);
    tells_with(ep, EPOLLIN, 99, SOON);
    t_close_pair(p);
}

static void deleted_is_silent(void) {
    int p[2];
    t_pair(p);
    int ep = watch(p[1], EPOLLIN);
    PUT(p[0], 0, 10);
    EQ(told(ep, p[1], SOON), EPOLLIN);
    SYS(epoll_ctl(ep, EPOLL_CTL_DEL, p[1], NULL));
    EQ(told(ep, p[1], 20), 0);
    struct epoll_event e = {.events = 0, .data.u64 = 0xfeedfacecafe0000ull + (unsigned)p[1]};
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &e));
    EQ(told(ep, p[1], 20), 0);
    e.events = EPOLLIN;
    SYS(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &e));
    EQ(told(ep, p[1], SOON), EPOLLIN);
}

static void one_descriptor_in_two_sets(void) {
    int p[2];
    t_pair(p);
    int a = watch(p[1], EPOLLIN), b = watch(p[1], EPOLLIN | EPOLLET);
    PUT(p[0], 0, 10);
    EQ(told(a, p[1], SOON), EPOLLIN);
    EQ(told(b, p[1], SOON), EPOLLIN);
    GET(p[1], 0, 10);
    EQ(told(a, p[1], 10), 0);
    EQ(told(b, p[1], 10), 0);
}

static void registered_before_connect(void) {
    for (int edge = 0; edge < 2; edge++) {
        int l = t_listen(AF_INET), c = SYS(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        struct t_addr a = t_local(l);
        int ep = watch(c, EPOLLIN | EPOLLOUT | (edge ? EPOLLET : 0u));
        CHECK(told(ep, c, SOON) & EPOLLHUP); // an unconnected socket, says Linux
        if (connect(c, &a.sa, a.len) != 0)
            EQ(errno, EINPROGRESS);
        int s = SYS(accept(l, NULL, NULL));
        // May come in any order with the handshake: what counts is that it comes, and that it is the truth.
        uint32_t got = told(ep, c, SOON);
        EQ(got, EPOLLOUT);
        PUT(s, 0, 100);
        CHECK(t_wait(c, POLLIN, SOON));
        for (int i = 0; i < 10 && !(got & EPOLLIN); i++)
            got = told(ep, c, SOON);
        CHECK(got & EPOLLIN);
        GET(c, 0, 100);
        PUT(c, 0, 100);
        GET(s, 0, 100);
        close(l);
    }
}

static void all_kinds_in_one_poll(void) {
    int p[2], u[2], pipe_[2], l = t_listen(AF_INET);
    t_pair(p);
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, u));
    SYS(pipe(pipe_));
    struct pollfd f[] = {{.fd = p[1], .events = POLLIN},     {.fd = u[1], .events = POLLIN},
                         {.fd = pipe_[0], .events = POLLIN}, {.fd = l, .events = POLLIN},
                         {.fd = -1, .events = POLLIN},       {.fd = 900, .events = POLLIN},
                         {.fd = p[0], .events = POLLOUT}};
    EQ(poll(f, 5, IDLE), 0);
    EQ(poll(f, 7, SOON), 2);
    EQ(f[5].revents, POLLNVAL);
    EQ(f[6].revents, POLLOUT);
    PUT(p[0], 0, 10);
    EQ(write(u[0], "x", 1), 1);
    EQ(write(pipe_[1], "x", 1), 1);
    int c = t_dial(t_local(l));
    CHECK(t_wait(p[1], POLLIN, SOON));
    EQ(poll(f, 5, SOON), 4);
    for (int i = 0; i < 4; i++)
        EQ(f[i].revents, POLLIN);
    EQ(f[4].revents, 0);
    close(c);
}

static void one_active_among_many(void) {
    enum { MANY = 40 };
    int p[MANY][2], ep = SYS(epoll_create1(0));
    struct pollfd f[MANY];
    struct epoll_event e[MANY];
    for (int i = 0; i < MANY; i++) {
        t_pair(p[i]);
        f[i] = (struct pollfd){.fd = p[i][1], .events = POLLIN};
        e[0] = (struct epoll_event){.events = EPOLLIN, .data.u32 = (uint32_t)i};
        SYS(epoll_ctl(ep, EPOLL_CTL_ADD, p[i][1], &e[0]));
    }
    EQ(poll(f, MANY, 10), 0);
    EQ(epoll_wait(ep, e, MANY, 10), 0);
    for (int turn = 0; turn < MANY; turn += 7) {
        PUT(p[turn][0], 0, 100);
        EQ(poll(f, MANY, SOON), 1);
        EQ(f[turn].revents, POLLIN);
        EQ(epoll_wait(ep, e, MANY, SOON), 1);
        EQ(e[0].data.u32, turn);
        GET(p[turn][1], 0, 100);
    }
    for (int i = 0; i < MANY; i++)
        PUT(p[i][0], 0, 10);
    // Four at a time: everyone gets a turn.
    for (int left = MANY; left > 0;) {
        int n = SYS(epoll_wait(ep, e, 4, SOON));
        CHECK(n > 0 && n <= 4);
        for (int i = 0; i < n; i++)
            GET(p[e[i].data.u32][1], 0, 10);
        left -= n;
    }
    EQ(epoll_wait(ep, e, MANY, 10), 0);
}

static void selecting_high_numbers(void) {
    int p[2];
    t_pair(p);
    int high = SYS(fcntl(p[1], F_DUPFD, 900));
    PUT(p[0], 0, 5);
    EQ(by_select(high, POLLIN, SOON), POLLIN);
    EQ(by_pselect(high, POLLIN | POLLOUT, SOON), POLLIN | POLLOUT);
}

static void wait_for_nothing(void) {
    int p[2];
    t_pair(p);
    struct timeval tv = {0, 20000};
    long long start = t_now_ms();
    EQ(poll(NULL, 0, 20), 0);
    EQ(select(0, NULL, NULL, NULL, &tv), 0);
    CHECK(t_now_ms() - start >= 39);
    struct pollfd f = {.fd = p[1], .events = 0};
    PUT(p[0], 0, 5);
    EQ(poll(&f, 1, 20), 0); // asked for nothing, told nothing
}

T_MAIN(T_CASE(idle_is_writable_and_not_readable), T_CASE(never_used_is_writable_and_not_readable),
       T_CASE(readable_until_all_is_read), T_CASE(readable_through_a_large_piece),
       T_CASE(half_closed_is_readable), T_CASE(closed_both_ways_hangs_up), T_CASE(reset_is_an_error),
       T_CASE(full_is_not_writable), T_CASE(a_wait_under_way_is_woken), T_CASE(timeouts_are_waited_for),
       T_CASE(edge_tells_once_for_each_arrival), T_CASE(edge_is_rearmed_by_a_change),
       T_CASE(edge_for_both_directions), T_CASE(oneshot_tells_once_until_rearmed),
       T_CASE(registration_says_what_is_wrong), T_CASE(changed_and_put_back_as_event_loops_do),
       T_CASE(put_back_when_full_and_when_drained), T_CASE(changed_by_two_threads), T_CASE(deleted_is_silent),
       T_CASE(one_descriptor_in_two_sets), T_CASE(registered_before_connect), T_CASE(all_kinds_in_one_poll),
       T_CASE(one_active_among_many), T_CASE(selecting_high_numbers), T_CASE(wait_for_nothing))
