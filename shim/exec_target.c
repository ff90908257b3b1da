/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/exec_target.h"

#include <elf.h>
#include <limits.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "shim/base/sys.h"
#include "shim/preload.h"

enum {
    HEAD = 256,       /* what the kernel looks at to find an interpreter */
    SCRIPTS_DEEP = 4, /* as the kernel */
    HEADERS_MAX = 64,
    LIST_MAX = 1024, /* bytes of /etc/ld.so.preload that are read */
};

const char *mesh_target_text(enum mesh_exec_target t) {
    switch (t) {
    case MESH_TARGET_SHIM:
        return "shim";
    case MESH_TARGET_MISSING:
        return "missing";
    case MESH_TARGET_UNREADABLE:
        return "unreadable";
    case MESH_TARGET_STATIC:
        return "static";
    case MESH_TARGET_OTHER_LIBC:
        return "other-libc";
    case MESH_TARGET_PRIVILEGED:
        return "privileged";
    case MESH_TARGET_NO_PRELOAD:
        return "no-preload";
    case MESH_TARGET_OFF:
        return "off";
    case MESH_TARGET_NO_LIBRARY:
        return "no-library";
    }
    return "";
}

/* ---- the environment ---- */

const char *mesh_target_variable(char *const *envp, const char *name) {
    size_t n = strlen(name);
    for (; envp && *envp; envp++)
        if (strncmp(*envp, name, n) == 0 && (*envp)[n] == '=')
            return *envp + n + 1;
    return NULL;
}

static const char *base_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool readable(const char *path) {
    int fd = mesh_sys_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
    if (fd >= 0)
        (void)mesh_sys_close(fd);
    return fd >= 0;
}

/* Does a list as LD_PRELOAD is one name our library? */
static enum mesh_exec_target named_in(const char *list) {
    const char *own = mesh_preload_path();
    size_t own_base = strlen(base_of(own));
    while (list && *list) {
        size_t n = strcspn(list, ": \t\n");
        char path[PATH_MAX / 4];
        if (n >= own_base && n < sizeof path && memcmp(list + n - own_base, base_of(own), own_base) == 0 &&
            (n == own_base || list[n - own_base - 1] == '/')) {
            memcpy(path, list, n);
            path[n] = 0;
            return readable(n == own_base ? own : path) ? MESH_TARGET_SHIM : MESH_TARGET_NO_LIBRARY;
        }
        list += n + (list[n] != 0);
    }
    return MESH_TARGET_NO_PRELOAD;
}

static enum mesh_exec_target named_by_system(void) {
    char list[LIST_MAX];
    int fd = mesh_sys_open("/etc/ld.so.preload", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return MESH_TARGET_NO_PRELOAD;
    ssize_t n = mesh_sys_read(fd, list, sizeof list - 1);
    (void)mesh_sys_close(fd);
    list[n > 0 ? n : 0] = 0;
    return named_in(list);
}

static enum mesh_exec_target judge_environment(char *const *envp, bool restored) {
    const char *off = mesh_target_variable(envp, "MESH_OFF");
    if (off && *off && strcmp(off, "0") != 0)
        return MESH_TARGET_OFF;
    if (restored)
        return readable(mesh_preload_path()) ? MESH_TARGET_SHIM : MESH_TARGET_NO_LIBRARY;
    enum mesh_exec_target t = named_in(mesh_target_variable(envp, "LD_PRELOAD"));
    return t == MESH_TARGET_NO_PRELOAD ? named_by_system() : t;
}

/* ---- the file ---- */

/* Our own loader, as the main program names it. */
static const char *own_loader(void) {
    const ElfW(Phdr) *h = (const ElfW(Phdr) *)getauxval(AT_PHDR);
    unsigned long n = getauxval(AT_PHNUM);
    ElfW(Addr) base = 0;
    for (unsigned long i = 0; h && i < n; i++)
        if (h[i].p_type == PT_PHDR)
            base = (ElfW(Addr))h - h[i].p_vaddr;
    for (unsigned long i = 0; h && i < n; i++)
        if (h[i].p_type == PT_INTERP)
            return (const char *)(base + h[i].p_vaddr);
#if defined(__x86_64__)
    return "/lib64/ld-linux-x86-64.so.2";
#else
    return "/lib/ld-linux-aarch64.so.1";
#endif
}

static bool has_capabilities(int fd) {
    char value[64];
    return mesh_sys6(SYS_fgetxattr, fd, (long)"security.capability", (long)value, sizeof value, 0, 0) > 0;
}

/* Would the loader ignore LD_PRELOAD (AT_SECURE)? For root the kernel grants nothing by capabilities of a
 * file. */
static bool privileged(int fd, const struct stat *st) {
    uid_t uid = mesh_sys_getuid();
    gid_t gid = (gid_t)mesh_sys3(SYS_getgid, 0, 0, 0);
    if (uid != mesh_sys_geteuid() || gid != (gid_t)mesh_sys3(SYS_getegid, 0, 0, 0))
        return true;
    if ((st->st_mode & S_ISUID && st->st_uid != uid) || (st->st_mode & S_ISGID && st->st_gid != gid))
        return true;
    return uid != 0 && has_capabilities(fd);
}

static enum mesh_exec_target judge_elf(int fd, const uint8_t *head, size_t n) {
    ElfW(Ehdr) e;
    if (n < sizeof e)
        return MESH_TARGET_UNREADABLE;
    memcpy(&e, head, sizeof e);
#if defined(__x86_64__)
    const ElfW(Half) machine = EM_X86_64;
#else
    const ElfW(Half) machine = EM_AARCH64;
#endif
    if (e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_machine != machine || e.e_phentsize != sizeof(ElfW(Phdr)))
        return MESH_TARGET_OTHER_LIBC;
    for (unsigned i = 0; i < e.e_phnum && i < HEADERS_MAX; i++) {
        ElfW(Phdr) h;
        char loader[HEAD];
        if (mesh_sys_pread(fd, &h, sizeof h, (off_t)(e.e_phoff + i * sizeof h)) != sizeof h)
            return MESH_TARGET_UNREADABLE;
        if (h.p_type != PT_INTERP)
            continue;
        size_t len = h.p_filesz < sizeof loader ? h.p_filesz : sizeof loader;
        if (mesh_sys_pread(fd, loader, len, (off_t)h.p_offset) != (ssize_t)len || len == 0 || loader[len - 1])
            return MESH_TARGET_UNREADABLE;
        return strcmp(loader, own_loader()) == 0 ? MESH_TARGET_SHIM : MESH_TARGET_OTHER_LIBC;
    }
    return MESH_TARGET_STATIC;
}

static enum mesh_exec_target judge_path(int dir, const char *path, int flags, int deep);

/* `head` is a script's first line, or what is no program at all: libc gives that to /bin/sh. */
static enum mesh_exec_target judge_script(char *head, size_t n, int deep) {
    if (n < 2 || head[0] != '#' || head[1] != '!')
        return judge_path(AT_FDCWD, "/bin/sh", 0, deep + 1);
    head[n] = 0;
    char *name = head + 2 + strspn(head + 2, " \t");
    name[strcspn(name, " \t\n")] = 0;
    return judge_path(AT_FDCWD, name, 0, deep + 1);
}

static enum mesh_exec_target judge_open(int fd, int deep) {
    struct stat st;
    char head[HEAD + 1];
    if (mesh_sys_fstat(fd, &st) || !S_ISREG(st.st_mode))
        return MESH_TARGET_MISSING;
    if (privileged(fd, &st))
        return MESH_TARGET_PRIVILEGED;
    ssize_t n = mesh_sys_pread(fd, head, HEAD, 0);
    if (n < 0)
        return MESH_TARGET_UNREADABLE;
    if (n >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0)
        return judge_elf(fd, (uint8_t *)head, (size_t)n);
    return judge_script(head, (size_t)n, deep);
}

static enum mesh_exec_target judge_path(int dir, const char *path, int flags, int deep) {
    if (deep > SCRIPTS_DEEP)
        return MESH_TARGET_UNREADABLE;
    if (flags & AT_EMPTY_PATH && !*path)
        return judge_open(dir, deep);
    int fd = mesh_sys_openat(dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0)
        return fd == -ENOENT || fd == -ENOTDIR ? MESH_TARGET_MISSING : MESH_TARGET_UNREADABLE;
    enum mesh_exec_target t = judge_open(fd, deep);
    (void)mesh_sys_close(fd);
    return t;
}

/* As execvp goes through PATH: the first that may be executed. */
static enum mesh_exec_target judge_searched(const char *name) {
    char path[PATH_MAX / 2];
    const char *list = mesh_target_variable(environ, "PATH");
    size_t len = strlen(name);
    if (!list)
        list = "/bin:/usr/bin";
    for (;; list++) {
        size_t n = strcspn(list, ":");
        if (n + len + 2 <= sizeof path) {
            memcpy(path, list, n);
            path[n] = '/';
            memcpy(path + n + (n != 0), name, len + 1);
            struct stat st;
            if (mesh_sys_stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
                mesh_sys3(SYS_faccessat, AT_FDCWD, (long)path, 1 /* X_OK */) == 0)
                return judge_path(AT_FDCWD, path, 0, 0);
        }
        list += n;
        if (!*list)
            return MESH_TARGET_MISSING;
    }
}

enum mesh_exec_target mesh_target_judge(const struct mesh_program *p, char *const *envp, bool restored) {
    if (!p->path)
        return MESH_TARGET_MISSING;
    enum mesh_exec_target t = p->search && *p->path && !strchr(p->path, '/')
                                  ? judge_searched(p->path)
                                  : judge_path(p->dir, p->path, p->flags, 0);
    return t == MESH_TARGET_SHIM ? judge_environment(envp, restored) : t;
}
