/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/ctl/args.h"

#include <stdlib.h>
#include <string.h>
#include "shim/base/mem.h"

struct reader {
    int argc, at;
    char *const *argv;
    struct mesh_ctl_args *out;
    struct mesh_why *why;
};

enum operand { NONE, MAYBE, NEEDED };

static const struct command {
    const char *name;
    enum operand operand;
    const char *flags; /* the options of its own, by their letter */
} commands[] = {
    {"check", NONE, "fP"}, {"view", MAYBE, ""}, {"resolve", NEEDED, ""}, {"pick", NEEDED, "Hne"},
    {"status", NONE, ""},  {"stats", NONE, ""}, {"why", MAYBE, "f"},     {"trace", NEEDED, ""},
    {"csds", NONE, ""},    {"agent", NONE, ""},
};

static const struct {
    const char *name;
    char letter;
} options[] = {{"-o", 'o'},      {"-p", 'p'},     {"-h", 'h'}, {"--help", 'h'},   {"-f", 'f'},
               {"--procs", 'P'}, {"--hash", 'H'}, {"-n", 'n'}, {"--explain", 'e'}};

static int wrong(struct reader *r, const char *what, const char *arg) {
    return mesh_why(r->why, MESH_E_INVALID, what, arg);
}

static const struct command *command_find(const char *name) {
    for (size_t i = 0; name && i < MESH_ARRAY_LEN(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* Digits only, from 1 to max; 0 otherwise. */
static int number(const char *text, int max) {
    long v = 0;
    for (const char *p = text; *p; p++) {
        if (*p < '0' || *p > '9' || v > max)
            return 0;
        v = v * 10 + (*p - '0');
    }
    return v <= max ? (int)v : 0;
}

static int set_format(struct reader *r, const char *value) {
    static const char *const words[] = {"text", "json", "yaml"};
    for (int i = 0; i < 3; i++)
        if (strcmp(value, words[i]) == 0) {
            r->out->format = (enum mesh_ctl_format)i;
            return 0;
        }
    return wrong(r, "-o takes text, json or yaml, not \"%s\"", value);
}

static int set_number(struct reader *r, int *ret, const char *value, int max) {
    *ret = number(value, max);
    return *ret ? 0 : wrong(r, "not a number in range: \"%s\"", value);
}

static int set_value(struct reader *r, char letter, const char *value) {
    switch (letter) {
    case 'o':
        return set_format(r, value);
    case 'p':
        return set_number(r, &r->out->pid, value, INT32_MAX);
    case 'n':
        return set_number(r, &r->out->picks, value, MESH_CTL_PICKS_MAX);
    case 'H':
        r->out->hash = value;
        return 0;
    default:
        r->out->file = value;
        return 0;
    }
}

static int set_switch(struct reader *r, char letter) {
    if (letter == 'P')
        r->out->procs = true;
    else if (letter == 'e')
        r->out->explain = true;
    else
        r->out->follow = true;
    return 0;
}

static char option_letter(const char *arg) {
    for (size_t i = 0; i < MESH_ARRAY_LEN(options); i++)
        if (strcmp(options[i].name, arg) == 0)
            return options[i].letter;
    return 0;
}

static int take_option(struct reader *r, const char *arg) {
    const struct command *c = command_find(r->out->command);
    char letter = option_letter(arg);
    bool general = letter == 'o' || letter == 'p';
    if (!letter || (!general && (!c || !strchr(c->flags, letter))))
        return wrong(r, c ? "no option of this command: %s" : "no option: %s", arg);
    bool follow = letter == 'f' && strcmp(c->name, "why") == 0;
    if (letter == 'P' || letter == 'e' || follow)
        return set_switch(r, letter);
    if (r->at == r->argc)
        return wrong(r, "%s needs a value", arg);
    return set_value(r, letter, r->argv[r->at++]);
}

static int take_word(struct reader *r, const char *arg) {
    const struct command *c = command_find(r->out->command);
    if (!c) {
        r->out->command = arg;
        return command_find(arg) ? 0 : wrong(r, "no command: %s", arg);
    }
    if (c->operand == NONE || r->out->operand)
        return wrong(r, "one argument too many: %s", arg);
    r->out->operand = arg;
    return 0;
}

/* What only the whole line shows. */
static int judge(struct reader *r) {
    const struct mesh_ctl_args *a = r->out;
    const struct command *c = command_find(a->command);
    if (!c)
        return wrong(r, "%s", "a command is needed");
    if (c->operand == NEEDED && !a->operand)
        return wrong(r, "%s needs an argument", c->name);
    if (a->file && a->procs)
        return wrong(r, "%s", "-f and --procs exclude each other");
    if (strcmp(c->name, "trace") == 0 && !a->pid)
        return wrong(r, "%s", "trace needs -p PID");
    return 0;
}

int mesh_ctl_args_parse(int argc, char *const *argv, struct mesh_ctl_args *ret, struct mesh_why *why) {
    struct reader r = {argc, 1, argv, ret, why};
    memset(ret, 0, sizeof *ret);
    ret->picks = 1;
    bool only_words = false;
    while (r.at < argc) {
        const char *arg = argv[r.at++];
        int err = 0;
        if (!only_words && option_letter(arg) == 'h') {
            ret->command = NULL;
            return 0;
        }
        if (!only_words && strcmp(arg, "--") == 0)
            only_words = true;
        else if (!only_words && arg[0] == '-')
            err = take_option(&r, arg);
        else
            err = take_word(&r, arg);
        if (err < 0)
            return err;
    }
    return judge(&r);
}

int mesh_ctl_name_split(const char *text, char ret_name[256], uint16_t *ret_port) {
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : strlen(text);
    int port = colon ? number(colon + 1, 65535) : 0;
    if (n == 0 || n > 255 || (colon && !port))
        return MESH_E_INVALID;
    memcpy(ret_name, text, n);
    ret_name[n] = 0;
    *ret_port = (uint16_t)port;
    return 0;
}
