/* SPDX-License-Identifier: Apache-2.0
 *
 * meshctl: a second front on the same rooms, with no logic of its own. A command gets the session (whose environment, and
 * the view it leads to), asks the rooms, prints, and returns the exit status: yes, no, or wrong use.
 */
#ifndef MESH_CTL_CTL_H
#define MESH_CTL_CTL_H

#include <stdio.h>
#include "shim/ctl/args.h"
#include "shim/ctl/out.h"
#include "shim/env.h"

enum mesh_ctl_exit { MESH_CTL_YES = 0, MESH_CTL_NO = 1, MESH_CTL_USAGE = 2 };

struct mesh_ctl {
    struct mesh_ctl_args args;
    struct mesh_env env;     /* of -p, or ours */
    char **their_envp;       /* -p only */
    uid_t uid;               /* whose view it is */
    struct mesh_view *view;
    bool private_view;       /* seen by this meshctl alone */
};

/* Called for each wrong value or unknown name, as by mesh_env_parse. */
typedef void mesh_ctl_bad_fn(void *arg, const char *name, const char *value, const char *what);

/* Reads the environment; with -p becomes that process's user, so that files are seen and made as it would. */
int mesh_ctl_session_read(struct mesh_ctl *c, mesh_ctl_bad_fn *bad, void *arg, struct mesh_why *why) MESH_MUST_CHECK;
/* Attaches to the view of it. */
int mesh_ctl_session_view(struct mesh_ctl *c, struct mesh_why *why) MESH_MUST_CHECK;
void mesh_ctl_session_done(struct mesh_ctl *c);
/* Both; a failure is said on stderr. */
bool mesh_ctl_session_open(struct mesh_ctl *c);

/* The sentence on stderr, after "meshctl: ". */
void mesh_ctl_complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Ends structured output; the exit status becomes MESH_CTL_USAGE when it could not be written. */
int mesh_ctl_finish(struct mesh_ctl_out *o, int status);

/* One command each; ret: enum mesh_ctl_exit. */
typedef int mesh_ctl_command(struct mesh_ctl *c);
mesh_ctl_command mesh_ctl_check, mesh_ctl_check_file, mesh_ctl_check_procs, mesh_ctl_view, mesh_ctl_resolve, mesh_ctl_pick,
    mesh_ctl_status, mesh_ctl_stats, mesh_ctl_refusals, mesh_ctl_trace,
    mesh_ctl_csds, mesh_ctl_agent;

#endif
