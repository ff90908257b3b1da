/* SPDX-License-Identifier: Apache-2.0
 *
 * supervise KIND AT MANY PAGE PROGRAM...: runs PROGRAM with the injector's variables set and answers the
 * system calls that its filter sends here: refused or let through. The exit status is the program's (128 + N:
 * ended by signal N); on standard output `seen N given N`.
 */
#include "tests/fault/fault.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const kinds[] = {
    [FAULT_NONE] = "none",     [FAULT_MEMORY] = "memory",         [FAULT_EVERY] = "every",
    [FAULT_THREAD] = "thread", [FAULT_DESCRIPTOR] = "descriptor", [FAULT_MAP] = "map",
    [FAULT_DISK] = "disk"};

static struct fault_page *page_new(const char *file, char **argv) {
    int fd = open(file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(struct fault_page)))
        return NULL;
    struct fault_page *p = mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        return NULL;
    for (unsigned k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        if (strcmp(kinds[k], argv[0]) == 0)
            p->kind = k;
    p->at = strtoull(argv[1], NULL, 10);
    p->many = (uint32_t)strtoul(argv[2], NULL, 10);
    return p;
}

static int listener_take(int from) {
    char control[CMSG_SPACE(sizeof(int))], byte;
    struct iovec iov = {&byte, 1};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int fd = -1;
    if (recvmsg(from, &m, MSG_CMSG_CLOEXEC) > 0 && CMSG_FIRSTHDR(&m))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

static int error_of(const struct fault_page *p, const struct seccomp_data *d) {
    if (d->nr == SYS_fcntl && d->args[1] != F_DUPFD && d->args[1] != F_DUPFD_CLOEXEC)
        return 0;
    for (const struct fault_call *c = fault_calls; c->nr >= 0; c++)
        if (c->nr == d->nr && (uint32_t)c->kind == p->kind)
            return c->error;
    return 0;
}

static void answer(struct fault_page *p, int listener) {
    struct seccomp_notif ask = {0};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &ask))
        return;
    int error = error_of(p, &ask.data);
    struct seccomp_notif_resp say = {.id = ask.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    if (error && fault_now(p)) {
        say.flags = 0;
        say.error = -error;
        if (getenv("FAULT_VERBOSE"))
            fprintf(stderr, "# refused call %d at %#llx\n", ask.data.nr,
                    (unsigned long long)ask.data.instruction_pointer);
    }
    (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &say);
}

static void run(char **argv, int to, const char *file) {
    char text[16];
    snprintf(text, sizeof text, "%d", to);
    setenv("FAULT_LISTENER", text, 1);
    setenv("FAULT_PAGE", file, 1);
    personality(ADDR_NO_RANDOMIZE); /* children have the library where the filter looks for it */
    char *preload = getenv("FAULT_PRELOAD");
    if (preload)
        setenv("LD_PRELOAD", preload, 1);
    execvp(argv[0], argv);
    _exit(127);
}

int main(int argc, char **argv) {
    int pair[2], listener = -1, status;
    struct fault_page *p = argc > 5 ? page_new(argv[4], argv + 1) : NULL;
    if (!p || p->kind == FAULT_NONE || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return 2;
    pid_t pid = fork();
    if (pid == 0) {
        fcntl(pair[1], F_SETFD, 0);
        run(argv + 5, pair[1], argv[4]);
    }
    close(pair[1]);
    pid_t ended;
    while ((ended = waitpid(pid, &status, WNOHANG)) == 0) {
        struct pollfd fds[2] = {{listener < 0 ? pair[0] : -1, POLLIN, 0}, {listener, POLLIN, 0}};
        if (poll(fds, 2, 5) <= 0)
            continue;
        if (fds[0].revents & POLLIN)
            listener = listener_take(pair[0]);
        else if (fds[0].revents)
            usleep(1000);
        if (fds[1].revents & POLLIN)
            answer(p, listener);
        else if (fds[1].revents)
            usleep(1000);
    }
    printf("seen %llu given %llu\n", (unsigned long long)p->seen, (unsigned long long)p->given);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
