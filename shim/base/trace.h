/* SPDX-License-Identifier: Apache-2.0
 *
 * MESH_TRACE: logfmt, one event a line, one write(2) a line, to the file of MESH_TRACE or to descriptor 2 as
 * it was at load (INTERFACE.md, "MESH_TRACE"). A line is built on the caller's stack (1 KiB) and cut when it
 * does not fit; nothing allocates, nothing locks. Key material and payload are never passed in.
 *
 * A refusal (event `refused`, always with why=) is besides counted, and at most once a second for the same (why, subject)
 * printed and handed to the sink that keeps it for `meshctl why` (to the sink whatever the level is); repeat=N says how
 * many like it were left out since the last one.
 *
 *     struct mesh_line l;
 *     if (mesh_trace_on(MESH_TRACE_INFO)) {
 *         mesh_line_begin(&l, MESH_TRACE_INFO, "connected");
 *         mesh_line_int(&l, "fd", fd);
 *         mesh_line_str(&l, "peer", id);       // quoted when it has spaces, quotes or control characters
 *         mesh_line_end(&l);
 *     }
 *
 * errno is kept. Threads: any, signal-safe.
 */
#ifndef MESH_BASE_TRACE_H
#define MESH_BASE_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "shim/base/err.h"

enum mesh_trace_level { MESH_TRACE_OFF, MESH_TRACE_ERROR, MESH_TRACE_INFO, MESH_TRACE_DEBUG, MESH_TRACE_TRACE };

extern _Atomic int mesh_trace_level_; /* current level of this process */
static inline bool mesh_trace_on(enum mesh_trace_level level) {
    return (int)level <= __atomic_load_n((int *)&mesh_trace_level_, __ATOMIC_RELAXED);
}

enum { MESH_TRACE_PATH_MAX = 512 };

/* Parses `error|info|debug|trace[:FILE]` (`%p` in FILE is the process id, `%%` a percent sign) and switches to it;
 * NULL, "" and `off` are off. A relative FILE is taken from the present directory. The file is opened for each line
 * (O_APPEND|O_CREAT|O_CLOEXEC|O_NONBLOCK, mode 0600): no descriptor is kept.
 * Returns 0, or MESH_E_INVALID and leaves everything as it was. */
int mesh_trace_set(const char *spec) MESH_MUST_CHECK;
/* The same check without the switch. */
int mesh_trace_check(const char *spec) MESH_MUST_CHECK;

/* Remembers which file descriptor 2 is now (st_dev, st_ino); called once at load, before mesh_env_start. Lines to a 2
 * that was never remembered, or is another file by then, are dropped. So is a line that a full pipe would block on. */
void mesh_trace_remember_stderr(void);

/* A seccomp filter is being installed (DESIGN D12): from now on nothing is printed, as that takes system calls that the
 * filter may punish by death. Refusals are still counted and handed to the sink. */
void mesh_trace_confine(void);

struct mesh_line {
    uint16_t len;
    uint8_t level;
    uint8_t flags;     /* private */
    uint32_t identity; /* private: of the refusal, for the once a second */
    char text[1016];
};

void mesh_line_begin(struct mesh_line *l, enum mesh_trace_level level, const char *event);
void mesh_line_str(struct mesh_line *l, const char *key, const char *value); /* NULL value: left out */
void mesh_line_strn(struct mesh_line *l, const char *key, const char *value, size_t n);
void mesh_line_int(struct mesh_line *l, const char *key, int64_t value);
void mesh_line_ms(struct mesh_line *l, const char *key, uint64_t ns); /* 1.4 */
void mesh_line_addr(struct mesh_line *l, const char *key, const struct sockaddr *sa, socklen_t len); /* ip:port, [ip6]:port */
/* Writes the line if its level is on. For the event `refused`: counts, and at most once a second for one (why, subject)
 * calls the sink as well; the subject is the first text or address besides why. */
void mesh_line_end(struct mesh_line *l);

/* One-call refusal: `refused why=WHY KEY=SUBJECT`, level error. */
void mesh_trace_refused(const char *why, const char *key, const char *subject);

/* Where refusals are kept (the ring of the shared view). The sink gets the text of the line without newline;
 * it must be signal-safe. NULL: none. */
extern void (*mesh_trace_sink)(const char *line, size_t len);
/* Refusals counted in this process so far. */
uint64_t mesh_trace_refusals(void);

#endif
