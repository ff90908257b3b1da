/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include "resolver/builder.h"
#include "resolver/health.h"
#include "shim/base/mem.h"

typedef Mesh__Core__HealthCheck Check;

static uint32_t needed_ms(struct build_reading *x, const Mesh__Pb__Duration *d, const char *field) {
    if (!d)
        mesh_build_bad(x, field, "must be given");
    return mesh_build_ms(x, d, field, 1, 1);
}

static uint32_t needed(struct build_reading *x, const Mesh__Pb__UInt32Value *v, const char *field) {
    if (!v)
        mesh_build_bad(x, field, "must be given");
    return mesh_build_u32(x, v, field, 1, 1, UINT32_MAX);
}

static void read_policy(struct build_reading *x, const Check *c, struct mesh_check_policy *p) {
    *p = (struct mesh_check_policy){
        .timeout = needed_ms(x, c->timeout, "timeout"),
        .interval = needed_ms(x, c->interval, "interval"),
        .unhealthy_threshold = needed(x, c->unhealthy_threshold, "unhealthy_threshold"),
        .healthy_threshold = needed(x, c->healthy_threshold, "healthy_threshold"),
        .no_traffic_interval = mesh_build_ms(x, c->no_traffic_interval, "no_traffic_interval", 60000, 1),
        .no_traffic_healthy_interval =
            mesh_build_ms(x, c->no_traffic_healthy_interval, "no_traffic_healthy_interval", 0, 1),
        .unhealthy_interval = mesh_build_ms(x, c->unhealthy_interval, "unhealthy_interval", 0, 1),
        .unhealthy_edge_interval =
            mesh_build_ms(x, c->unhealthy_edge_interval, "unhealthy_edge_interval", 0, 1),
        .healthy_edge_interval = mesh_build_ms(x, c->healthy_edge_interval, "healthy_edge_interval", 0, 1),
        .interval_jitter = mesh_build_ms(x, c->interval_jitter, "interval_jitter", 0, 0),
        .interval_jitter_percent = c->interval_jitter_percent,
        .initial_jitter = mesh_build_ms(x, c->initial_jitter, "initial_jitter", 0, 0),
    };
    if (c->interval_jitter_percent > 1000)
        mesh_build_bad(x, "interval_jitter_percent", "must be at most 1000");
}

static int hex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Its bytes: text is written in hexadecimal. How many, or -1: not hexadecimal, or no room. */
static int payload(const Mesh__Core__HealthCheck__Payload *p, uint8_t *ret, size_t room) {
    if (p->payload_case == MESH__CORE__HEALTH_CHECK__PAYLOAD__PAYLOAD_BINARY) {
        if (p->binary.len > room)
            return -1;
        memcpy(ret, p->binary.data, p->binary.len);
        return (int)p->binary.len;
    }
    size_t n = p->payload_case == MESH__CORE__HEALTH_CHECK__PAYLOAD__PAYLOAD_TEXT ? strlen(p->text) : 0;
    if (n % 2 || n / 2 > room)
        return -1;
    for (size_t i = 0; i < n / 2; i++) {
        int high = hex(p->text[2 * i]), low = hex(p->text[2 * i + 1]);
        if (high < 0 || low < 0)
            return -1;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return (int)(n / 2);
}

static void read_tcp(struct build_reading *x, const Mesh__Core__HealthCheck__TcpHealthCheck *t,
                     struct mesh_probe_spec *s) {
    int n = t->send ? payload(t->send, s->send, sizeof s->send) : 0;
    size_t at = 0;
    if (n < 0)
        mesh_build_bad(x, "tcp_health_check.send", "must be hexadecimal and at most 1024 bytes");
    s->send_len = (uint16_t)(n > 0 ? n : 0);
    if (t->n_receive > MESH_PROBE_PATTERNS)
        mesh_build_bad(x, "tcp_health_check.receive", "has more than 8 entries");
    for (size_t i = 0; i < t->n_receive && i < MESH_PROBE_PATTERNS; i++) {
        n = payload(t->receive[i], s->want + at, sizeof s->want - at);
        if (n < 0)
            mesh_build_bad(x, "tcp_health_check.receive", "must be hexadecimal and at most 1024 bytes");
        at += (size_t)(n > 0 ? n : 0);
        s->want_len[s->nwant++] = (uint16_t)(n > 0 ? n : 0);
    }
    s->kind = s->send_len || s->nwant ? MESH_PROBE_BYTES : MESH_PROBE_CONNECT;
}

static bool is_printable(const char *text) {
    for (; *text; text++)
        if (*text <= ' ' || *text >= 127)
            return false;
    return true;
}

static void read_http(struct build_reading *x, const Mesh__Core__HealthCheck__HttpHealthCheck *t,
                      const char *cluster, struct mesh_probe_spec *s) {
    static const char *const methods[] = {"GET",    "GET",     "HEAD",    "POST",  "PUT",
                                          "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
    const char *method = (size_t)t->method < MESH_ARRAY_LEN(methods) ? methods[t->method] : NULL;
    const char *path = t->path ? t->path : "", *host = t->host && *t->host ? t->host : cluster;
    s->kind = MESH_PROBE_HTTP;
    if (*path != '/' || !is_printable(path) || strlen(path) > 512)
        mesh_build_bad(x, "http_health_check.path", "must begin with / and hold no spaces");
    if (!is_printable(host) || strlen(host) >= sizeof s->host)
        mesh_build_bad(x, "http_health_check.host", "is no host");
    if (!method || strcmp(method, "CONNECT") == 0)
        mesh_build_bad(x, "http_health_check.method", "is not supported");
    if (t->n_expected_statuses > MESH_PROBE_STATUSES)
        mesh_build_bad(x, "http_health_check.expected_statuses", "has more than 8 entries");
    for (size_t i = 0; i < t->n_expected_statuses && i < MESH_PROBE_STATUSES; i++) {
        int64_t from = t->expected_statuses[i]->start, to = t->expected_statuses[i]->end;
        if (from < 100 || to > 600 || from >= to)
            mesh_build_bad(x, "http_health_check.expected_statuses", "must lie within 100 to 600");
        s->status[s->nstatus].from = (uint16_t)from;
        s->status[s->nstatus++].to = (uint16_t)to;
    }
    if (x->rc)
        return;
    snprintf(s->host, sizeof s->host, "%s", host);
    s->send_len = (uint16_t)snprintf(
        (char *)s->send, sizeof s->send,
        "%s %s HTTP/1.1\r\nUser-Agent: Envoy/HC\r\nConnection: close\r\nHost: ", method, path);
}

/* Is the cluster dialled in clear, whatever the endpoint? */
static bool is_clear(const Mesh__Cluster__Cluster *c, enum mesh_tls_default tls) {
    if (c->n_transport_socket_matches)
        return false;
    if (!c->transport_socket)
        return tls == MESH_TLS_VIEW;
    const char *name = c->transport_socket->name ? c->transport_socket->name : "";
    return mesh_any_is(c->transport_socket->typed_config, &mesh__tls__raw_buffer__descriptor) ||
           (!c->transport_socket->typed_config && strcmp(name, "envoy.transport_sockets.raw_buffer") == 0);
}

int mesh_probe_read(const Mesh__Cluster__Cluster *c, enum mesh_tls_default tls, struct mesh_probe_spec *ret,
                    struct mesh_why *why) {
    struct build_reading x = {.why = why, .at = "health_checks[0]."};
    const Check *k = c->n_health_checks ? c->health_checks[0] : NULL;
    memset(ret, 0, sizeof *ret);
    if (!k)
        return MESH_E_NOTFOUND;
    read_policy(&x, k, &ret->policy);
    ret->port = (uint16_t)mesh_build_u32(&x, k->alt_port, "alt_port", 0, 1, UINT16_MAX);
    if (k->health_checker_case == MESH__CORE__HEALTH_CHECK__HEALTH_CHECKER_TCP_HEALTH_CHECK)
        read_tcp(&x, k->tcp_health_check, ret);
    else if (k->health_checker_case == MESH__CORE__HEALTH_CHECK__HEALTH_CHECKER_HTTP_HEALTH_CHECK)
        read_http(&x, k->http_health_check, c->name ? c->name : "", ret);
    else if (!x.rc)
        return mesh_why(why, MESH_E_UNSUPPORTED, "health_checks[0]: only TCP and HTTP/1.1 are checked");
    if (x.rc)
        return x.rc;
    if (c->n_health_checks > 1)
        return mesh_why(why, MESH_E_UNSUPPORTED, "health_checks: more than one check is not supported");
    if (ret->kind == MESH_PROBE_HTTP && k->http_health_check->codec_client_type)
        return mesh_why(why, MESH_E_UNSUPPORTED,
                        "health_checks[0].http_health_check: only HTTP/1.1 is checked");
    if (!is_clear(c, tls))
        return mesh_why(why, MESH_E_UNSUPPORTED, "health_checks[0]: checks inside TLS are not made");
    return 0;
}

/* ---- answers ----------------------------------------------------------------------------------------------
 */
static int judge_bytes(const struct mesh_probe_spec *s, const uint8_t *p, size_t n) {
    const uint8_t *want = s->want;
    for (uint16_t i = 0; i < s->nwant; want += s->want_len[i++]) {
        const uint8_t *at = s->want_len[i] ? memmem(p, n, want, s->want_len[i]) : p;
        if (!at)
            return 0;
        n -= (size_t)(at - p) + s->want_len[i];
        p = at + s->want_len[i];
    }
    return 1;
}

static int judge_http(const struct mesh_probe_spec *s, const uint8_t *p, size_t n) {
    unsigned status = 0;
    if (n < 13) /* HTTP/1.1 200 and what follows */
        return 0;
    if (memcmp(p, "HTTP/1.", 7) != 0 || p[8] != ' ' || (p[12] != ' ' && p[12] != '\r'))
        return MESH_E_PROTOCOL;
    for (int i = 9; i < 12; i++) {
        if (p[i] < '0' || p[i] > '9')
            return MESH_E_PROTOCOL;
        status = status * 10 + p[i] - '0';
    }
    bool good = !s->nstatus && status == 200;
    for (uint16_t i = 0; i < s->nstatus; i++)
        good |= status >= s->status[i].from && status < s->status[i].to;
    return good ? 1 : MESH_E_PROTOCOL;
}

int mesh_probe_judge(const struct mesh_probe_spec *s, const uint8_t *p, size_t n) {
    return s->kind == MESH_PROBE_CONNECT ? 1
           : s->kind == MESH_PROBE_BYTES ? judge_bytes(s, p, n)
                                         : judge_http(s, p, n);
}
