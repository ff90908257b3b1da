/* SPDX-License-Identifier: Apache-2.0
 *
 * What travels beside data once the handshake is over: tickets, KeyUpdate, alerts.
 */
#include <string.h>
#include "tls/tls.h"

enum {
    HELLO_REQUEST = 0,
    NEW_SESSION_TICKET = 4,
    KEY_UPDATE = 24,
    TICKET_BODY_MAX = 4 + 4 + 1 + 255 + 2 + 65535 + 2 + 65535, /* RFC 8446 4.6.1: no legal ticket is longer */
};

void mesh_key_update_message(bool request, uint8_t ret_msg[5]) {
    const uint8_t msg[5] = {KEY_UPDATE, 0, 0, 1, request};
    memcpy(ret_msg, msg, sizeof msg);
}

/* A whole message header is in acc->head: 0, or MESH_E_PROTOCOL when such a message cannot come now. */
static int judge_header(struct mesh_post *acc, const struct mesh_record *r, bool server, int *io_actions) {
    uint32_t len = (uint32_t)acc->head[1] << 16 | (uint32_t)acc->head[2] << 8 | acc->head[3];
    if (r->version == 0x0304 && acc->head[0] == KEY_UPDATE)
        return len == 1 ? 0 : MESH_E_PROTOCOL;
    acc->have = 0;
    if (r->version == 0x0304 && !server && acc->head[0] == NEW_SESSION_TICKET && len <= TICKET_BODY_MAX) {
        *io_actions |= MESH_POST_TICKET;
        acc->skip = len;
        return 0;
    }
    if (r->version == 0x0303 && !server && acc->head[0] == HELLO_REQUEST && len == 0)
        return 0;
    return MESH_E_PROTOCOL;
}

int mesh_post_feed(struct mesh_post *acc, const struct mesh_record *r, bool server, const uint8_t *p,
                   size_t n) {
    int actions = MESH_POST_NONE;
    if (acc->have >= sizeof acc->head)
        return MESH_E_PROTOCOL;
    while (n) {
        if (acc->skip) {
            size_t step = acc->skip < n ? acc->skip : n;
            acc->skip -= (uint32_t)step;
            p += step;
            n -= step;
            continue;
        }
        acc->head[acc->have++] = *p++;
        n--;
        if (acc->have == 4 && judge_header(acc, r, server, &actions) != 0)
            return MESH_E_PROTOCOL;
        if (acc->have < 5)
            continue;
        acc->have = 0;
        if (n || acc->head[4] > 1) /* the key changes here: nothing may follow in the same record */
            return MESH_E_PROTOCOL;
        actions |= MESH_POST_KEY_UPDATE | (acc->head[4] ? MESH_POST_KEY_UPDATE_REPLY : 0);
    }
    return actions;
}

enum { CLOSE_NOTIFY = 0, USER_CANCELED = 90, WARNING = 1, FATAL = 2 };

int mesh_alert_read(const struct mesh_record *r, const uint8_t *p, size_t n, uint8_t *ret_alert) {
    if (n != 2)
        return MESH_E_PROTOCOL;
    if (p[1] == CLOSE_NOTIFY)
        return MESH_E_CLOSED;
    if (r->version == 0x0304) { /* RFC 8446 6: the level says nothing */
        if (p[1] == USER_CANCELED)
            return 0;
    } else if (p[0] == WARNING) {
        return 0;
    } else if (p[0] != FATAL) {
        return MESH_E_PROTOCOL;
    }
    *ret_alert = p[1];
    return MESH_E_ALERT;
}

static const char *const alert_names[256] = {
    [0] = "close_notify",
    [10] = "unexpected_message",
    [20] = "bad_record_mac",
    [21] = "decryption_failed",
    [22] = "record_overflow",
    [30] = "decompression_failure",
    [40] = "handshake_failure",
    [41] = "no_certificate",
    [42] = "bad_certificate",
    [43] = "unsupported_certificate",
    [44] = "certificate_revoked",
    [45] = "certificate_expired",
    [46] = "certificate_unknown",
    [47] = "illegal_parameter",
    [48] = "unknown_ca",
    [49] = "access_denied",
    [50] = "decode_error",
    [51] = "decrypt_error",
    [60] = "export_restriction",
    [70] = "protocol_version",
    [71] = "insufficient_security",
    [80] = "internal_error",
    [86] = "inappropriate_fallback",
    [90] = "user_canceled",
    [100] = "no_renegotiation",
    [109] = "missing_extension",
    [110] = "unsupported_extension",
    [111] = "certificate_unobtainable",
    [112] = "unrecognized_name",
    [113] = "bad_certificate_status_response",
    [114] = "bad_certificate_hash_value",
    [115] = "unknown_psk_identity",
    [116] = "certificate_required",
    [120] = "no_application_protocol",
};

/* The rest by number: ten bytes each, so that nothing is formatted and nothing is written. */
#define TEN(tens)                                                                                            \
    "alert " tens "0\0alert " tens "1\0alert " tens "2\0alert " tens "3\0alert " tens "4\0"                  \
    "alert " tens "5\0alert " tens "6\0alert " tens "7\0alert " tens "8\0alert " tens "9\0"
#define HUNDRED(h)                                                                                           \
    TEN(h "0")                                                                                               \
    TEN(h "1") TEN(h "2") TEN(h "3") TEN(h "4") TEN(h "5") TEN(h "6") TEN(h "7") TEN(h "8") TEN(h "9")
static const char alert_numbers[] = HUNDRED("0") HUNDRED("1") HUNDRED("2");

const char *mesh_alert_name(uint8_t alert) {
    return alert_names[alert] ? alert_names[alert] : alert_numbers + 10 * (size_t)alert;
}
