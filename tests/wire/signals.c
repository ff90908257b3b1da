// SPDX-License-Identifier: Apache-2.0
// Signals during calls: EINTR or restart as the handler was set, masks given to wait calls, storms during
// bulk.
#include "t.h"
#include <sys/select.h>

static _Atomic int seen;
static int from_handler = -1;

static void count(int sig) {
    (void)sig;
    seen++;
}

static void handle(int sig, void (*fn)(int), int flags) {
    struct sigaction sa = {.sa_handler = fn, .sa_flags = flags};
    SYS(sigaction(sig, &sa, NULL));
}

static void alarm_in(int first_ms, int every_ms) {
    struct itimerval it = {{every_ms / 1000, every_ms % 1000 * 1000},
                           {first_ms / 1000, first_ms % 1000 * 1000}};
    SYS(setitimer(ITIMER_REAL, &it, NULL));
}

static void interrupts_a_read(void) {
    int p[2];
    char b;
    t_pair(p);
    handle(SIGALRM, count, 0);
    alarm_in(50, 0);
    ERR(recv(p[1], &b, 1, 0), EINTR);
    EQ(seen, 1);
    alarm_in(50, 0);
    ERR(read(p[1], &b, 1), EINTR);
    alarm_in(50, 0);
    ERR(recv(p[1], &b, 1, MSG_PEEK), EINTR);
    PUT(p[0], 0, 10);
    GET(p[1], 0, 10);
}

static void *send_after_a_while(void *arg) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    t_sleep_ms(200);
    PUT(*(int *)arg, 0, 10);
    return NULL;
}

static void restarts_a_read(void) {
    t_prompt_signals();
    int p[2];
    char b[10];
    t_pair(p);
    handle(SIGALRM, count, SA_RESTART);
    pthread_t t = t_thread(send_after_a_while, &p[0]);
    alarm_in(20, 20);
    EQ(recv(p[1], b, 10, 0), 10);
    CHECK(seen >= 2);
    alarm_in(0, 0);
    t_join(t);
}

static void does_not_restart_a_read_with_a_timeout(void) {
    int p[2];
    char b;
    struct timeval tv = {5, 0};
    t_pair(p);
    SYS(setsockopt(p[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    handle(SIGALRM, count, SA_RESTART);
    alarm_in(50, 0);
    ERR(recv(p[1], &b, 1, 0), EINTR); // so Linux does where a timeout is set
}

static void interrupts_every_wait(void) {
    t_prompt_signals();
    int p[2], ep = SYS(epoll_create1(0));
    t_pair(p);
    struct pollfd f = {.fd = p[1], .events = POLLIN};
    struct epoll_event e = {.events = EPOLLIN};
    struct timespec ts = {5, 0};
    struct timeval tv = {5, 0};
    fd_set r;
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &e));
    for (int flags = 0; flags < 2; flags++) {
        handle(SIGALRM, count, flags ? SA_RESTART : 0); // none of them is ever restarted
        alarm_in(40, 0);
        ERR(poll(&f, 1, 5000), EINTR);
        alarm_in(40, 0);
        ERR(ppoll(&f, 1, &ts, NULL), EINTR);
        alarm_in(40, 0);
        ERR(epoll_wait(ep, &e, 1, 5000), EINTR);
        alarm_in(40, 0);
        ERR(epoll_pwait(ep, &e, 1, 5000, NULL), EINTR);
        FD_ZERO(&r);
        FD_SET(p[1], &r);
        alarm_in(40, 0);
        ERR(select(p[1] + 1, &r, NULL, NULL, &tv), EINTR);
        FD_ZERO(&r);
        FD_SET(p[1], &r);
        alarm_in(40, 0);
        ERR(pselect(p[1] + 1, &r, NULL, NULL, &ts, NULL), EINTR);
    }
    EQ(seen, 12);
}

// The mask of ppoll and friends is in force during the wait alone, with no gap in which a signal is lost.
static void masks_are_swapped_for_the_wait(void) {
    t_prompt_signals();
    int p[2], ep = SYS(epoll_create1(0));
    sigset_t none, usr;
    t_pair(p);
    struct pollfd f = {.fd = p[1], .events = POLLIN};
    struct epoll_event e = {.events = EPOLLIN};
    struct timespec ts = {5, 0};
    fd_set r;
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &e));
    sigemptyset(&none);
    sigemptyset(&usr);
    sigaddset(&usr, SIGUSR1);
    handle(SIGUSR1, count, 0);
    EQ(pthread_sigmask(SIG_BLOCK, &usr, NULL), 0);
    raise(SIGUSR1);
    EQ(seen, 0);
    ERR(ppoll(&f, 1, &ts, &none), EINTR);
    EQ(seen, 1);
    raise(SIGUSR1);
    EQ(seen, 1);
    ERR(epoll_pwait(ep, &e, 1, 5000, &none), EINTR);
    EQ(seen, 2);
    raise(SIGUSR1);
    FD_ZERO(&r);
    FD_SET(p[1], &r);
    ERR(pselect(p[1] + 1, &r, NULL, NULL, &ts, &none), EINTR);
    EQ(seen, 3);
    // With data there, a wait may tell of it and leave the signal for later, but not lose it.
    raise(SIGUSR1);
    PUT(p[0], 0, 10);
    CHECK(t_wait(p[1], POLLIN, 10000));
    int n = ppoll(&f, 1, &ts, &none);
    CHECK(n == 1 || (n == -1 && errno == EINTR));
    ts.tv_sec = 0;
    while (seen < 4)
        ppoll(NULL, 0, &ts, &none);
    GET(p[1], 0, 10);
    EQ(seen, 4);
}

static void interrupts_accept(void) {
    int l = t_listen(AF_INET);
    handle(SIGALRM, count, 0);
    alarm_in(50, 0);
    ERR(accept(l, NULL, NULL), EINTR);
    int c = t_dial(t_local(l)), s = SYS(accept(l, NULL, NULL));
    PUT(c, 0, 10);
    GET(s, 0, 10);
}

static void interrupts_a_full_send(void) {
    static char big[1 << 20];
    int p[2];
    uint64_t sent = 0;
    ssize_t n;
    t_pair(p);
    handle(SIGALRM, count, 0);
    alarm_in(200, 100);
    for (;;) {
        t_fill(big, sent, sizeof big);
        if ((n = send(p[0], big, sizeof big, 0)) < 0)
            break;
        sent += (uint64_t)n; // what went before the signal came
    }
    EQ(errno, EINTR);
    alarm_in(0, 0);
    t_nonblock(p[1], true);
    GET(p[1], 0, sent);
    CHECK(!t_wait(p[1], POLLIN, 20));
}

static void partial_waitall_is_short(void) {
    int p[2];
    char b[100];
    t_pair(p);
    handle(SIGALRM, count, 0);
    PUT(p[0], 0, 40);
    CHECK(t_wait(p[1], POLLIN, 10000));
    alarm_in(80, 0);
    EQ(recv(p[1], b, 100, MSG_WAITALL), 40);
    SAME(b, 0, 40);
}

static void interrupts_a_connect(void) {
    struct t_addr a = t_loopback(AF_INET);
    int l = SYS(socket(AF_INET, SOCK_STREAM, 0)), c;
    SYS(bind(l, &a.sa, a.len));
    SYS(listen(l, 0));
    a = t_local(l);
    for (int i = 0; i < 3; i++) { // fill its queue: the next one hangs
        c = SYS(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        (void)!connect(c, &a.sa, a.len);
        t_sleep_ms(20);
    }
    c = SYS(socket(AF_INET, SOCK_STREAM, 0));
    handle(SIGALRM, count, 0);
    alarm_in(100, 0);
    ERR(connect(c, &a.sa, a.len), EINTR);
    t_nonblock(c, true);
    ERR(connect(c, &a.sa, a.len), EALREADY); // it goes on by itself
}

static void *bulk_writer(void *arg) {
    PUT(*(int *)arg, 0, 8 * 1024 * 1024);
    return NULL;
}

static void storm_during_bulk(int flags) {
    int p[2];
    t_pair(p);
    handle(SIGALRM, count, flags);
    alarm_in(1, 1);
    pthread_t t = t_thread(bulk_writer, &p[0]);
    GET(p[1], 0, 8 * 1024 * 1024);
    t_join(t);
    for (int i = 0; i < 300; i++) {
        PUT(p[0], i * 100, 100);
        GET(p[1], i * 100, 100);
    }
    alarm_in(0, 0);
    CHECK(seen > 0);
}

static void storm_with_restart(void) {
    storm_during_bulk(SA_RESTART);
}

static void storm_without_restart(void) {
    storm_during_bulk(0);
}

static void storm_during_connections(void) {
    int l = t_listen(AF_INET);
    handle(SIGALRM, count, SA_RESTART);
    alarm_in(1, 1);
    for (int i = 0; i < 30; i++) {
        int c = t_dial(t_local(l)), s = SYS(accept(l, NULL, NULL));
        PUT(c, 0, 1000);
        GET(s, 0, 1000);
        SYS(close(c));
        END(s);
        SYS(close(s));
    }
    alarm_in(0, 0);
}

static void talk_in_handler(int sig) {
    int e = errno;
    (void)sig;
    if (send(from_handler, T_MARK, 16, MSG_DONTWAIT) == 16)
        seen++;
    errno = e;
}

// send() is safe in a signal handler: here on another connection than the one that was interrupted, and on
// the same.
static void send_in_a_handler(void) {
    int p[2], q[2];
    t_pair(p);
    t_pair(q);
    from_handler = q[0];
    handle(SIGALRM, talk_in_handler, SA_RESTART);
    alarm_in(1, 1);
    for (int i = 0; i < 500; i++) {
        PUT(p[0], i * 500, 500);
        GET(p[1], i * 500, 500);
    }
    alarm_in(0, 0);
    CHECK(seen > 0);
    int all = seen;
    for (int i = 0; i < all; i++)
        GET(q[1], 0, 16);
    ERR(recv(q[1], &all, 1, MSG_DONTWAIT), EAGAIN);
}

static void send_in_a_handler_on_the_same_connection(void) {
    int p[2];
    char b[4096];
    t_pair(p);
    from_handler = p[0];
    handle(SIGALRM, talk_in_handler, SA_RESTART);
    alarm_in(1, 1);
    uint64_t sent = 0, got = 0;
    for (int i = 0; i < 2000; i++) {
        EQ(send(p[0], T_MARK, 16, 0), 16);
        sent += 16;
        ssize_t n;
        while ((n = recv(p[1], b, sizeof b, MSG_DONTWAIT)) > 0) {
            for (ssize_t k = 0; k < n; k++)
                EQ(b[k], T_MARK[(got + (uint64_t)k) % 16]);
            got += (uint64_t)n;
        }
    }
    alarm_in(0, 0);
    sent += 16u * (uint64_t)seen;
    SYS(shutdown(p[0], SHUT_WR));
    for (ssize_t n; (n = SYS(recv(p[1], b, sizeof b, 0))) > 0; got += (uint64_t)n)
        ;
    EQ(got, sent);
}

static void errno_survives_success(void) {
    int p[2];
    char b;
    t_pair(p);
    errno = 1234;
    EQ(send(p[0], T_MARK, 1, 0), 1);
    EQ(errno, 1234);
    EQ(recv(p[1], &b, 1, 0), 1);
    EQ(errno, 1234);
    struct pollfd f = {.fd = p[1], .events = POLLIN};
    EQ(poll(&f, 1, 5), 0);
    EQ(errno, 1234);
    SYS(close(p[0]));
    EQ(errno, 1234);
    EQ(recv(p[1], &b, 1, 0), 0);
    EQ(errno, 1234);
}

T_MAIN(T_CASE(interrupts_a_read), T_CASE(restarts_a_read), T_CASE(does_not_restart_a_read_with_a_timeout),
       T_CASE(interrupts_every_wait), T_CASE(masks_are_swapped_for_the_wait), T_CASE(interrupts_accept),
       T_CASE(interrupts_a_full_send), T_CASE(partial_waitall_is_short), T_CASE(interrupts_a_connect),
       T_CASE(storm_with_restart), T_CASE(storm_without_restart), T_CASE(storm_during_connections),
       T_CASE(send_in_a_handler), T_CASE(send_in_a_handler_on_the_same_connection),
       T_CASE(errno_survives_success))
