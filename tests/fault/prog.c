/* SPDX-License-Identifier: Apache-2.0
 *
 * prog PORT: one program that is client and server of a mesh and asks for everything once, then once more: a
 * name, a listener, a connection to the name that a thread serves, bytes both ways, the connection handed to
 * a program by exec. In the first round anything may fail with an errno that says so; after that nothing is
 * refused, and it must work within the seconds after which the library looks at its files again. One line a
 * failure is printed: `round N: STEP: ERRNO`. All of it runs on stacks of 128 KiB; `stack N` is what was used
 * of the client's. Exit status 0: as it should be, 1: not.
 */
#include "tests/fault/fault.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME "reviews.shop.mesh"
#define MARK "PLAIN-TEXT-MARK!"
enum { BYTES = 40000, STACK = 128 << 10, PAINT = 0xa5 };

static int round_;

static bool failed(const char *step, const char *what) {
    char text[160];
    int n = snprintf(text, sizeof text, "round %d: %s: %s\n", round_, step, what);
    (void)!write(1, text, (size_t)n);
    return false;
}
static bool failed_errno(const char *step) {
    return failed(step, strerrorname_np(errno) ? strerrorname_np(errno) : "no errno");
}

static void fill(char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        p[i] = MARK[i % (sizeof MARK - 1)];
}
static bool right(const char *p, size_t n, size_t off) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != MARK[(off + i) % (sizeof MARK - 1)])
            return false;
    return true;
}

static bool send_all(int fd, const char *p, size_t n) {
    while (n) {
        ssize_t r = send(fd, p, n, MSG_NOSIGNAL);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return false;
        p += r, n -= (size_t)r;
    }
    return true;
}

/* n bytes of the pattern. errno is 0 where what came is wrong or too little: that is never right. */
static bool recv_all(int fd, size_t n) {
    char buf[4096];
    for (size_t at = 0; at < n;) {
        ssize_t r = recv(fd, buf, n - at < sizeof buf ? n - at : sizeof buf, 0);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return false;
        if (r == 0 || !right(buf, (size_t)r, at)) {
            errno = r ? EBADMSG : ECONNRESET;
            return false;
        }
        at += (size_t)r;
    }
    return true;
}

/* The server: what comes goes back. A connection that fails is the client's to report. */
static void *serve(void *arg) {
    int fd, ls = *(int *)arg;
    while ((fd = accept(ls, NULL, NULL)) >= 0) {
        char buf[8192];
        ssize_t r;
        while ((r = recv(fd, buf, sizeof buf, 0)) > 0)
            if (!send_all(fd, buf, (size_t)r))
                break;
        close(fd);
    }
    return NULL;
}

static bool resolve(struct sockaddr_in *ret, const char *port) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *list = NULL;
    int e = getaddrinfo(NAME, port, &hints, &list);
    if (e) {
        failed("getaddrinfo", e == EAI_MEMORY   ? "EAI_MEMORY"
                              : e == EAI_AGAIN  ? "EAI_AGAIN"
                              : e == EAI_SYSTEM ? strerrorname_np(errno)
                              : e == EAI_FAIL   ? "EAI_FAIL"
                                                : "EAI_NONAME");
        return false;
    }
    memcpy(ret, list->ai_addr, sizeof *ret);
    freeaddrinfo(list);
    return true;
}

/* The connection is standard input of a program that reads one byte of it. */
static bool cross(int fd, char *program) {
    pid_t pid = fork();
    if (pid < 0)
        return failed_errno("fork");
    if (pid == 0) {
        dup2(fd, 0);
        close(fd);
        execl(program, program, "child", (char *)NULL);
        _exit(errno & 127);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        return failed("exec", "ended by a signal");
    if (status)
        return failed("exec",
                      strerrorname_np(WEXITSTATUS(status)) ? strerrorname_np(WEXITSTATUS(status)) : "?");
    return true;
}

static int child(void) {
    char c;
    ssize_t r = recv(0, &c, 1, 0);
    return r == 1 && c == MARK[0] ? 0 : r < 0 ? errno : ECONNRESET;
}

static bool talk(int fd, char *program) {
    static char out[BYTES];
    fill(out, sizeof out);
    if (!send_all(fd, out, sizeof out))
        return failed_errno("send");
    if (!recv_all(fd, sizeof out))
        return failed_errno("recv");
    if (!send_all(fd, out, 1))
        return failed_errno("send");
    return cross(fd, program);
}

static bool round_of(const char *to_port, char *program) {
    struct sockaddr_in to;
    if (!resolve(&to, to_port))
        return false;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval limit = {10, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (fd < 0)
        return failed_errno("socket");
    bool good =
        connect(fd, (struct sockaddr *)&to, sizeof to) == 0 ? talk(fd, program) : failed_errno("connect");
    if (close(fd))
        good = failed_errno("close");
    return good;
}

static void refuse_no_more(void) {
    const char *file = getenv("FAULT_PAGE");
    int fd = file ? open(file, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    struct fault_page *p = mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    __atomic_store_n(&p->at, 0, __ATOMIC_RELAXED);
    munmap(p, sizeof *p);
}

/* A thread with STACK bytes of stack, painted, of which *ret_stack is the lower end. */
static bool small_thread(pthread_t *ret, void *(*run)(void *), void *arg, unsigned char **ret_stack) {
    pthread_attr_t attr;
    void *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED || mprotect(stack, 4096, PROT_NONE))
        return false;
    *ret_stack = (unsigned char *)stack + 4096;
    memset(*ret_stack, PAINT, STACK - 4096);
    pthread_attr_init(&attr);
    return pthread_attr_setstack(&attr, stack, STACK) == 0 && pthread_create(ret, &attr, run, arg) == 0;
}

static int used_of(const unsigned char *stack) {
    int n = 0;
    while (n < STACK - 4096 && stack[n] == PAINT)
        n++;
    return STACK - 4096 - n;
}

static char *self, *port;

static bool listens(int *ret_fd) {
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(port)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int ls = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    *ret_fd = ls;
    if (bind(ls, (struct sockaddr *)&at, sizeof at))
        return failed_errno("bind");
    return listen(ls, 16) == 0 || (failed_errno("listen"), listen(ls, 16) == 0);
}

static void *whole(void *arg) {
    static int ls;
    pthread_t t;
    unsigned char *stack;
    if (!listens(&ls) || !small_thread(&t, serve, &ls, &stack))
        return "listen";
    round_ = 1;
    (void)round_of(port, self);
    refuse_no_more();
    for (round_ = 2; round_ < 12; round_++) {
        if (round_of(port, self))
            return NULL;
        usleep(700000);
    }
    return arg;
}

int main(int argc, char **argv) {
    pthread_t t;
    unsigned char *stack;
    void *wrong;
    if (argc < 2)
        return 2;
    if (strcmp(argv[1], "child") == 0)
        return child();
    self = argv[0];
    port = argv[1];
    if (!small_thread(&t, whole, "round", &stack) || pthread_join(t, &wrong))
        return 1;
    printf("stack %d\n", used_of(stack));
    return wrong != NULL;
}
