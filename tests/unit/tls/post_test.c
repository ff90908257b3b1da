/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <string.h>
#include "tls/tls.h"

static const struct mesh_record tls13 = {.version = 0x0304}, tls12 = {.version = 0x0303};
static const uint8_t plain_update[5] = {24, 0, 0, 1, 0}, asking_update[5] = {24, 0, 0, 1, 1};

static int feed13(bool server, const void *p, size_t n) {
    struct mesh_post acc = {0};
    return mesh_post_feed(&acc, &tls13, server, p, n);
}

Test(post, key_updates_are_told_apart) {
    cr_assert_eq(feed13(true, plain_update, 5), MESH_POST_KEY_UPDATE);
    cr_assert_eq(feed13(false, asking_update, 5), MESH_POST_KEY_UPDATE | MESH_POST_KEY_UPDATE_REPLY);
}

Test(post, own_key_update_message_is_one_that_we_accept) {
    uint8_t msg[5];
    mesh_key_update_message(true, msg);
    cr_assert_arr_eq(msg, asking_update, 5);
    mesh_key_update_message(false, msg);
    cr_assert_arr_eq(msg, plain_update, 5);
}

Test(post, a_key_update_cut_at_any_place_is_put_together) {
    for (size_t cut = 1; cut < 5; cut++) {
        struct mesh_post acc = {0};
        cr_assert_eq(mesh_post_feed(&acc, &tls13, false, asking_update, cut), 0);
        cr_assert_eq(mesh_post_feed(&acc, &tls13, false, asking_update + cut, 5 - cut), 3);
    }
    struct mesh_post acc = {0};
    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(mesh_post_feed(&acc, &tls13, false, asking_update + i, 1), 0);
    cr_assert_eq(mesh_post_feed(&acc, &tls13, false, asking_update + 4, 1), 3);
}

Test(post, bad_key_updates_are_refused) {
    cr_assert_eq(feed13(true, (uint8_t[]){24, 0, 0, 1, 2}, 5), MESH_E_PROTOCOL);
    cr_assert_eq(feed13(true, (uint8_t[]){24, 0, 0, 2, 0}, 5), MESH_E_PROTOCOL);
    cr_assert_eq(feed13(true, (uint8_t[]){24, 0, 0, 0}, 4), MESH_E_PROTOCOL);
    cr_assert_eq(feed13(true, (uint8_t[]){24, 0, 0, 1, 0, 24}, 6),
                 MESH_E_PROTOCOL); /* not the end of its record */
    cr_assert_eq(feed13(true, (uint8_t[]){24, 1, 0, 1, 0}, 5), MESH_E_PROTOCOL);
}

static size_t ticket(uint8_t *p, size_t body) {
    memset(p, 24, body + 4); /* a body that looks like KeyUpdates */
    p[0] = 4;
    p[1] = (uint8_t)(body >> 16);
    p[2] = (uint8_t)(body >> 8);
    p[3] = (uint8_t)body;
    return body + 4;
}

Test(post, tickets_cut_and_joined_are_stepped_over) {
    uint8_t two[600];
    size_t n = ticket(two, 200);
    n += ticket(two + n, 100);
    cr_assert_eq(feed13(false, two, n), MESH_POST_TICKET);
    for (size_t cut = 1; cut < n; cut++) {
        struct mesh_post acc = {0};
        int a = mesh_post_feed(&acc, &tls13, false, two, cut),
            b = mesh_post_feed(&acc, &tls13, false, two + cut, n - cut);
        cr_assert_eq(a | b, MESH_POST_TICKET, "cut %zu: %d %d", cut, a, b);
        cr_assert(acc.have == 0 && acc.skip == 0);
    }
    memcpy(two + n, asking_update, 5);
    cr_assert_eq(feed13(false, two, n + 5),
                 MESH_POST_TICKET | MESH_POST_KEY_UPDATE | MESH_POST_KEY_UPDATE_REPLY);
}

Test(post, messages_that_cannot_come_are_refused) {
    uint8_t msg[64];
    for (int type = 0; type < 256; type++) {
        memset(msg, 0, sizeof msg);
        msg[0] = (uint8_t)type;
        msg[3] = 1;
        cr_assert_eq(feed13(true, msg, 5), type == 24 ? MESH_POST_KEY_UPDATE : MESH_E_PROTOCOL);
        cr_assert_eq(feed13(false, msg, 5), type == 24  ? MESH_POST_KEY_UPDATE
                                            : type == 4 ? MESH_POST_TICKET
                                                        : MESH_E_PROTOCOL);
    }
}

Test(post, a_ticket_longer_than_the_rfc_allows_is_refused) {
    cr_assert_eq(feed13(false, (uint8_t[]){4, 3, 0, 0}, 4), MESH_E_PROTOCOL);
    cr_assert_eq(feed13(false, (uint8_t[]){4, 2, 0, 0}, 4), MESH_POST_TICKET);
}

Test(post, tls12_ignores_hello_request_and_refuses_renegotiation) {
    struct mesh_post acc = {0};
    cr_assert_eq(mesh_post_feed(&acc, &tls12, false, (uint8_t[]){0, 0, 0, 0}, 4), 0);
    cr_assert_eq(mesh_post_feed(&acc, &tls12, false, (uint8_t[]){0, 0, 0, 0, 0, 0, 0, 0}, 8), 0);
    for (int type = 0; type < 256; type++) {
        struct mesh_post fresh = {0};
        cr_assert_eq(mesh_post_feed(&fresh, &tls12, true, (uint8_t[]){(uint8_t)type, 0, 0, 0}, 4),
                     MESH_E_PROTOCOL);
    }
    memset(&acc, 0, sizeof acc);
    cr_assert_eq(mesh_post_feed(&acc, &tls12, false, plain_update, 5), MESH_E_PROTOCOL);
}

Test(post, a_torn_state_from_shared_memory_is_refused) {
    struct mesh_post acc = {.have = 200};
    cr_assert_eq(mesh_post_feed(&acc, &tls13, false, plain_update, 5), MESH_E_PROTOCOL);
}

static int alert(const struct mesh_record *r, uint8_t level, uint8_t number, uint8_t *ret) {
    return mesh_alert_read(r, (uint8_t[]){level, number}, 2, ret);
}

Test(post, alerts_are_read_by_version) {
    uint8_t a = 255;
    cr_assert_eq(alert(&tls13, 1, 0, &a), MESH_E_CLOSED);
    cr_assert_eq(alert(&tls12, 1, 0, &a), MESH_E_CLOSED);
    cr_assert_eq(alert(&tls13, 1, 90, &a), 0);
    cr_assert_eq(alert(&tls12, 1, 100, &a), 0);
    cr_assert_eq(a, 255);
    cr_assert_eq(alert(&tls13, 1, 42, &a), MESH_E_ALERT); /* 1.3: whatever the level */
    cr_assert_eq(a, 42);
    cr_assert_eq(alert(&tls12, 2, 48, &a), MESH_E_ALERT);
    cr_assert_eq(a, 48);
    cr_assert_eq(alert(&tls12, 3, 48, &a), MESH_E_PROTOCOL);
}

Test(post, malformed_alerts_are_refused) {
    uint8_t a;
    for (size_t n = 0; n < 6; n++)
        if (n != 2)
            cr_assert_eq(mesh_alert_read(&tls13, (const uint8_t *)"\2\50\2\50\2\50", n, &a), MESH_E_PROTOCOL);
}

Test(post, alerts_have_names) {
    cr_assert_str_eq(mesh_alert_name(42), "bad_certificate");
    cr_assert_str_eq(mesh_alert_name(116), "certificate_required");
    cr_assert_str_eq(mesh_alert_name(200), "alert 200");
    cr_assert_str_eq(mesh_alert_name(7), "alert 007");
    cr_assert_str_eq(mesh_alert_name(255), "alert 255");
}
