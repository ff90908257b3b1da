/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/ctl/proc.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMESPACES_MAX = 64, SOCKETS_MAX = 1 << 20 };

static int error_of(int err) {
    return err == ENOENT || err == ESRCH ? MESH_E_NOTFOUND : MESH_E_IO;
}

static FILE *open_of(int pid, const char *what) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, what);
    return fopen(path, "re");
}

static bool link_of(int pid, const char *what, char *ret_text, size_t cap) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, what);
    ssize_t n = readlink(path, ret_text, cap - 1);
    ret_text[n > 0 ? n : 0] = 0;
    return n > 0;
}

/* ---- one process ------------------------------------------------------------------------------------------
 */
static int read_whole(FILE *f, char **ret_text, size_t *ret_n) {
    size_t cap = 1 << 16, n = 0, got;
    char *text = malloc(cap);
    while (text && (got = fread(text + n, 1, cap - n - 1, f)) > 0) {
        n += got;
        if (n >= MESH_CTL_ENVIRON_MAX) {
            free(text);
            return MESH_E_LIMIT;
        }
        if (n + 1 < cap)
            continue;
        char *more = realloc(text, cap *= 2);
        if (!more)
            free(text);
        text = more;
    }
    if (!text)
        return MESH_E_NOMEM;
    if (ferror(f)) {
        free(text);
        return MESH_E_IO;
    }
    text[n] = 0;
    *ret_text = text;
    *ret_n = n;
    return 0;
}

/* The vector and the text it points into, in one block. */
static int make_vector(const char *text, size_t n, char ***ret_envp) {
    size_t count = 1;
    for (size_t i = 0; i < n; i++)
        count += text[i] == 0;
    char **envp = malloc((count + 1) * sizeof *envp + n + 1);
    if (!envp)
        return MESH_E_NOMEM;
    char *copy = memcpy((char *)(envp + count + 1), text, n + 1);
    size_t k = 0;
    for (size_t at = 0; at < n; at += strlen(copy + at) + 1)
        envp[k++] = copy + at;
    envp[k] = NULL;
    *ret_envp = envp;
    return 0;
}

int mesh_ctl_proc_environ(int pid, char ***ret_envp, struct mesh_why *why) {
    FILE *f = open_of(pid, "environ");
    if (!f)
        return mesh_why(why, error_of(errno), "process %d: %s", pid, strerror(errno));
    char *text = NULL;
    size_t n = 0;
    int r = read_whole(f, &text, &n);
    fclose(f);
    if (r == 0)
        r = make_vector(text, n, ret_envp);
    if (r < 0)
        (void)mesh_why(why, r, "the environment of process %d: %s", pid, mesh_err_text(r));
    free(text);
    return r;
}

int mesh_ctl_proc_uid(int pid, uid_t *ret_uid) {
    char line[256];
    unsigned real, effective;
    FILE *f = open_of(pid, "status");
    int r = f ? MESH_E_IO : error_of(errno);
    while (f && r < 0 && fgets(line, sizeof line, f))
        if (sscanf(line, "Uid: %u %u", &real, &effective) == 2) {
            *ret_uid = effective;
            r = 0;
        }
    if (f)
        fclose(f);
    return r;
}

int mesh_ctl_proc_secure(int pid, bool *ret_secure) {
    Elf64_auxv_t aux;
    FILE *f = open_of(pid, "auxv");
    if (!f)
        return error_of(errno);
    int r = MESH_E_IO;
    while (r < 0 && fread(&aux, sizeof aux, 1, f) == 1)
        if (aux.a_type == AT_SECURE) {
            *ret_secure = aux.a_un.a_val != 0;
            r = 0;
        }
    fclose(f);
    return r;
}

int mesh_ctl_proc_program(int pid, char ret_name[MESH_CTL_PROGRAM_MAX]) {
    char path[4096];
    if (!link_of(pid, "exe", path, sizeof path))
        return error_of(errno);
    char *deleted = strstr(path, " (deleted)"), *slash = strrchr(path, '/');
    if (deleted)
        *deleted = 0;
    snprintf(ret_name, MESH_CTL_PROGRAM_MAX, "%.63s", slash ? slash + 1 : path);
    return 0;
}

/* A line of maps ends with the file's name, and with " (deleted)" when it was replaced since. */
static bool line_names(const char *line, const char *file) {
    const char *slash = strrchr(line, '/');
    size_t n = strlen(file);
    return slash && strncmp(slash + 1, file, n) == 0 && (slash[n + 1] == '\n' || slash[n + 1] == ' ');
}

int mesh_ctl_proc_has_mapped(int pid, const char *file, bool *ret_has) {
    FILE *f = open_of(pid, "maps");
    if (!f)
        return error_of(errno);
    char *line = NULL;
    size_t cap = 0;
    bool has = false;
    while (!has && getline(&line, &cap, f) > 0)
        has = line_names(line, file);
    int r = ferror(f) ? MESH_E_IO : 0;
    free(line);
    fclose(f);
    *ret_has = has;
    return r;
}

bool mesh_ctl_proc_same_files(int pid) {
    char ours[64], theirs[64];
    return link_of(getpid(), "ns/mnt", ours, sizeof ours) && link_of(pid, "ns/mnt", theirs, sizeof theirs) &&
           strcmp(ours, theirs) == 0;
}

int mesh_ctl_proc_each(bool (*fn)(void *arg, int pid), void *arg) {
    DIR *d = opendir("/proc");
    if (!d)
        return MESH_E_IO;
    struct dirent *e;
    bool more = true;
    while (more && (e = readdir(d)) != NULL) {
        char *end;
        long pid = strtol(e->d_name, &end, 10);
        if (pid > 0 && pid <= INT32_MAX && !*end)
            more = fn(arg, (int)pid);
    }
    closedir(d);
    return 0;
}

/* ---- sockets ----------------------------------------------------------------------------------------------
 */
struct namespace {
    char name[64]; /* net:[4026531840] */
    uint64_t *inodes;
    size_t n;
};

struct mesh_ctl_sockets {
    struct namespace spaces[NAMESPACES_MAX];
    size_t n;
};

int mesh_ctl_sockets_new(struct mesh_ctl_sockets **ret_s) {
    *ret_s = calloc(1, sizeof **ret_s);
    return *ret_s ? 0 : MESH_E_NOMEM;
}

void mesh_ctl_sockets_free(struct mesh_ctl_sockets *s) {
    for (size_t i = 0; s && i < s->n; i++)
        free(s->spaces[i].inodes);
    free(s);
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int add_inode(struct namespace *s, uint64_t inode) {
    if (s->n == SOCKETS_MAX)
        return MESH_E_LIMIT;
    if ((s->n & (s->n - 1)) == 0) { /* grows at powers of two */
        uint64_t *more = realloc(s->inodes, (s->n ? 2 * s->n : 1) * sizeof *more);
        if (!more)
            return MESH_E_NOMEM;
        s->inodes = more;
    }
    s->inodes[s->n++] = inode;
    return 0;
}

static int add_table(struct namespace *s, int pid, const char *table) {
    char line[512];
    unsigned long long inode;
    FILE *f = open_of(pid, table);
    int r = 0;
    while (f && r == 0 &&
           fgets(line, sizeof line, f)) /* sl local remote st queues timer retransmit uid timeout inode */
        if (sscanf(line, " %*d: %*s %*s %*s %*s %*s %*s %*d %*d %llu", &inode) == 1 && inode)
            r = add_inode(s, inode);
    if (f)
        fclose(f);
    return r;
}

static int namespace_of(struct mesh_ctl_sockets *all, int pid, struct namespace **ret_s) {
    static const char *const tables[] = {"net/tcp", "net/tcp6", "net/udp", "net/udp6"};
    char name[64];
    if (!link_of(pid, "ns/net", name, sizeof name))
        return error_of(errno);
    for (size_t i = 0; i < all->n; i++)
        if (strcmp(all->spaces[i].name, name) == 0) {
            *ret_s = &all->spaces[i];
            return 0;
        }
    if (all->n == NAMESPACES_MAX)
        return MESH_E_LIMIT;
    struct namespace *s = &all->spaces[all->n++];
    memcpy(s->name, name, sizeof name);
    for (size_t i = 0; i < 4; i++) {
        int r = add_table(s, pid, tables[i]);
        if (r < 0)
            return r;
    }
    if (s->n)
        qsort(s->inodes, s->n, sizeof *s->inodes, by_value);
    *ret_s = s;
    return 0;
}

static bool is_known(const struct namespace *s, const char *link) {
    unsigned long long inode;
    if (sscanf(link, "socket:[%llu]", &inode) != 1)
        return false;
    uint64_t key = inode;
    return s->n && bsearch(&key, s->inodes, s->n, sizeof *s->inodes, by_value);
}

int mesh_ctl_sockets_held(struct mesh_ctl_sockets *all, int pid, bool *ret_held) {
    struct namespace *s;
    char path[64], link[64];
    int r = namespace_of(all, pid, &s);
    if (r < 0)
        return r;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *d = opendir(path);
    if (!d)
        return error_of(errno);
    struct dirent *e;
    *ret_held = false;
    while (!*ret_held && (e = readdir(d)) != NULL) {
        ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof link - 1);
        link[n > 0 ? n : 0] = 0;
        *ret_held = is_known(s, link);
    }
    closedir(d);
    return 0;
}
