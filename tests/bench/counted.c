/* SPDX-License-Identifier: Apache-2.0
 *
 * counted WHAT N: does one thing N times under the library, so that its instructions can be counted:
 *     record    64 bytes from one end of a mesh connection of this process to the other
 *     control   a change of an open mesh connection's epoll registration
 *     resolve   getaddrinfo of a mesh name
 *     connect   connect by a cluster in clear, with its choice of an endpoint, and close
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTENER = 29080 };

static void need(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static struct sockaddr_in address(const char *name, const char *port) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
    struct sockaddr_in in;
    need(getaddrinfo(name, port, &hints, &found) == 0, name);
    memcpy(&in, found->ai_addr, sizeof in);
    freeaddrinfo(found);
    return in;
}

static int listener(void) {
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(LISTENER), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    need(bind(fd, (struct sockaddr *)&in, sizeof in) == 0 && listen(fd, 128) == 0, "listen");
    return fd;
}

static void pass(int from, int to) {
    char p[64] = "x";
    need(send(from, p, sizeof p, 0) == sizeof p && recv(to, p, sizeof p, MSG_WAITALL) == sizeof p, "pass");
}

static void connected(int ret_fd[2]) {
    struct sockaddr_in to = address("reviews.shop.mesh", "9080");
    int l = listener();
    ret_fd[0] = socket(AF_INET, SOCK_STREAM, 0);
    need(connect(ret_fd[0], (struct sockaddr *)&to, sizeof to) == 0, "connect");
    ret_fd[1] = accept(l, NULL, NULL);
    pass(ret_fd[0], ret_fd[1]);
    pass(ret_fd[1], ret_fd[0]);
}

static void record(int n) {
    int fd[2];
    connected(fd);
    while (n--)
        pass(fd[0], fd[1]);
}

static void control(int n) {
    int fd[2], ep = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN};
    connected(fd);
    need(epoll_ctl(ep, EPOLL_CTL_ADD, fd[0], &e) == 0, "epoll_ctl");
    while (n--) {
        e.events = n % 2 ? EPOLLIN : EPOLLIN | EPOLLOUT;
        need(epoll_ctl(ep, EPOLL_CTL_MOD, fd[0], &e) == 0, "epoll_ctl");
    }
}

static void resolve(int n) {
    while (n--)
        (void)address("reviews.shop.mesh", "9080");
}

static void dial(int n) {
    struct sockaddr_in to = address("plain.shop.mesh", "9080");
    int l = listener();
    while (n--) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        need(connect(fd, (struct sockaddr *)&to, sizeof to) == 0, "connect");
        int got = accept4(l, NULL, NULL, SOCK_NONBLOCK);
        close(fd);
        close(got);
    }
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(int);
    } table[] = {{"record", record}, {"control", control}, {"resolve", resolve}, {"connect", dial}};
    for (size_t i = 0; argc == 3 && i < sizeof table / sizeof *table; i++)
        if (strcmp(argv[1], table[i].name) == 0) {
            table[i].run(atoi(argv[2]));
            return 0;
        }
    fprintf(stderr, "counted record|control|resolve|connect N\n");
    return 2;
}
