/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/base/trace_out.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include "shim/base/sys.h"
#include "shim/base/trace.h"

enum {
    READ_TRIES = 64,                           /* of a path that is being switched; then the line is lost */
    OPENED_MAX = MESH_TRACE_PATH_MAX + 8 * 16, /* expanded: at most 16 times %p */
    PID_TEXT = 10,
};

enum { PATH_WORDS = MESH_TRACE_PATH_MAX / sizeof(uint64_t) };

static struct {
    _Atomic uint32_t sequence;         /* odd while `path` is written */
    _Atomic uint64_t path[PATH_WORDS]; /* text; "": descriptor 2 */
} target;
_Static_assert(MESH_TRACE_PATH_MAX % sizeof(uint64_t) == 0, "the path is copied by words");

static struct {
    bool known;
    dev_t dev;
    ino_t ino;
} first_stderr; /* written once at load, before threads */

static _Atomic bool confined;

void mesh_trace_confine(void) {
    atomic_store(&confined, true);
}

pid_t mesh_trace_out_pid(void) {
    return mesh_sys_getpid();
}

void mesh_trace_remember_stderr(void) {
    struct stat st;
    first_stderr.known = mesh_sys_fstat(2, &st) == 0;
    first_stderr.dev = st.st_dev;
    first_stderr.ino = st.st_ino;
}

static bool is_first_stderr(void) {
    struct stat st;
    return first_stderr.known && mesh_sys_fstat(2, &st) == 0 && st.st_dev == first_stderr.dev &&
           st.st_ino == first_stderr.ino;
}

/* ---- the name ---------------------------------------------------------------------------------------------
 */
static size_t print_pid(char *ret_text, pid_t pid) {
    char digits[PID_TEXT];
    size_t at = PID_TEXT;
    unsigned left = (unsigned)pid;
    do
        digits[--at] = (char)('0' + left % 10);
    while (left /= 10);
    memcpy(ret_text, digits + at, PID_TEXT - at);
    return PID_TEXT - at;
}

/* %p becomes the process id. 0, or MESH_E_INVALID when it does not fit or another % is met. */
static int expand(const char *path, pid_t pid, char ret_text[OPENED_MAX]) {
    size_t n = 0;
    for (const char *p = path; *p; p++) {
        if (n + PID_TEXT + 1 > OPENED_MAX || (*p == '%' && p[1] != 'p' && p[1] != '%'))
            return MESH_E_INVALID;
        if (*p == '%' && *++p == 'p')
            n += print_pid(ret_text + n, pid);
        else
            ret_text[n++] = *p;
    }
    ret_text[n] = 0;
    return 0;
}

int mesh_trace_out_check(const char *path) {
    char text[OPENED_MAX];
    if (strlen(path) >= MESH_TRACE_PATH_MAX)
        return MESH_E_INVALID;
    return expand(path, INT32_MAX, text);
}

/* The program may change its directory later: a relative name is made absolute now. Percent signs of the
 * directory's own name are doubled. */
static int make_absolute(const char *path, char ret_path[MESH_TRACE_PATH_MAX]) {
    char cwd[MESH_TRACE_PATH_MAX];
    size_t n = 0, len = strlen(path);
    if (path[0] != '/') {
        if (mesh_sys3(SYS_getcwd, (long)cwd, sizeof cwd, 0) < 0)
            return MESH_E_INVALID;
        for (const char *p = cwd; *p && n + 3 < MESH_TRACE_PATH_MAX; p++) {
            if (*p == '%')
                ret_path[n++] = '%';
            ret_path[n++] = *p;
        }
        ret_path[n++] = '/';
    }
    if (n + len >= MESH_TRACE_PATH_MAX)
        return MESH_E_INVALID;
    memcpy(ret_path + n, path, len + 1);
    return 0;
}

int mesh_trace_out_file(const char *path) {
    char absolute[MESH_TRACE_PATH_MAX] = "";
    if (path && (mesh_trace_out_check(path) < 0 || make_absolute(path, absolute) < 0))
        return MESH_E_INVALID;
    uint32_t seq = atomic_load(&target.sequence);
    if ((seq & 1) || !atomic_compare_exchange_strong(&target.sequence, &seq, seq + 1))
        return MESH_E_INVALID; /* another thread is switching: one of the two wins */
    atomic_thread_fence(memory_order_release);
    for (int i = 0; i < PATH_WORDS; i++) {
        uint64_t word;
        memcpy(&word, absolute + i * sizeof word, sizeof word);
        atomic_store_explicit(&target.path[i], word, memory_order_relaxed);
    }
    atomic_store(&target.sequence, seq + 2);
    return 0;
}

/* A copy of the target's name that no switch has torn. */
static bool read_target(char ret_path[MESH_TRACE_PATH_MAX]) {
    for (int i = 0; i < READ_TRIES; i++) {
        uint32_t before = atomic_load(&target.sequence);
        for (int k = 0; k < PATH_WORDS; k++) {
            uint64_t word = atomic_load_explicit(&target.path[k], memory_order_relaxed);
            memcpy(ret_path + k * sizeof word, &word, sizeof word);
        }
        atomic_thread_fence(memory_order_acquire);
        if (!(before & 1) && before == atomic_load(&target.sequence))
            return true;
    }
    return false;
}

/* ---- the write --------------------------------------------------------------------------------------------
 */
static const uint64_t sigpipe = UINT64_C(1) << (SIGPIPE - 1);

/* Takes back the SIGPIPE of our own write: the program never wrote to that pipe and must not die of it. */
static void take_sigpipe(void) {
    struct timespec at_once = {0, 0};
    (void)mesh_sys6(SYS_rt_sigtimedwait, (long)&sigpipe, 0, (long)&at_once, sizeof sigpipe, 0, 0);
}

static void write_quietly(int fd, const char *line, size_t n) {
    uint64_t old, pending = 0;
    if (mesh_sys_sigprocmask(SIG_BLOCK, &sigpipe, &old) < 0)
        return;
    if (old & sigpipe)
        (void)mesh_sys3(SYS_rt_sigpending, (long)&pending, sizeof pending, 0);
    if (mesh_sys_write(fd, line, n) == -EPIPE && !(pending & sigpipe))
        take_sigpipe();
    (void)mesh_sys_sigprocmask(SIG_SETMASK, &old, NULL);
}

/* A pipe that nobody empties must not stop the program. */
static bool takes_a_line(int fd) {
    struct pollfd p = {fd, POLLOUT, 0};
    return mesh_sys_poll(&p, 1, 0) == 1 && p.revents == POLLOUT;
}

static void write_file(const char *path, const char *line, size_t n) {
    char name[OPENED_MAX];
    if (expand(path, mesh_trace_out_pid(), name) < 0)
        return;
    int fd = mesh_sys_open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
    if (fd < 0)
        return;
    write_quietly(fd, line, n);
    mesh_sys_close(fd);
}

void mesh_trace_out_write(const char *line, size_t n) {
    char path[MESH_TRACE_PATH_MAX];
    if (atomic_load(&confined) || !read_target(path))
        return;
    if (path[0])
        write_file(path, line, n);
    else if (is_first_stderr() && takes_a_line(2))
        write_quietly(2, line, n);
}
