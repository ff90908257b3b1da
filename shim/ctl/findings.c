/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/ctl/findings.h"

#include <stdarg.h>
#include <stdio.h>
#include "shim/ctl/ctl.h"

static const char *const severities[] = {"ok", "warning", "error"};

void mesh_ctl_found(struct mesh_ctl_findings *f, enum mesh_ctl_severity severity, const char *subject,
                    const char *todo, const char *fmt, ...) {
    bool remark = severity != MESH_CTL_ERROR;
    if (f->n == MESH_CTL_FINDINGS_MAX || (remark && f->remarks == MESH_CTL_REMARKS_MAX)) {
        f->left_out++;
        return;
    }
    f->remarks += remark;
    struct mesh_ctl_finding *one = &f->items[f->n++];
    one->severity = severity;
    one->subject = subject;
    snprintf(one->todo, sizeof one->todo, "%s", todo);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(one->text, sizeof one->text, fmt, ap);
    va_end(ap);
}

bool mesh_ctl_findings_clean(const struct mesh_ctl_findings *f) {
    for (size_t i = 0; i < f->n; i++)
        if (f->items[i].severity == MESH_CTL_ERROR)
            return false;
    return true;
}

static void print_text(const struct mesh_ctl_findings *f) {
    for (size_t i = 0; i < f->n; i++) {
        const struct mesh_ctl_finding *one = &f->items[i];
        printf("%-8s %s: %s\n", severities[one->severity], one->subject, one->text);
        if (one->todo[0])
            printf("         -> %s\n", one->todo);
    }
    if (f->left_out)
        printf("and %zu more\n", f->left_out);
}

int mesh_ctl_findings_print(const struct mesh_ctl_findings *f, enum mesh_ctl_format format) {
    int status = mesh_ctl_findings_clean(f) ? MESH_CTL_YES : MESH_CTL_NO;
    if (format == MESH_CTL_TEXT) {
        print_text(f);
        return status;
    }
    struct mesh_ctl_out o;
    mesh_ctl_out_init(&o, stdout, format == MESH_CTL_YAML);
    mesh_ctl_bool(&o, "ok", status == MESH_CTL_YES);
    mesh_ctl_list_begin(&o, "findings");
    for (size_t i = 0; i < f->n; i++) {
        mesh_ctl_map_begin(&o, NULL);
        mesh_ctl_str(&o, "severity", severities[f->items[i].severity]);
        mesh_ctl_str(&o, "subject", f->items[i].subject);
        mesh_ctl_str(&o, "text", f->items[i].text);
        mesh_ctl_str(&o, "todo", f->items[i].todo);
        mesh_ctl_end(&o);
    }
    mesh_ctl_end(&o);
    mesh_ctl_int(&o, "left_out", (int64_t)f->left_out);
    return mesh_ctl_finish(&o, status);
}
