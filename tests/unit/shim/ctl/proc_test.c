/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "shim/ctl/proc.h"

/* A child with an environment of its own that waits until its standard input ends. */
static int start_child(int *ret_in) {
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    int pid = fork();
    if (pid == 0) {
        dup2(fds[0], 0);
        close(fds[0]);
        close(fds[1]);
        execle("/bin/cat", "cat", (char *)NULL, (char *[]){"MESH_VIEW=/their/view", "EMPTY=", NULL});
        _exit(1);
    }
    close(fds[0]);
    *ret_in = fds[1];
    char name[MESH_CTL_PROGRAM_MAX] = "";
    for (int i = 0; i < 500 && strcmp(name, "cat") != 0; i++) {
        usleep(10000);
        cr_assert_eq(mesh_ctl_proc_program(pid, name), 0);
    }
    cr_assert_str_eq(name, "cat");
    return pid;
}

static void end_child(int pid, int in) {
    close(in);
    waitpid(pid, NULL, 0);
}

Test(proc, environment_of_a_child_is_its_own) {
    int in, pid = start_child(&in);
    char **envp;
    struct mesh_why why = {""};
    cr_assert_eq(mesh_ctl_proc_environ(pid, &envp, &why), 0);
    cr_assert_str_eq(envp[0], "MESH_VIEW=/their/view");
    cr_assert_str_eq(envp[1], "EMPTY=");
    cr_assert_null(envp[2]);
    free(envp);
    end_child(pid, in);
}

Test(proc, user_and_security_are_read) {
    int in, pid = start_child(&in);
    uid_t uid = 99;
    bool secure = true;
    cr_assert_eq(mesh_ctl_proc_uid(pid, &uid), 0);
    cr_assert_eq(uid, geteuid());
    cr_assert_eq(mesh_ctl_proc_secure(pid, &secure), 0);
    cr_assert_not(secure);
    cr_assert(mesh_ctl_proc_same_files(pid));
    end_child(pid, in);
}

Test(proc, mapped_files_go_by_their_whole_name) {
    bool has = false;
    cr_assert_eq(mesh_ctl_proc_has_mapped(getpid(), "libc.so.6", &has), 0);
    cr_assert(has);
    cr_assert_eq(mesh_ctl_proc_has_mapped(getpid(), "libc.so", &has), 0);
    cr_assert_not(has);
}

Test(proc, ended_process_is_not_found) {
    int in, pid = start_child(&in);
    end_child(pid, in);
    char **envp, name[MESH_CTL_PROGRAM_MAX];
    struct mesh_why why = {""};
    uid_t uid;
    bool yes;
    cr_assert_eq(mesh_ctl_proc_environ(pid, &envp, &why), MESH_E_NOTFOUND);
    cr_assert(strstr(why.text, "process"));
    cr_assert_eq(mesh_ctl_proc_uid(pid, &uid), MESH_E_NOTFOUND);
    cr_assert_eq(mesh_ctl_proc_secure(pid, &yes), MESH_E_NOTFOUND);
    cr_assert_eq(mesh_ctl_proc_program(pid, name), MESH_E_NOTFOUND);
    cr_assert_eq(mesh_ctl_proc_has_mapped(pid, "x", &yes), MESH_E_NOTFOUND);
    cr_assert_not(mesh_ctl_proc_same_files(pid));
}

static bool note_pid(void *arg, int pid) {
    *(bool *)arg = *(bool *)arg || pid == getpid();
    return true;
}

Test(proc, each_process_is_visited) {
    bool seen = false;
    cr_assert_eq(mesh_ctl_proc_each(note_pid, &seen), 0);
    cr_assert(seen);
}

static bool holds_internet_socket(void) {
    struct mesh_ctl_sockets *s;
    bool held = true;
    cr_assert_eq(mesh_ctl_sockets_new(&s), 0);
    cr_assert_eq(mesh_ctl_sockets_held(s, getpid(), &held), 0);
    mesh_ctl_sockets_free(s);
    return held;
}

Test(sockets, listener_counts_and_unix_socket_does_not) {
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    cr_assert_not(holds_internet_socket());
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    cr_assert_eq(bind(fd, (struct sockaddr *)&any, sizeof any), 0);
    cr_assert_eq(listen(fd, 1), 0);
    cr_assert(holds_internet_socket());
    close(fd);
    cr_assert_not(holds_internet_socket());
}
