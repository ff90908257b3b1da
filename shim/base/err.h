/* SPDX-License-Identifier: Apache-2.0
 *
 * Errors of every room. A fallible function returns 0 or a negative enum mesh_err; only shim/errno.c turns
 * one into an errno. A `struct mesh_why` carries the sentence a person reads: what was wrong, named by the
 * variable, file, resource path or peer that caused it. No heap, no locks. Threads: any, signal-safe.
 */
#ifndef MESH_BASE_ERR_H
#define MESH_BASE_ERR_H

#include <stddef.h>

#define MESH_ERR_MAP(X)                                                                                      \
    X(NOMEM, "out of memory")                                                                                \
    X(AGAIN, "more input or more room is needed")                                                            \
    X(IO, "system call failed")                                                                              \
    X(SYNTAX, "not well-formed")                                                                             \
    X(INVALID, "value out of range or contradictory")                                                        \
    X(UNSUPPORTED, "asks for something that is not supported")                                               \
    X(LIMIT, "over a limit")                                                                                 \
    X(NOTFOUND, "no such name")                                                                              \
    X(DENIED, "the mesh says that the name does not exist")                                                  \
    X(NOENDPOINT, "no endpoint that may be used")                                                            \
    X(FAMILY, "no endpoint of a family that the descriptor reaches")                                         \
    X(OVERLOAD, "circuit breaker or drop_overload")                                                          \
    X(NOROUTE, "virtual address on a port that nothing in the view has")                                     \
    X(IDENTITY, "our own identity or configuration does not allow it")                                       \
    X(PEER, "the peer is not who it must be")                                                                \
    X(PROTOCOL, "the peer broke the protocol")                                                               \
    X(ALERT, "the peer sent a fatal alert")                                                                  \
    X(RECORD, "a record does not authenticate")                                                              \
    X(TRUNCATED, "end of stream inside a record")                                                            \
    X(CLOSED, "close_notify")                                                                                \
    X(KEYLIMIT, "AEAD limit reached")                                                                        \
    X(REFUSED, "connection refused")                                                                         \
    X(TIMEOUT, "timed out")                                                                                  \
    X(POISONED, "a holder died inside a critical section")                                                   \
    X(INTERNAL, "internal error")

enum mesh_err {
    MESH_OK = 0,
    MESH_ERR_FIRST_ = -1000, /* private range: never an errno */
#define X(name, text) MESH_E_##name,
    MESH_ERR_MAP(X)
#undef X
};

/* The sentence behind an error. `text` is always NUL-terminated; empty when nothing was said. */
struct mesh_why {
    char text[240];
};

/* Writes the sentence, cut to fit; `why` may be NULL. Returns `err`, so that a caller can
 * `return mesh_why(why, MESH_E_INVALID, "...")`. Threads: any (uses vsnprintf on the caller's memory). */
int mesh_why(struct mesh_why *why, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The fixed English text of an error; never NULL. Threads: any, signal-safe. */
const char *mesh_err_text(int err);

#define MESH_MUST_CHECK __attribute__((warn_unused_result))

#endif
