// SPDX-License-Identifier: Apache-2.0
#include <criterion/criterion.h>
#include "tests/unit/shim/names_double.h"

static struct mesh_dns_question q;
static uint8_t out[4096];
static unsigned count;

/* id 1234, RD, one question: Ab.mesh A IN */
static const uint8_t query[] = {0x12, 0x34, 0x01, 0,   0,   1,   0,   0, 0, 0, 0, 0, 2,
                                'A',  'b',  4,    'm', 'e', 's', 'h', 0, 0, 1, 0, 1};

static struct mesh_names_addrs both(void) {
    struct mesh_names_addrs a = {.n = 2, .a = {{4, {241, 0, 0, 5}}, {6, {0xfd, [15] = 5}}}};
    return a;
}

static void ask(const char *name, uint16_t type) {
    cr_assert_eq(mesh_dns_question_of(name, type, MESH_DNS_IN, &q), 0);
}

Test(names_dns, query_is_read) {
    cr_assert_eq(mesh_dns_question_parse(query, sizeof query, &q), 0);
    cr_assert_eq(q.id, 0x1234);
    cr_assert_eq(q.type, MESH_DNS_A);
    cr_assert_eq(q.class, MESH_DNS_IN);
    cr_assert_str_eq(q.name, "Ab.mesh");
    cr_assert_eq(q.wire_len, 9);
}

Test(names_dns, every_cut_of_a_query_is_syntax) {
    for (size_t n = 0; n < sizeof query; n++)
        cr_assert_eq(mesh_dns_question_parse(query, n, &q), MESH_E_SYNTAX, "%zu bytes", n);
}

static int with(size_t at, uint8_t value) {
    uint8_t m[sizeof query];
    memcpy(m, query, sizeof m);
    m[at] = value;
    return mesh_dns_question_parse(m, sizeof m, &q);
}

Test(names_dns, other_messages_are_not_ours) {
    cr_assert_eq(with(2, 0x81), MESH_E_UNSUPPORTED, "a response");
    cr_assert_eq(with(2, 0x29), MESH_E_UNSUPPORTED, "an update");
    cr_assert_eq(with(5, 2), MESH_E_UNSUPPORTED, "two questions");
    cr_assert_eq(with(7, 1), MESH_E_UNSUPPORTED, "an answer beside it");
    cr_assert_eq(with(13, '.'), MESH_E_UNSUPPORTED, "a dot inside a label");
    cr_assert_eq(with(13, 0), MESH_E_UNSUPPORTED, "a NUL inside a label");
    cr_assert_eq(with(12, 0xc0), MESH_E_SYNTAX, "a pointer");
    cr_assert_eq(with(12, 0), MESH_E_UNSUPPORTED, "the root");
}

Test(names_dns, longest_name_is_read_and_one_more_is_not) {
    uint8_t m[MESH_DNS_HEADER + 300] = {0, 0, 1, 0, 0, 1};
    size_t at = MESH_DNS_HEADER;
    for (int i = 0; i < 4; i++) {
        size_t n = i < 3 ? 63 : 61;
        m[at++] = (uint8_t)n;
        memset(m + at, 'a', n);
        at += n;
    }
    cr_assert_eq(mesh_dns_question_parse(m, at + 5, &q), 0);
    cr_assert_eq(q.wire_len, 255);
    cr_assert_eq(strlen(q.name), 253);
    struct mesh_dns_question again;
    cr_assert_eq(mesh_dns_question_of(q.name, 1, 1, &again), 0);
    cr_assert_arr_eq(again.wire, q.wire, 255);
    m[at - 62] = 62;
    m[at++] = 'a';
    cr_assert_eq(mesh_dns_question_parse(m, at + 5, &q), MESH_E_SYNTAX);
}

Test(names_dns, names_that_dns_cannot_carry_are_unsupported) {
    static const char *const bad[] = {"", ".", "..", "a..b", ".a", "a b", "a\\.b", "a.b.."};
    char label[70];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_eq(mesh_dns_question_of(bad[i], 1, 1, &q), MESH_E_UNSUPPORTED, "'%s'", bad[i]);
    memset(label, 'a', 64);
    label[64] = '\0';
    cr_assert_eq(mesh_dns_question_of(label, 1, 1, &q), MESH_E_UNSUPPORTED);
    cr_assert_eq(mesh_dns_question_of(label + 1, 1, 1, &q), 0);
    cr_assert_eq(mesh_dns_question_of("a.b.", 1, 1, &q), 0);
    cr_assert_arr_eq(q.wire, "\1a\1b", 5);
}

Test(names_dns, address_answer_is_these_bytes) {
    static const uint8_t want[] = {0x12, 0x34, 0x85, 0x80, 0,   1,   0,  1, 0, 0,   0, 0,    2,  'A',
                                   'b',  4,    'm',  'e',  's', 'h', 0,  0, 1, 0,   1, 0xc0, 12, 0,
                                   1,    0,    1,    0,    0,   0,   30, 0, 4, 241, 0, 0,    5};
    struct mesh_names_addrs a = both();
    cr_assert_eq(mesh_dns_question_parse(query, sizeof query, &q), 0);
    int n = mesh_dns_answer_build(&q, 0, &a, NULL, out, sizeof out, &count);
    cr_assert_eq(n, sizeof want);
    cr_assert_arr_eq(out, want, sizeof want);
    cr_assert_eq(count, 1);
}

Test(names_dns, type_chooses_the_records) {
    struct mesh_names_addrs a = both();
    ask("ab.mesh", MESH_DNS_AAAA);
    int n = mesh_dns_answer_build(&q, 0, &a, NULL, out, sizeof out, &count);
    cr_assert_eq(n, (int)sizeof query + 12 + 16);
    ask("ab.mesh", MESH_DNS_ANY);
    n = mesh_dns_answer_build(&q, 0, &a, NULL, out, sizeof out, &count);
    cr_assert_eq(n, (int)sizeof query + 2 * 12 + 4 + 16);
    cr_assert_eq(count, 2);
    ask("ab.mesh", 15);
    n = mesh_dns_answer_build(&q, 0, &a, NULL, out, sizeof out, &count);
    cr_assert_eq(n, sizeof query);
    cr_assert_eq(count, 0);
    cr_assert_eq(out[3] & 15, 0, "no data is no error");
}

Test(names_dns, pointer_and_negative_answers) {
    ask("5.0.0.241.in-addr.arpa", MESH_DNS_PTR);
    int n = mesh_dns_answer_build(&q, 0, NULL, "ab.mesh", out, sizeof out, &count);
    cr_assert_eq(count, 1);
    cr_assert_arr_eq(out + n - 11, "\0\11\2ab\4mesh", 11);
    n = mesh_dns_answer_build(&q, MESH_DNS_NXDOMAIN, NULL, NULL, out, sizeof out, &count);
    cr_assert_eq(out[3] & 15, 3);
    cr_assert_eq(count, 0);
}

Test(names_dns, what_does_not_fit_is_left_out_whole) {
    struct mesh_names_addrs a = {.n = 64};
    for (int i = 0; i < 64; i++)
        a.a[i].family = 4;
    ask("ab.mesh", MESH_DNS_A);
    for (size_t cap = 0; cap < 25 + 64 * 16 + 5; cap++) {
        int n = mesh_dns_answer_build(&q, 0, &a, NULL, out, cap, &count);
        if (cap < 25) {
            cr_assert_eq(n, MESH_E_LIMIT);
            continue;
        }
        unsigned fit = (unsigned)((cap - 25) / 16 < 64 ? (cap - 25) / 16 : 64);
        cr_assert_eq(count, fit);
        cr_assert_eq(n, (int)(25 + 16 * fit));
        cr_assert_eq(out[7], fit);
        cr_assert_eq(!(out[2] & 2), fit == 64, "TC at %zu", cap);
    }
}

Test(names_dns, reverse_names_are_addresses) {
    uint8_t a[16];
    cr_assert_eq(mesh_dns_reverse_parse("5.0.0.241.in-addr.arpa", a), 4);
    cr_assert_arr_eq(a, ((uint8_t[]){241, 0, 0, 5}), 4);
    cr_assert_eq(mesh_dns_reverse_parse("5.0.0.241.IN-ADDR.ARPA.", a), 4);
    char six[80] = "5.";
    for (int i = 0; i < 27; i++)
        strcat(six, "0.");
    strcat(six, "D.6.d.f.ip6.arpa");
    cr_assert_eq(mesh_dns_reverse_parse(six, a), 6);
    cr_assert_arr_eq(a, ((uint8_t[16]){0xfd, 0x6d, [15] = 5}), 16);
    static const char *const none[] = {"",
                                       "in-addr.arpa",
                                       "0.0.241.in-addr.arpa",
                                       "5.0.0.0.241.in-addr.arpa",
                                       "256.0.0.241.in-addr.arpa",
                                       "5..0.241.in-addr.arpa",
                                       "0/25.0.0.241.in-addr.arpa",
                                       "5.0.0.241.arpa",
                                       "x.0.ip6.arpa"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        cr_assert_eq(mesh_dns_reverse_parse(none[i], a), 0, "%s", none[i]);
}
