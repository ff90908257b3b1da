/* SPDX-License-Identifier: Apache-2.0
 *
 * What `meshctl check` found, in order: each with what to do about it. Bounded; a text that is too long is cut.
 */
#ifndef MESH_CTL_FINDINGS_H
#define MESH_CTL_FINDINGS_H

#include <stdbool.h>
#include <stddef.h>
#include "shim/ctl/out.h"

enum mesh_ctl_severity { MESH_CTL_OK, MESH_CTL_WARNING, MESH_CTL_ERROR };

enum {
    MESH_CTL_FINDINGS_MAX = 512,
    MESH_CTL_REMARKS_MAX = 256, /* all but errors: a flood of warnings must not hide an error */
};

struct mesh_ctl_finding {
    enum mesh_ctl_severity severity;
    const char *subject; /* "identity", "view", ...: a constant */
    char text[360], todo[240];
};

struct mesh_ctl_findings {
    size_t n, remarks, left_out;
    struct mesh_ctl_finding items[MESH_CTL_FINDINGS_MAX];
};

/* `todo` may be empty. */
void mesh_ctl_found(struct mesh_ctl_findings *f, enum mesh_ctl_severity severity, const char *subject, const char *todo,
                    const char *fmt, ...) __attribute__((format(printf, 5, 6)));
bool mesh_ctl_findings_clean(const struct mesh_ctl_findings *f); /* no error among them */
/* Text on stdout, or as {"ok", "findings": [{"severity", "subject", "text", "todo"}], "left_out"}. Returns the exit status. */
int mesh_ctl_findings_print(const struct mesh_ctl_findings *f, enum mesh_ctl_format format);

struct mesh_ctl;
/* The bootstrap, whether a control plane can be reached, and how old what it said is (check_plane.c). */
void mesh_ctl_check_plane(struct mesh_ctl *c, struct mesh_ctl_findings *f);

#endif
