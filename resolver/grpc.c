/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/grpc.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shim/base/buf.h"
#include "shim/base/clock.h"
#include "shim/base/mem.h"

enum {
    WHY_MAX = 160,
    PREFIX = 5,
    HEADER_LIST_MAX = 64 << 10, /* of the peer's; nghttp2 takes no more either */
};
static const uint64_t ping_timeout = 20 * MESH_SEC;

struct mesh_grpc {
    nghttp2_session *session;
    char *path, *authority, *bearer; /* bearer NULL: none */
    bool is_tls;
    const struct mesh_grpc_events *events;
    void *arg;
    int32_t stream;   /* 0: not open yet */
    bool wants_ready; /* the peer's SETTINGS have come */
    bool closed;      /* `closed` was called */
    bool calmed;

    /* how it ends, told once nghttp2 has returned */
    bool ending;
    int status;
    char why[WHY_MAX];

    /* of the peer's headers */
    int http_status;
    bool is_grpc, has_status, has_message;
    int grpc_status;
    char grpc_message[WHY_MAX];

    struct mesh_grpc_reader reader;

    /* messages that wait, prefixes included: [sent, len) */
    uint8_t *queue;
    size_t queue_sent, queue_len, queue_cap;

    const uint8_t *out; /* nghttp2's, until it is asked again */
    size_t out_len;

    uint64_t keepalive, heard, ping_deadline; /* ping_deadline 0: not asked */
};

static void end(struct mesh_grpc *g, int status, const char *why) {
    if (g->ending)
        return;
    g->ending = true;
    g->status = status;
    snprintf(g->why, sizeof g->why, "%s", why);
}

/* Our own refusal: the peer is told, the connection goes with the stream. */
static void refuse(struct mesh_grpc *g, int status, uint32_t code, const char *why) {
    (void)nghttp2_submit_rst_stream(g->session, NGHTTP2_FLAG_NONE, g->stream, code);
    end(g, status, why);
}

static void tell_end(struct mesh_grpc *g) {
    if (!g->ending || g->closed)
        return;
    g->closed = true;
    g->events->closed(g->arg, g->status, g->why);
}

/* ---- what the peer says -----------------------------------------------------------------------------------
 */
static bool is_name(const uint8_t *name, size_t n, const char *what) {
    return n == strlen(what) && memcmp(name, what, n) == 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t n,
                     const uint8_t *value, size_t len, uint8_t flags, void *arg) {
    struct mesh_grpc *g = arg;
    static const char grpc_type[] = "application/grpc";
    if (frame->hd.stream_id != g->stream)
        return 0;
    if (is_name(name, n, ":status")) {
        g->http_status = 0; /* nghttp2 has seen that these are three digits */
        for (size_t i = 0; i < len && i < 3; i++)
            g->http_status = g->http_status * 10 + value[i] - '0';
    } else if (is_name(name, n, "content-type")) {
        g->is_grpc = len >= sizeof grpc_type - 1 && memcmp(value, grpc_type, sizeof grpc_type - 1) == 0;
    } else if (is_name(name, n, "grpc-status")) {
        g->has_status = true;
        g->grpc_status = mesh_grpc_status_parse(value, len);
    } else if (is_name(name, n, "grpc-message")) {
        g->has_message = true;
        mesh_grpc_message_decode(value, len, g->grpc_message, sizeof g->grpc_message);
    }
    return 0;
}

/* The peer has ended its half: by trailers, by headers alone, or out of order. */
static void on_end(struct mesh_grpc *g) {
    char why[WHY_MAX];
    if (g->has_status) {
        snprintf(why, sizeof why, "the server ended the stream with status %d%s%.100s", g->grpc_status,
                 g->has_message ? ": " : "", g->grpc_message);
        bool cut = g->grpc_status == MESH_GRPC_OK && mesh_grpc_reader_is_inside(&g->reader);
        end(g, cut ? MESH_GRPC_INTERNAL : g->grpc_status, cut ? "the stream ended inside a message" : why);
    } else if (g->http_status != 200) {
        snprintf(why, sizeof why, "the server answered with HTTP status %d", g->http_status);
        end(g, mesh_grpc_status_of_http(g->http_status), why);
    } else {
        end(g, MESH_GRPC_UNKNOWN,
            g->is_grpc ? "the stream ended without a status" : "the server does not speak gRPC");
    }
    (void)nghttp2_submit_rst_stream(g->session, NGHTTP2_FLAG_NONE, g->stream, NGHTTP2_NO_ERROR);
}

static void on_goaway(struct mesh_grpc *g, const nghttp2_goaway *goaway) {
    if (goaway->error_code == NGHTTP2_ENHANCE_YOUR_CALM)
        g->calmed = true;
    if (goaway->error_code != NGHTTP2_NO_ERROR) {
        char text[64], why[WHY_MAX];
        mesh_grpc_message_decode(goaway->opaque_data, goaway->opaque_data_len, text, sizeof text);
        snprintf(why, sizeof why, "the server sent GOAWAY %s%s%s", nghttp2_http2_strerror(goaway->error_code),
                 text[0] ? ": " : "", text);
        end(g, MESH_GRPC_UNAVAILABLE, why);
    } else if (!g->stream || goaway->last_stream_id < g->stream) {
        end(g, MESH_GRPC_UNAVAILABLE, "the server is going away");
    } /* else the stream goes on until it ends */
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg) {
    struct mesh_grpc *g = arg;
    if (frame->hd.type == NGHTTP2_SETTINGS && !(frame->hd.flags & NGHTTP2_FLAG_ACK) && !g->stream)
        g->wants_ready = true;
    if (frame->hd.type == NGHTTP2_GOAWAY)
        on_goaway(g, &frame->goaway);
    if (frame->hd.stream_id == g->stream && g->stream && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
        (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS))
        on_end(g);
    return 0;
}

static void take(struct mesh_grpc *g, const uint8_t *p, size_t n) {
    while (n && !g->ending) {
        bool whole;
        int took = mesh_grpc_reader_feed(&g->reader, p, n, &whole);
        if (took == MESH_E_LIMIT) {
            refuse(g, MESH_GRPC_RESOURCE_EXHAUSTED, NGHTTP2_CANCEL, "a message of more than 64 MiB");
        } else if (took == MESH_E_PROTOCOL) {
            refuse(g, MESH_GRPC_INTERNAL, NGHTTP2_CANCEL, "a compressed message, which was not offered");
        } else if (took < 0) {
            refuse(g, MESH_GRPC_RESOURCE_EXHAUSTED, NGHTTP2_CANCEL, "out of memory");
        } else {
            p += took;
            n -= (size_t)took;
            if (whole) {
                g->events->message(g->arg, g->reader.bytes, g->reader.have);
                mesh_grpc_reader_next(&g->reader);
            }
        }
    }
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *p, size_t n,
                   void *arg) {
    struct mesh_grpc *g = arg;
    if (stream == g->stream && g->http_status == 200 && g->is_grpc)
        take(g, p, n);
    return nghttp2_session_consume(session, stream, n) == NGHTTP2_ERR_NOMEM ? NGHTTP2_ERR_CALLBACK_FAILURE
                                                                            : 0;
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t code, void *arg) {
    struct mesh_grpc *g = arg;
    char why[WHY_MAX];
    if (stream != g->stream)
        return 0;
    snprintf(why, sizeof why, "the server reset the stream: %s", nghttp2_http2_strerror(code));
    end(g, mesh_grpc_status_of_reset(code), why);
    return 0;
}

/* nghttp2's own words for what the peer did wrong. */
static int on_error(nghttp2_session *session, int lib_error, const char *p, size_t n, void *arg) {
    struct mesh_grpc *g = arg;
    char why[WHY_MAX];
    mesh_grpc_message_decode((const uint8_t *)p, n, why, sizeof why);
    if (lib_error == NGHTTP2_ERR_SETTINGS_EXPECTED)
        end(g, MESH_GRPC_UNAVAILABLE, "the server does not speak HTTP/2");
    return 0;
}

/* ---- what we say ------------------------------------------------------------------------------------------
 */
static ssize_t read_queue(nghttp2_session *session, int32_t stream, uint8_t *buf, size_t cap, uint32_t *flags,
                          nghttp2_data_source *source, void *arg) {
    struct mesh_grpc *g = arg;
    size_t left = g->queue_len - g->queue_sent, n = left < cap ? left : cap;
    if (!n)
        return NGHTTP2_ERR_DEFERRED;
    memcpy(buf, g->queue + g->queue_sent, n);
    g->queue_sent += n;
    return (ssize_t)n;
}

static nghttp2_nv header(const char *name, const char *value) {
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), strlen(value),
                        NGHTTP2_NV_FLAG_NONE};
}

static int open_stream(struct mesh_grpc *g) {
    nghttp2_nv headers[] = {
        header(":method", "POST"),
        header(":scheme", g->is_tls ? "https" : "http"),
        header(":path", g->path),
        header(":authority", g->authority),
        header("te", "trailers"),
        header("content-type", "application/grpc"),
        header("user-agent", "meshshim/1"),
        header("grpc-accept-encoding", "identity"),
        header("authorization", g->bearer ? g->bearer : ""), /* last: left out when there is none */
    };
    size_t n = MESH_ARRAY_LEN(headers) - !g->bearer;
    if (g->bearer)
        headers[n - 1].flags = NGHTTP2_NV_FLAG_NO_INDEX;
    nghttp2_data_provider data = {.read_callback = read_queue};
    int32_t id = nghttp2_submit_request(g->session, NULL, headers, n, &data, NULL);
    if (id < 0)
        return id == NGHTTP2_ERR_NOMEM ? MESH_E_NOMEM : MESH_E_INTERNAL;
    g->stream = id;
    return 0;
}

static void make_ready(struct mesh_grpc *g) {
    g->wants_ready = false;
    if (g->ending || g->stream)
        return;
    if (open_stream(g) != 0)
        end(g, MESH_GRPC_UNAVAILABLE, "out of memory");
    else
        g->events->ready(g->arg);
}

/* Room for n bytes at the end of the queue. */
static int queue_room(struct mesh_grpc *g, size_t n) {
    size_t left = g->queue_len - g->queue_sent;
    if (n > MESH_GRPC_QUEUE_MAX || left > MESH_GRPC_QUEUE_MAX - n)
        return MESH_E_LIMIT;
    if (g->queue_sent) {
        memmove(g->queue, g->queue + g->queue_sent, left);
        g->queue_sent = 0;
        g->queue_len = left;
    }
    if (n <= g->queue_cap - left)
        return 0;
    size_t cap = left + n > 2 * g->queue_cap ? left + n : 2 * g->queue_cap;
    uint8_t *more = realloc(g->queue, cap);
    if (!more)
        return MESH_E_NOMEM;
    g->queue = more;
    g->queue_cap = cap;
    return 0;
}

int mesh_grpc_send(struct mesh_grpc *g, const uint8_t *p, size_t n) {
    if (!g->stream || g->ending)
        return MESH_E_AGAIN;
    if (n > MESH_GRPC_QUEUE_MAX - PREFIX)
        return MESH_E_LIMIT;
    int err = queue_room(g, n + PREFIX);
    if (err)
        return err;
    struct mesh_wbuf w = mesh_wbuf_of(g->queue + g->queue_len, n + PREFIX);
    mesh_wbuf_u8(&w, 0);
    mesh_wbuf_u32(&w, (uint32_t)n);
    mesh_wbuf_put(&w, p, n);
    g->queue_len += n + PREFIX;
    /* An error says that nothing waited for it: then nghttp2 asks by itself. */
    (void)nghttp2_session_resume_data(g->session, g->stream);
    return 0;
}

/* ---- bytes ------------------------------------------------------------------------------------------------
 */
/* nghttp2 has found the peer at fault, said GOAWAY, and is done. */
static void look_for_end(struct mesh_grpc *g) {
    if (!nghttp2_session_want_read(g->session) && !nghttp2_session_want_write(g->session))
        end(g, MESH_GRPC_UNAVAILABLE, "the server broke the protocol");
}

void mesh_grpc_feed(struct mesh_grpc *g, const uint8_t *p, size_t n, uint64_t now) {
    if (g->closed)
        return;
    g->heard = now;
    g->ping_deadline = 0;
    ssize_t took = nghttp2_session_mem_recv(g->session, p, n);
    if (took < 0)
        end(g, MESH_GRPC_UNAVAILABLE, nghttp2_strerror((int)took));
    if (g->wants_ready)
        make_ready(g);
    look_for_end(g);
    tell_end(g);
}

size_t mesh_grpc_out(struct mesh_grpc *g, const uint8_t **ret_p) {
    if (!g->out_len) {
        ssize_t n = nghttp2_session_mem_send(g->session, &g->out);
        g->out_len = n > 0 ? (size_t)n : 0;
        if (n < 0)
            end(g, MESH_GRPC_UNAVAILABLE, nghttp2_strerror((int)n)); /* told by the next tick */
    }
    *ret_p = g->out;
    return g->out_len;
}

void mesh_grpc_sent(struct mesh_grpc *g, size_t n) {
    g->out += n;
    g->out_len -= n;
}

void mesh_grpc_tick(struct mesh_grpc *g, uint64_t now) {
    if (!g->ending && !g->ping_deadline && now >= g->heard + g->keepalive) {
        (void)nghttp2_submit_ping(g->session, NGHTTP2_FLAG_NONE, NULL); /* no memory: no answer */
        g->ping_deadline = now + ping_timeout;
    } else if (g->ping_deadline && now >= g->ping_deadline) {
        end(g, MESH_GRPC_UNAVAILABLE, "the server does not answer a ping");
    }
    look_for_end(g);
    tell_end(g);
}

uint64_t mesh_grpc_deadline(const struct mesh_grpc *g) {
    return g->closed ? UINT64_MAX : g->ping_deadline ? g->ping_deadline : g->heard + g->keepalive;
}

bool mesh_grpc_is_calmed(const struct mesh_grpc *g) {
    return g->calmed;
}

/* ---- life -------------------------------------------------------------------------------------------------
 */
static int session_new(struct mesh_grpc *g) {
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int rc = MESH_E_NOMEM;
    if (nghttp2_session_callbacks_new(&callbacks) != 0 || nghttp2_option_new(&option) != 0)
        goto out;
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_callbacks_set_error_callback2(callbacks, on_error);
    nghttp2_option_set_no_auto_window_update(option, 1);
    if (nghttp2_session_client_new2(&g->session, callbacks, g, option) == 0)
        rc = 0;
out:
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return rc;
}

static int greet(struct mesh_grpc *g) {
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, MESH_GRPC_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADER_LIST_MAX},
    };
    if (nghttp2_submit_settings(g->session, NGHTTP2_FLAG_NONE, settings, MESH_ARRAY_LEN(settings)) != 0 ||
        nghttp2_session_set_local_window_size(g->session, NGHTTP2_FLAG_NONE, 0, MESH_GRPC_WINDOW) != 0)
        return MESH_E_NOMEM;
    return 0;
}

static char *bearer_of(const char *token) {
    static const char scheme[] = "Bearer ";
    size_t n = strlen(token) + sizeof scheme;
    char *text = malloc(n);
    if (text)
        snprintf(text, n, "%s%s", scheme, token);
    return text;
}

int mesh_grpc_new(const struct mesh_grpc_config *cfg, uint64_t now, struct mesh_grpc **ret) {
    struct mesh_grpc *g = calloc(1, sizeof *g);
    if (!g)
        return MESH_E_NOMEM;
    g->is_tls = cfg->is_tls;
    g->events = cfg->events;
    g->arg = cfg->arg;
    g->keepalive = cfg->keepalive;
    g->heard = now;
    g->path = strdup(cfg->path);
    g->authority = strdup(cfg->authority);
    g->bearer = cfg->token ? bearer_of(cfg->token) : NULL;
    if (!g->path || !g->authority || (cfg->token && !g->bearer) || session_new(g) != 0 || greet(g) != 0) {
        mesh_grpc_free(g);
        return MESH_E_NOMEM;
    }
    *ret = g;
    return 0;
}

void mesh_grpc_free(struct mesh_grpc *g) {
    if (!g)
        return;
    nghttp2_session_del(g->session);
    mesh_grpc_reader_done(&g->reader);
    free(g->path);
    free(g->authority);
    if (g->bearer)
        mesh_zero(g->bearer, strlen(g->bearer));
    free(g->bearer);
    free(g->queue);
    free(g);
}
