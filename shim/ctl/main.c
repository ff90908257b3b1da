/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <string.h>
#include "shim/base/mem.h"
#include "shim/ctl/ctl.h"

static const char usage[] =
    "usage: meshctl [-o text|json|yaml] [-p PID] COMMAND\n"
    "  check [-f FILE | --procs]   is this environment right; what in FILE would be refused; who escapes\n"
    "  view [NAME]                 the resources in force\n"
    "  resolve NAME[:PORT]         addresses, route, clusters, endpoints\n"
    "  pick NAME:PORT [--hash TEXT] [-n N] [--explain]   which endpoint a connection would get\n"
    "  status                      processes and their live connections\n"
    "  stats                       each endpoint's counters\n"
    "  why [NAME] [-f]             the last refusals; -f follows\n"
    "  trace LEVEL[:FILE]          with -p: switches a live process\n"
    "  csds                        what the control plane sent: Envoy's ClientConfig\n"
    "  agent                       publishes the view until SIGTERM, in the programs' place\n"
    "Exit status: 0 yes, 1 no, 2 wrong use. See meshctl(1).\n";

static int check(struct mesh_ctl *c) {
    if (c->args.file)
        return mesh_ctl_check_file(c);
    return c->args.procs ? mesh_ctl_check_procs(c) : mesh_ctl_check(c);
}

static const struct {
    const char *name;
    mesh_ctl_command *run;
} commands[] = {
    {"check", check},           {"view", mesh_ctl_view},     {"resolve", mesh_ctl_resolve},
    {"pick", mesh_ctl_pick},    {"status", mesh_ctl_status}, {"stats", mesh_ctl_stats},
    {"why", mesh_ctl_refusals}, {"trace", mesh_ctl_trace},   {"csds", mesh_ctl_csds},
    {"agent", mesh_ctl_agent},
};

static int run(struct mesh_ctl *c) {
    for (size_t i = 0; i < MESH_ARRAY_LEN(commands); i++)
        if (strcmp(commands[i].name, c->args.command) == 0)
            return commands[i].run(c);
    return MESH_CTL_USAGE;
}

int main(int argc, char **argv) {
    static struct mesh_ctl c;
    struct mesh_why why = {""};
    if (mesh_ctl_args_parse(argc, argv, &c.args, &why) < 0) {
        mesh_ctl_complain("%s", why.text);
        fputs(usage, stderr);
        return MESH_CTL_USAGE;
    }
    if (!c.args.command) {
        fputs(usage, stdout);
        return MESH_CTL_YES;
    }
    signal(SIGPIPE, SIG_IGN); /* a reader that goes ends the output, with exit status 2 */
    int status = run(&c);
    mesh_ctl_session_done(&c);
    if (fflush(stdout) != 0 && status != MESH_CTL_USAGE) {
        mesh_ctl_complain("output: %s", mesh_err_text(MESH_E_IO));
        status = MESH_CTL_USAGE;
    }
    return status;
}
