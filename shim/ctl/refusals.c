/* SPDX-License-Identifier: Apache-2.0
 *
 * meshctl why: the last refusals of the view.
 */
#include <string.h>
#include <time.h>
#include "shim/base/mem.h"
#include "shim/ctl/ctl.h"
#include "shim/ctl/logfmt.h"

struct refusals {
    const struct mesh_ctl_args *args;
    struct mesh_ctl_out *out; /* JSON or YAML in one list; NULL: a line each */
};

/* A value's type goes by its key: a service may be called 80. */
static bool is_number(const struct mesh_ctl_field *f) {
    static const char *const numbers[] = {"fd",       "port", "errno", "repeat", "attempt",
                                          "attempts", "in",   "out",   "ms",     "descriptors"};
    size_t digits = strspn(f->value, "0123456789"), n = strlen(f->value);
    const char *rest = f->value + digits;
    bool tenths = rest[0] == '.' && strspn(rest + 1, "0123456789") == 1 && !rest[2];
    if (digits == 0 || n > 18 || (*rest && !tenths) || (f->value[0] == '0' && digits > 1))
        return false;
    for (size_t i = 0; i < MESH_ARRAY_LEN(numbers); i++)
        if (strcmp(f->key, numbers[i]) == 0)
            return true;
    return false;
}

static void put_fields(struct mesh_ctl_out *o, const struct mesh_ctl_line *l) {
    struct mesh_ctl_field f;
    const char *rest = l->rest;
    mesh_ctl_int(o, "pid", l->pid);
    mesh_ctl_str(o, "event", l->event);
    while (mesh_ctl_field_next(&rest, &f)) {
        if (is_number(&f))
            mesh_ctl_raw(o, f.key, f.value);
        else
            mesh_ctl_str(o, f.key, f.value);
    }
}

/* Following, JSON is one object after the other, so that a reader has each at once. */
static void put_alone(const struct mesh_ctl_line *l) {
    struct mesh_ctl_out o;
    mesh_ctl_out_init(&o, stdout, false);
    put_fields(&o, l);
    (void)mesh_ctl_finish(&o, 0);
}

static void show(void *arg, const char *line) {
    const struct refusals *r = arg;
    struct mesh_ctl_line l;
    if (!mesh_ctl_line_parse(line, &l))
        return;
    if (r->args->operand && !mesh_ctl_line_is_about(&l, r->args->operand))
        return;
    if (r->args->format == MESH_CTL_TEXT) {
        puts(line);
    } else if (!r->out) {
        put_alone(&l);
    } else {
        mesh_ctl_map_begin(r->out, NULL);
        put_fields(r->out, &l);
        mesh_ctl_end(r->out);
    }
}

/* Until the reader is gone. */
static int follow(struct mesh_ctl *c, struct refusals *r, uint64_t *io_seq) {
    const struct timespec pause = {0, 200000000};
    r->out = NULL;
    while (fflush(stdout) == 0 && !ferror(stdout)) {
        int err = mesh_why_read(c->view, io_seq, show, r);
        if (err < 0)
            return MESH_CTL_NO;
        nanosleep(&pause, NULL);
    }
    return MESH_CTL_YES;
}

int mesh_ctl_refusals(struct mesh_ctl *c) {
    struct mesh_ctl_out o;
    struct refusals r = {&c->args, NULL};
    uint64_t seq = 0;
    if (!mesh_ctl_session_open(c))
        return MESH_CTL_NO;
    if (c->args.follow)
        return follow(c, &r, &seq);
    if (c->args.format != MESH_CTL_TEXT) {
        r.out = &o;
        mesh_ctl_out_init(&o, stdout, c->args.format == MESH_CTL_YAML);
        mesh_ctl_list_begin(&o, "refusals");
    }
    int err = mesh_why_read(c->view, &seq, show, &r);
    int status = err < 0 ? MESH_CTL_NO : MESH_CTL_YES;
    if (err < 0)
        mesh_ctl_complain("the refusals: %s", mesh_err_text(err));
    if (!r.out)
        return status;
    mesh_ctl_end(&o);
    return mesh_ctl_finish(&o, status);
}
