/* SPDX-License-Identifier: Apache-2.0
 *
 * The environment table, once: parser, defaults, warnings for unknown MESH_ names, `meshctl check` and the README's table
 * all come from shim/env.def (INTERFACE.md, "Environment"). /etc/meshshim.conf (owned by root, writable by nobody else)
 * gives defaults below the environment; a secure-exec process reads only that file. A wrong value is named in one trace
 * line; a wrong value of a variable that protects sets its `bad` bit and what it protects fails closed. An empty value counts
 * as not set, but for variables that protect: there it is wrong, so that a value lost on the way does not unprotect.
 * With a bit set, the field itself is already the strict reading where there is one: MESH_TLS required, MESH_PEERS none,
 * MESH_INBOUND strict; MESH_EXCLUDE excludes nothing. bad_capture and bad_callers have no such reading: their users look.
 */
#ifndef MESH_SHIM_ENV_H
#define MESH_SHIM_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "resolver/resolver.h"
#include "shim/base/cidr.h"
#include "tls/tls.h"

enum { MESH_ENV_PORTS_MAX = 128, MESH_ENV_PATTERNS_MAX = 64 };

struct mesh_env_inbound {
    uint16_t port; /* 0: every other port (`*`, or a bare mode) */
    uint8_t mode;  /* enum mesh_inbound_mode */
};

struct mesh_env { /* parsed once, then immutable; strings live as long as the process */
    bool off;             /* MESH_OFF=1, or the program is in MESH_SKIP */
    bool any;             /* something is configured that can make a connection mesh */
    const char *view, *view_seed, *bootstrap, *bootstrap_config, *domains;
    const char *cert, *key, *ca;
    const char *hash_key, *trace, *skip;
    const char *run_dir;  /* resolved to its default */
    struct mesh_match peers[MESH_ENV_PATTERNS_MAX], callers[MESH_ENV_PATTERNS_MAX];
    size_t npeers, ncallers;
    bool peers_none;      /* MESH_PEERS=none */
    struct mesh_env_inbound inbound[MESH_ENV_PORTS_MAX];
    size_t ninbound;
    struct mesh_cidr_list *inbound_plain, *capture, *exclude, *virtual_ranges;
    enum mesh_tls_default tls;
    uint64_t detect_ns, patience_ns, resolve_timeout_ns, view_max_age_ns; /* 0 for max age: none */
    /* wrong values of variables that protect; what they protect fails closed */
    bool bad_identity, bad_peers, bad_callers, bad_inbound, bad_capture, bad_tls, bad_exclude;
    bool bad_other;       /* some other value is wrong: its default holds */
    void *block;          /* private: what the strings point into */
};

/* The process's table; all zero before mesh_env_start. Never NULL. Threads: any. */
const struct mesh_env *mesh_env(void);

/* Reads environment and file; called once at start-up, after mesh_trace_remember_stderr. May always be called: where no
 * variable and no file is there it costs one pass over `envp` and one failed open, and uses no heap. Switches
 * the trace on first, so that what it finds wrong is said: one `config` line each.
 * `secure`: AT_SECURE. Returns 0, or MESH_E_NOMEM with every `bad` bit set. */
int mesh_env_start(char *const *envp, bool secure) MESH_MUST_CHECK;

struct mesh_env_source { /* whose environment is read; meshctl -p gives another process's */
    char *const *envp;
    bool secure;         /* AT_SECURE: envp is ignored */
    uid_t uid;           /* for the default of MESH_RUN_DIR */
    const char *cwd;     /* relative file names are taken from here; NULL: left relative */
    const char *conf;    /* path of the defaults file; NULL: none */
};
/* Parses into a given struct; `bad(arg, name, value, what)` is called for each wrong value or unknown name. MESH_SKIP is
 * not judged: see mesh_env_skips. Returns 0 or MESH_E_NOMEM (then nothing is to be freed). Threads: any. */
int mesh_env_parse(const struct mesh_env_source *src, struct mesh_env *ret,
                   void (*bad)(void *arg, const char *name, const char *value, const char *what), void *arg) MESH_MUST_CHECK;
void mesh_env_done(struct mesh_env *e); /* for meshctl and tests: frees what parse allocated; half-built is fine */

/* Is a program of this name (no directory) in MESH_SKIP? */
bool mesh_env_skips(const struct mesh_env *e, const char *program);
/* Mode that MESH_INBOUND gives a local port; a wrong value of it: strict. */
enum mesh_inbound_mode mesh_env_inbound_mode(const struct mesh_env *e, uint16_t port);
/* For meshctl and the README: name, value form, default, sentence, protects. */
struct mesh_env_row {
    const char *name, *value, *def, *text;
    bool protects;
};
const struct mesh_env_row *mesh_env_rows(size_t *ret_n);

#endif
