/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/channel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "resolver/channel_dial.h"
#include "resolver/view.h"
#include "shim/base/clock.h"
#include "shim/base/mem.h"

/* gRPC's connection backoff (doc/connection-backoff.md), keepalive (gRFC A8). */
static const uint64_t backoff_first = MESH_SEC, backoff_most = 120 * MESH_SEC,
                      connect_timeout = 20 * MESH_SEC, address_least = 5 * MESH_SEC,
                      keepalive_first = 300 * MESH_SEC, keepalive_most = 7200 * MESH_SEC;
enum { TOKEN_MAX = 64 << 10, AUTHORITY_MAX = 300, GROWTH_MAX = 16 /* 1.6^11 s is over 120 s */ };

enum phase {
    RESTING, /* until the deadline */
    RESOLVING,
    CONNECTING, /* TCP */
    SHAKING,    /* TLS */
    GREETING,   /* HTTP/2 */
    STREAMING
};

struct mesh_channel {
    const struct mesh_xds_server *server;
    const struct mesh_fd_hooks *hooks;
    struct mesh_dns *dns;
    const struct mesh_channel_events *events;
    void *arg;
    char *path;
    struct mesh_tls_creds *creds; /* NULL: insecure */

    enum phase phase;
    bool started, eager;
    uint64_t deadline; /* of the phase */
    uint64_t now;      /* of the drive that runs */
    uint64_t begun;    /* the attempt */
    uint32_t failures; /* in a row */
    uint64_t keepalive;

    struct channel_address *addresses; /* of the last answer that had some */
    uint32_t naddresses, next_address;
    bool has_answer; /* to the question of this attempt */
    int dns_err;

    struct channel_io io;
    bool answered;  /* a message has come on this stream */
    bool unsent;    /* queued since the last drive */
    bool restarted; /* the owner wants another stream */
    bool ended;     /* the stream is over, by these */
    int end_status;
    struct mesh_why end_why;

    uint64_t since;
    char peer[64], error[160];
};

static void set_phase(struct mesh_channel *ch, enum phase phase, uint64_t deadline) {
    ch->phase = phase;
    ch->deadline = deadline;
}

static uint64_t random_below(uint64_t n) {
    return mesh_random() % n;
}

/* 1 s x 1.6^failures, 120 s at most, 20 % more or less. */
static uint64_t backoff(uint32_t failures) {
    uint64_t ns = backoff_first;
    for (uint32_t i = 0; i < failures && i < GROWTH_MAX; i++)
        ns = ns * 8 / 5;
    ns = ns < backoff_most ? ns : backoff_most;
    return ns * 4 / 5 + random_below(ns * 2 / 5);
}

/* ---- ends -------------------------------------------------------------------------------------------------
 */
static void hang_up(struct mesh_channel *ch) {
    struct channel_io *io = &ch->io;
    if (io->fd >= 0)
        mesh_channel_close(io->fd, ch->hooks);
    mesh_tls_channel_free(io->tls);
    mesh_grpc_free(io->grpc);
    io->fd = -1;
    io->tls = NULL;
    io->grpc = NULL;
    io->blocked = false;
    io->shaken = false;
}

static void note(struct mesh_channel *ch, const char *why) {
    bool named = ch->phase >= CONNECTING;
    snprintf(ch->error, sizeof ch->error, "%.60s%s%.90s", named ? ch->peer : "", named ? ": " : "", why);
}

/* After a stream that was good the fleet comes back over a second, however it ended; else later each time. */
static uint64_t next_attempt(struct mesh_channel *ch) {
    if (ch->answered && !ch->restarted) {
        ch->failures = 0;
        return ch->now + random_below(backoff_first);
    }
    uint64_t at = ch->begun + backoff(ch->failures++);
    return at > ch->now ? at : ch->now;
}

static void fail(struct mesh_channel *ch, int status, const char *why) {
    bool answered = ch->answered;
    note(ch, why);
    if (ch->io.grpc && mesh_grpc_is_calmed(ch->io.grpc) && ch->keepalive < keepalive_most)
        ch->keepalive *= 2;
    mesh_channel_io_flush(&ch->io);
    hang_up(ch);
    set_phase(ch, RESTING, next_attempt(ch));
    ch->since = ch->now;
    ch->answered = false;
    ch->restarted = false;
    ch->unsent = false;
    ch->ended = false;
    ch->events->down(ch->arg, status, answered, ch->error);
}

/* ---- the stream -------------------------------------------------------------------------------------------
 */
static void on_ready(void *arg) {
    struct mesh_channel *ch = arg;
    set_phase(ch, STREAMING, UINT64_MAX);
    ch->since = ch->now;
    ch->error[0] = 0;
    ch->events->up(ch->arg);
}

static void on_message(void *arg, const uint8_t *p, size_t n) {
    struct mesh_channel *ch = arg;
    if (ch->restarted) /* no more of this stream */
        return;
    ch->answered = true;
    ch->events->message(ch->arg, p, n);
}

static void on_closed(void *arg, int status, const char *why) {
    struct mesh_channel *ch = arg;
    ch->ended = true;
    ch->end_status = status;
    mesh_why(&ch->end_why, 0, "%s", why);
}

static int read_token(const char *path, char **ret_token, struct mesh_why *why) {
    size_t len;
    int err = mesh_file_read(path, TOKEN_MAX, ret_token, &len, why);
    if (err)
        return err;
    char *token = *ret_token;
    len = strcspn(token, " \t\r\n");
    bool sound = len && !token[len + strspn(token + len, " \t\r\n")];
    for (size_t i = 0; i < len; i++)
        sound = sound && token[i] > ' ' && token[i] < 127;
    token[len] = 0;
    return sound ? 0 : mesh_why(why, MESH_E_INVALID, "%s: not a token", path);
}

static void make_authority(const struct mesh_xds_server *s, char ret_text[AUTHORITY_MAX]) {
    if (s->is_unix)
        snprintf(ret_text, AUTHORITY_MAX, "localhost");
    else
        snprintf(ret_text, AUTHORITY_MAX, strchr(s->host, ':') ? "[%s]:%u" : "%s:%u", s->host, s->port);
}

static int make_stream(struct mesh_channel *ch, struct mesh_why *why) {
    static const struct mesh_grpc_events events = {on_ready, on_message, on_closed};
    char authority[AUTHORITY_MAX], *token = NULL;
    make_authority(ch->server, authority);
    int err = ch->server->token_file ? read_token(ch->server->token_file, &token, why) : 0;
    struct mesh_grpc_config cfg = {.path = ch->path,
                                   .authority = authority,
                                   .token = token,
                                   .is_tls = ch->server->is_tls,
                                   .keepalive = ch->keepalive,
                                   .events = &events,
                                   .arg = ch};
    if (!err && (err = mesh_grpc_new(&cfg, ch->now, &ch->io.grpc)) != 0)
        mesh_why(why, err, "%s", mesh_err_text(err));
    if (token)
        mesh_zero(token, strlen(token));
    free(token);
    return err;
}

/* ---- an attempt -------------------------------------------------------------------------------------------
 */
static void try_next(struct mesh_channel *ch, int status, const char *why);

static void begin_stream(struct mesh_channel *ch) {
    struct mesh_why why = {""};
    if (make_stream(ch, &why) != 0)
        fail(ch, MESH_GRPC_UNAVAILABLE, why.text);
    else
        ch->phase = GREETING; /* the deadline stays: it is for both handshakes */
}

static void begin_handshake(struct mesh_channel *ch) {
    struct mesh_why why = {""};
    ch->deadline = ch->now + connect_timeout;
    if (!ch->creds) {
        begin_stream(ch);
        return;
    }
    const char *host = ch->server->is_unix ? "localhost" : ch->server->host;
    if (mesh_tls_channel_new(ch->creds, host, ch->now, &ch->io.tls, &why) != 0)
        fail(ch, MESH_GRPC_UNAVAILABLE, why.text); /* the files: another address would not help */
    else
        ch->phase = SHAKING;
}

/* The next address, with a fair part of the time that is left to all; the last one's error is the attempt's.
 */
static void try_next(struct mesh_channel *ch, int status, const char *why) {
    struct mesh_why last = {""};
    mesh_why(&last, 0, "%s", why);
    hang_up(ch);
    while (ch->next_address < ch->naddresses) {
        uint64_t share = connect_timeout / (ch->naddresses - ch->next_address);
        const struct channel_address *a = &ch->addresses[ch->next_address++];
        mesh_channel_address_text(a, ch->peer, sizeof ch->peer);
        set_phase(ch, CONNECTING, ch->now + (share > address_least ? share : address_least));
        int rc = mesh_channel_connect(a, ch->hooks, &ch->io.fd);
        if (rc == 0)
            return;
        mesh_why(&last, 0, "%s", strerrordesc_np(-rc));
        status = MESH_GRPC_UNAVAILABLE;
    }
    fail(ch, status, last.text);
}

static void on_addresses(void *arg, const struct mesh_dns_answer *answer) {
    struct mesh_channel *ch = arg;
    struct channel_address *list = answer->n ? calloc(answer->n, sizeof *list) : NULL;
    ch->has_answer = true;
    ch->dns_err = answer->n && !list ? MESH_E_NOMEM : answer->err;
    if (!list)
        return;
    for (uint32_t i = 0; i < answer->n; i++)
        list[i] = mesh_channel_ip(answer->addrs[i].family, answer->addrs[i].addr, ch->server->port);
    free(ch->addresses);
    ch->addresses = list;
    ch->naddresses = answer->n;
}

/* Without an answer the addresses of the last one are as good as they were. */
static void look_at_answer(struct mesh_channel *ch) {
    char why[160];
    if (!ch->has_answer && ch->now < ch->deadline)
        return;
    if (!ch->has_answer) {
        mesh_dns_forget(ch->dns, ch);
        ch->dns_err = MESH_E_TIMEOUT;
    }
    snprintf(why, sizeof why, "%.100s: %s", ch->server->host,
             mesh_err_text(ch->dns_err ? ch->dns_err : MESH_E_NOTFOUND));
    if (ch->naddresses)
        try_next(ch, MESH_GRPC_UNAVAILABLE, why);
    else
        fail(ch, MESH_GRPC_UNAVAILABLE, why);
}

static int set_unix(struct mesh_channel *ch) {
    ch->has_answer = true;
    if (ch->addresses)
        return 0;
    if (!(ch->addresses = malloc(sizeof *ch->addresses)))
        return MESH_E_NOMEM;
    *ch->addresses = mesh_channel_unix(ch->server->host);
    ch->naddresses = 1;
    return 0;
}

static void begin(struct mesh_channel *ch) {
    enum { BOTH_FAMILIES = 3 };
    ch->begun = ch->since = ch->now;
    ch->next_address = 0;
    ch->has_answer = false;
    ch->dns_err = 0;
    set_phase(ch, RESOLVING, ch->now + connect_timeout);
    int err = ch->server->is_unix ? set_unix(ch)
                                  : mesh_dns_ask(ch->dns, ch->server->host, BOTH_FAMILIES, on_addresses, ch);
    if (err) {
        ch->has_answer = true;
        ch->dns_err = err;
    }
    look_at_answer(ch);
}

static void look_at_connect(struct mesh_channel *ch) {
    int rc = mesh_channel_connected(ch->io.fd);
    if (rc > 0)
        begin_handshake(ch);
    else if (rc < 0)
        try_next(ch, MESH_GRPC_UNAVAILABLE, strerrordesc_np(-rc));
    else if (ch->now >= ch->deadline)
        try_next(ch, MESH_GRPC_UNAVAILABLE, "timed out");
}

/* Of a connection that has both ends: a handshake that fails leads to the next address, a stream that ends to
 * rest. */
static void broken(struct mesh_channel *ch, int status, const char *why) {
    if (ch->phase == STREAMING)
        fail(ch, status, why);
    else
        try_next(ch, status, why);
}

static void move(struct mesh_channel *ch) {
    struct mesh_why why = {""};
    int err = mesh_channel_io_move(&ch->io, ch->now, &why);
    ch->unsent = false;
    if (!err && ch->io.grpc)
        mesh_grpc_tick(ch->io.grpc, ch->now);
    if (ch->ended) {
        ch->ended = false;
        broken(ch, ch->end_status, ch->end_why.text);
    } else if (err) {
        broken(ch, MESH_GRPC_UNAVAILABLE, why.text);
    } else if (ch->restarted) {
        fail(ch, MESH_GRPC_CANCELLED, ch->end_why.text);
    } else if (ch->now >= ch->deadline) {
        broken(ch, MESH_GRPC_UNAVAILABLE, "no handshake in time");
    } else if (ch->phase == SHAKING && ch->io.shaken) {
        begin_stream(ch);
    }
}

static void step(struct mesh_channel *ch) {
    switch (ch->phase) {
    case RESTING:
        if (ch->now >= ch->deadline)
            begin(ch);
        break;
    case RESOLVING:
        look_at_answer(ch);
        break;
    case CONNECTING:
        look_at_connect(ch);
        break;
    default:
        move(ch);
    }
}

/* ---- the owner's calls ------------------------------------------------------------------------------------
 */
void mesh_channel_drive(struct mesh_channel *ch, uint64_t now) {
    ch->now = now;
    if (!ch->started) {
        ch->started = true;
        set_phase(ch, RESTING, now + (ch->eager ? 0 : random_below(backoff_first)));
    }
    for (enum phase before = STREAMING + 1;
         before != ch->phase;) { /* each phase at most leads on to later ones, or to rest */
        before = ch->phase;
        step(ch);
        if (ch->phase == RESTING)
            break;
    }
}

uint32_t mesh_channel_fill(struct mesh_channel *ch, struct pollfd *ret, uint32_t max, uint64_t *io_deadline) {
    uint64_t deadline = ch->started ? ch->deadline : 0;
    if ((ch->phase == RESOLVING && ch->has_answer) || ch->restarted)
        deadline = 0;
    if (ch->phase >= GREETING && mesh_grpc_deadline(ch->io.grpc) < deadline)
        deadline = mesh_grpc_deadline(ch->io.grpc);
    if (deadline < *io_deadline)
        *io_deadline = deadline;
    if (ch->io.fd < 0 || max == 0)
        return 0;
    bool out = ch->phase == CONNECTING || ch->io.blocked || ch->unsent;
    *ret = (struct pollfd){.fd = ch->io.fd,
                           .events = (short)((ch->phase == CONNECTING ? 0 : POLLIN) | (out ? POLLOUT : 0))};
    return 1;
}

int mesh_channel_send(struct mesh_channel *ch, const uint8_t *p, size_t n) {
    if (ch->phase != STREAMING || ch->restarted)
        return MESH_E_AGAIN;
    int err = mesh_grpc_send(ch->io.grpc, p, n);
    ch->unsent = ch->unsent || !err;
    return err;
}

void mesh_channel_restart(struct mesh_channel *ch, const char *why) {
    if (ch->phase != STREAMING || ch->restarted)
        return;
    ch->restarted = true;
    mesh_why(&ch->end_why, 0, "%s", why);
}

void mesh_channel_path(struct mesh_channel *ch, const char *path) {
    char *copy = strdup(path);
    if (!copy)
        return; /* the old one is told to be unknown again, and this is asked for again */
    free(ch->path);
    ch->path = copy;
}

void mesh_channel_describe(const struct mesh_channel *ch, struct mesh_channel_info *ret) {
    static const enum mesh_channel_state states[] = {
        [RESTING] = MESH_CHANNEL_BACKOFF,       [RESOLVING] = MESH_CHANNEL_CONNECTING,
        [CONNECTING] = MESH_CHANNEL_CONNECTING, [SHAKING] = MESH_CHANNEL_CONNECTING,
        [GREETING] = MESH_CHANNEL_CONNECTING,   [STREAMING] = MESH_CHANNEL_UP,
    };
    memset(ret, 0, sizeof *ret);
    ret->state = ch->begun || ch->phase != RESTING ? states[ch->phase] : MESH_CHANNEL_IDLE;
    ret->since = ch->since;
    memcpy(ret->peer, ch->peer, sizeof ret->peer);
    memcpy(ret->error, ch->error, sizeof ret->error);
}

static int creds_new(struct mesh_channel *ch) {
    const struct mesh_tls_files *f = &ch->server->tls;
    struct mesh_tls_channel_files files = {
        .cert = f->cert, .key = f->key, .ca = f->ca, .refresh = f->refresh};
    return ch->server->is_tls ? mesh_tls_creds_new(&files, &ch->creds) : 0;
}

int mesh_channel_new(const struct mesh_channel_config *cfg, struct mesh_channel **ret) {
    struct mesh_channel *ch = calloc(1, sizeof *ch);
    if (!ch)
        return MESH_E_NOMEM;
    ch->server = cfg->server;
    ch->hooks = cfg->hooks;
    ch->dns = cfg->dns;
    ch->events = cfg->events;
    ch->arg = cfg->arg;
    ch->eager = cfg->eager;
    ch->keepalive = keepalive_first;
    ch->io.fd = -1;
    ch->path = strdup(cfg->path);
    if (!ch->path || creds_new(ch) != 0) {
        mesh_channel_free(ch);
        return MESH_E_NOMEM;
    }
    *ret = ch;
    return 0;
}

void mesh_channel_free(struct mesh_channel *ch) {
    if (!ch)
        return;
    if (ch->phase == RESOLVING)
        mesh_dns_forget(ch->dns, ch);
    hang_up(ch);
    mesh_tls_creds_free(ch->creds);
    free(ch->addresses);
    free(ch->path);
    free(ch);
}
