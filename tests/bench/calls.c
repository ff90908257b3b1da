/* SPDX-License-Identifier: Apache-2.0
 *
 * calls both|poll|epoll_wait N: makes that call (both: a send and a recv) N times on a descriptor that is no
 * mesh connection, so that instructions can be counted.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static int fds[2], ep;
static char c = 'x';

static int do_both(void) {
    return send(fds[0], &c, 1, 0) == 1 && recv(fds[1], &c, 1, 0) == 1;
}

static int do_poll(void) {
    struct pollfd p = {.fd = fds[0], .events = POLLIN};
    return poll(&p, 1, 0) == 0;
}

static int do_epoll_wait(void) {
    struct epoll_event e;
    return epoll_wait(ep, &e, 1, 0) == 0;
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        int (*call)(void);
    } table[] = {{"both", do_both}, {"poll", do_poll}, {"epoll_wait", do_epoll_wait}};
    struct epoll_event e = {.events = EPOLLIN};
    if (argc != 3 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
        return 2;
    ep = epoll_create1(0);
    if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], &e) < 0)
        return 2;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(argv[1], table[i].name) == 0) {
            for (int n = atoi(argv[2]); n > 0; n--)
                if (!table[i].call())
                    return 1;
            return 0;
        }
    return 2;
}
