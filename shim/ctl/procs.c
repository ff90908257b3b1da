/* SPDX-License-Identifier: Apache-2.0
 *
 * meshctl check --procs: who has an internet socket and not the library, and why.
 */
#include "shim/ctl/procs.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "shim/ctl/ctl.h"
#include "shim/ctl/elf.h"
#include "shim/ctl/proc.h"

enum { FOUND_MAX = 4096 };

static const char library[] = "libmeshshim.so";

static const struct {
    const char *word, *text;
} reasons[] = {
    [MESH_CTL_STATIC] = {"static", "linked statically: nothing can be preloaded; link it dynamically"},
    [MESH_CTL_GO] =
        {"go",
         "a Go program dials by itself; build it with cgo and the system's resolver, or leave it outside"},
    [MESH_CTL_SECURE] = {"secure-exec",
                         "setuid or file capabilities: the loader drops LD_PRELOAD; use /etc/ld.so.preload"},
    [MESH_CTL_OTHER_LIBC] = {"other libc", "its loader is not glibc's; use an image with glibc"},
    [MESH_CTL_OTHER_CLASS] = {"other class", "32-bit, or of another machine: the library does not fit"},
    [MESH_CTL_NOT_LOADED] = {"not loaded",
                             "LD_PRELOAD names the library, but the loader could not use that file"},
    [MESH_CTL_STARTED_WITHOUT] =
        {"started without", "its environment has no LD_PRELOAD with the library; start it anew with it"},
    [MESH_CTL_UNKNOWN] = {"unknown", "it cannot be examined; run meshctl as root"},
};

enum mesh_ctl_reason mesh_ctl_reason_judge(const struct mesh_ctl_elf *e, bool secure, bool preloaded) {
    if (!e->same_class)
        return MESH_CTL_OTHER_CLASS;
    if (!e->interp[0])
        return e->go ? MESH_CTL_GO : MESH_CTL_STATIC;
    if (!mesh_ctl_interp_is_glibc(e->interp))
        return MESH_CTL_OTHER_LIBC;
    if (secure)
        return MESH_CTL_SECURE;
    return preloaded ? MESH_CTL_NOT_LOADED : MESH_CTL_STARTED_WITHOUT;
}

const char *mesh_ctl_reason_word(enum mesh_ctl_reason r) {
    return reasons[r].word;
}

/* ---- one process ------------------------------------------------------------------------------------------
 */
static bool is_preloaded(int pid) {
    char **envp;
    struct mesh_why why;
    bool has = false;
    if (mesh_ctl_proc_environ(pid, &envp, &why) < 0)
        return false;
    for (char **e = envp; *e && !has; e++)
        has = strncmp(*e, "LD_PRELOAD=", 11) == 0 && strstr(*e, library);
    free(envp);
    return has;
}

static enum mesh_ctl_reason reason_of(int pid) {
    char path[64];
    struct mesh_ctl_elf elf;
    bool secure = false;
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int r = fd < 0 ? MESH_E_IO : mesh_ctl_elf_read(mesh_ctl_read_fd, &fd, &elf);
    if (fd >= 0)
        close(fd);
    if (r < 0 || mesh_ctl_proc_secure(pid, &secure) < 0)
        return MESH_CTL_UNKNOWN;
    return mesh_ctl_reason_judge(&elf, secure, is_preloaded(pid));
}

struct escaped {
    int pid;
    enum mesh_ctl_reason why;
    char program[MESH_CTL_PROGRAM_MAX];
};

struct scan {
    struct mesh_ctl_sockets *sockets;
    struct escaped *found;
    size_t n, hidden; /* processes that are not ours to see */
};

/* 1: it has a socket and not the library; 0: it is fine, gone, or a kernel thread. */
static int escapes(struct scan *s, int pid, char program[MESH_CTL_PROGRAM_MAX]) {
    bool held = false, mapped = false;
    int r = mesh_ctl_proc_program(pid, program);
    if (r == 0)
        r = mesh_ctl_sockets_held(s->sockets, pid, &held);
    if (r == 0 && held)
        r = mesh_ctl_proc_has_mapped(pid, library, &mapped);
    if (r < 0)
        return r == MESH_E_NOTFOUND ? 0 : r;
    return held && !mapped;
}

static bool look_at(void *arg, int pid) {
    struct scan *s = arg;
    char program[MESH_CTL_PROGRAM_MAX];
    if (pid == getpid())
        return true;
    int r = escapes(s, pid, program);
    s->hidden += r < 0;
    if (r <= 0)
        return true;
    struct escaped *e = &s->found[s->n++];
    e->pid = pid;
    e->why = reason_of(pid);
    memcpy(e->program, program, sizeof e->program);
    return s->n < FOUND_MAX;
}

/* ---- all of them ------------------------------------------------------------------------------------------
 */
static int print_structured(const struct scan *s, bool yaml, int status) {
    struct mesh_ctl_out o;
    mesh_ctl_out_init(&o, stdout, yaml);
    mesh_ctl_list_begin(&o, "processes");
    for (size_t i = 0; i < s->n; i++) {
        mesh_ctl_map_begin(&o, NULL);
        mesh_ctl_int(&o, "pid", s->found[i].pid);
        mesh_ctl_str(&o, "program", s->found[i].program);
        mesh_ctl_str(&o, "why", reasons[s->found[i].why].word);
        mesh_ctl_str(&o, "text", reasons[s->found[i].why].text);
        mesh_ctl_end(&o);
    }
    mesh_ctl_end(&o);
    mesh_ctl_int(&o, "not_examined", (int64_t)s->hidden);
    return mesh_ctl_finish(&o, status);
}

static void print_text(const struct scan *s) {
    for (size_t i = 0; i < s->n; i++)
        printf("%d %s: %s: %s\n", s->found[i].pid, s->found[i].program, reasons[s->found[i].why].word,
               reasons[s->found[i].why].text);
    if (s->hidden)
        printf("%zu more could not be examined%s\n", s->hidden, geteuid() ? ": run meshctl as root" : "");
    else if (!s->n)
        printf("every process with an internet socket has the library\n");
}

static int look_at_all(struct mesh_ctl *c, struct scan *s) {
    if (c->args.pid) {
        look_at(s, c->args.pid);
        return 0;
    }
    return mesh_ctl_proc_each(look_at, s);
}

int mesh_ctl_check_procs(struct mesh_ctl *c) {
    struct scan s = {.found = calloc(FOUND_MAX, sizeof *s.found)};
    int r = s.found ? mesh_ctl_sockets_new(&s.sockets) : MESH_E_NOMEM;
    if (r == 0)
        r = look_at_all(c, &s);
    int status = r < 0 || s.n ? MESH_CTL_NO : MESH_CTL_YES;
    if (r < 0)
        mesh_ctl_complain("/proc: %s", mesh_err_text(r));
    else if (c->args.format == MESH_CTL_TEXT)
        print_text(&s);
    else
        status = print_structured(&s, c->args.format == MESH_CTL_YAML, status);
    mesh_ctl_sockets_free(s.sockets);
    free(s.found);
    return status;
}
