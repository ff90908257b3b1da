/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/resolver/grpc_peer.h"

static const char *field(const struct peer *p, const char *name) {
    for (int i = 0; i < p->nfields; i++)
        if (strcmp(p->fields[i][0], name) == 0)
            return p->fields[i][1];
    return "";
}

Test(grpc, request_is_what_gRPC_asks_for) {
    struct peer p = {0};
    peer_start(&p, &(struct mesh_grpc_config){
                       .path = "/pkg.S/M", .authority = "xds.example:443", .token = "abc", .is_tls = true});
    cr_expect_eq(mesh_grpc_send(p.g, (const uint8_t *)"", 0), MESH_E_AGAIN, "before the server has spoken");
    peer_pump(&p);
    cr_expect_eq(p.ready, 1);
    cr_expect_str_eq(field(&p, ":method"), "POST");
    cr_expect_str_eq(field(&p, ":scheme"), "https");
    cr_expect_str_eq(field(&p, ":path"), "/pkg.S/M");
    cr_expect_str_eq(field(&p, ":authority"), "xds.example:443");
    cr_expect_str_eq(field(&p, "te"), "trailers");
    cr_expect_str_eq(field(&p, "content-type"), "application/grpc");
    cr_expect_str_eq(field(&p, "grpc-accept-encoding"), "identity");
    cr_expect_str_eq(field(&p, "authorization"), "Bearer abc");
    cr_expect(strstr(field(&p, "user-agent"), "meshshim"));
    cr_expect_eq(nghttp2_session_get_stream_remote_window_size(p.server, p.stream), MESH_GRPC_WINDOW);
    cr_expect_eq(nghttp2_session_get_remote_window_size(p.server), MESH_GRPC_WINDOW);
    peer_done(&p);
    peer_start(&p, NULL);
    peer_pump(&p);
    cr_expect_str_eq(field(&p, ":scheme"), "http");
    cr_expect_str_eq(field(&p, "authorization"), "");
    peer_done(&p);
}

Test(grpc, messages_are_sent_with_their_prefix) {
    struct peer p = {0};
    peer_open(&p);
    cr_assert_eq(p.got_len, 10u);
    cr_expect_eq(memcmp(p.got, "\0\0\0\0\5hello", 10), 0);
    cr_assert_eq(mesh_grpc_send(p.g, NULL, 0), 0);
    cr_assert_eq(mesh_grpc_send(p.g, (const uint8_t *)"xy", 2), 0);
    peer_pump(&p);
    cr_assert_eq(p.got_len, 22u);
    cr_expect_eq(memcmp(p.got + 10, "\0\0\0\0\0\0\0\0\0\2xy", 12), 0);
    peer_done(&p);
}

Test(grpc, more_than_the_window_is_sent_as_it_opens) {
    struct peer p = {0};
    enum { N = 1 << 20 };
    uint8_t *big = calloc(1, N);
    peer_open(&p);
    cr_assert_eq(mesh_grpc_send(p.g, big, N), 0);
    peer_pump(&p);
    cr_expect_eq(p.got_len, 10u + 5 + N);
    cr_expect_eq(mesh_grpc_send(p.g, big, MESH_GRPC_QUEUE_MAX), MESH_E_LIMIT);
    free(big);
    peer_done(&p);
}

Test(grpc, queue_has_a_limit) {
    struct peer p = {0};
    enum { N = 16 << 20 };
    uint8_t *big = calloc(1, N);
    int n = 0;
    peer_open(&p);
    while (n < 9 && mesh_grpc_send(p.g, big, N) == 0)
        n++;
    cr_expect_eq(n, 3, "%d", n);
    free(big);
    peer_done(&p);
}

Test(grpc, messages_are_whole_at_every_cut) {
    static const size_t lengths[] = {0, 1, 7, 300, 0, 17000, 5};
    for (size_t cut = 1; cut < 40; cut++) {
        struct peer p = {.cut = cut};
        uint64_t sums[7];
        peer_open(&p);
        for (int i = 0; i < 7; i++)
            sums[i] = peer_message(&p, lengths[i], (unsigned)i);
        peer_pump(&p);
        cr_assert_eq(p.messages, 7, "cut %zu: %d", cut, p.messages);
        for (int i = 0; i < 7; i++)
            cr_assert(p.lengths[i] == lengths[i] && p.sums[i] == sums[i], "cut %zu, message %d", cut, i);
        cr_assert(!p.closed);
        peer_done(&p);
    }
}

Test(grpc, message_larger_than_the_window_arrives) {
    struct peer p = {0};
    peer_open(&p);
    uint64_t sum = peer_message(&p, 20 << 20, 1);
    peer_pump(&p);
    cr_assert_eq(p.messages, 1);
    cr_expect_eq(p.lengths[0], 20u << 20);
    cr_expect_eq(p.sums[0], sum);
    peer_done(&p);
}

Test(grpc, largest_message_arrives_and_larger_is_refused_by_its_prefix) {
    struct peer p = {0};
    peer_open(&p);
    peer_message(&p, MESH_GRPC_MESSAGE_MAX, 1);
    peer_pump(&p);
    cr_expect_eq(p.messages, 1);
    peer_prefix(&p, 0, MESH_GRPC_MESSAGE_MAX + 1);
    peer_pump(&p);
    cr_expect_eq(p.closed, 1);
    cr_expect_eq(p.status, MESH_GRPC_RESOURCE_EXHAUSTED);
    cr_expect(strstr(p.why, "64 MiB"), "%s", p.why);
    cr_expect_eq(p.reset, NGHTTP2_CANCEL + 1u);
    cr_expect_eq(mesh_grpc_send(p.g, NULL, 0), MESH_E_AGAIN);
    peer_done(&p);
}

Test(grpc, announced_length_takes_no_memory) {
    struct mesh_grpc_reader r = {0};
    bool whole;
    cr_assert_eq(mesh_grpc_reader_feed(&r, (const uint8_t *)"\0\3\0\0\0xy", 7, &whole), 7);
    cr_expect(!whole);
    cr_expect_leq(r.cap, 16u << 10);
    mesh_grpc_reader_done(&r);
}

Test(grpc, compressed_message_is_refused) {
    struct peer p = {0};
    peer_open(&p);
    peer_prefix(&p, 1, 3);
    peer_pump(&p);
    cr_expect_eq(p.closed, 1);
    cr_expect_eq(p.status, MESH_GRPC_INTERNAL);
    cr_expect(strstr(p.why, "compressed"));
    peer_done(&p);
}

static void ends(const char *status, const char *message, int as, const char *says) {
    struct peer p = {0};
    peer_open(&p);
    peer_message(&p, 3, 0);
    peer_end(&p, status, message);
    peer_pump(&p);
    cr_expect_eq(p.messages, 1);
    cr_expect_eq(p.closed, 1);
    cr_expect_eq(p.status, as, "%s: %d", status, p.status);
    cr_expect(strstr(p.why, says), "%s", p.why);
    cr_expect_eq(p.reset, NGHTTP2_NO_ERROR + 1u, "our half ends too");
    peer_done(&p);
}

Test(grpc, trailers_say_how_it_ended) {
    ends("0", NULL, MESH_GRPC_OK, "status 0");
    ends("14", "bye", MESH_GRPC_UNAVAILABLE, "bye");
    ends("7", "no%20%C3%BC%0Aline%2", MESH_GRPC_PERMISSION_DENIED, "no ü line%2");
    ends("12", "unknown method", MESH_GRPC_UNIMPLEMENTED, "unknown method");
    ends("17", NULL, MESH_GRPC_UNKNOWN, "");
    ends("x", NULL, MESH_GRPC_UNKNOWN, "");
    ends("", NULL, MESH_GRPC_UNKNOWN, "");
}

Test(grpc, end_inside_a_message_is_an_error) {
    struct peer p = {0};
    peer_open(&p);
    peer_prefix(&p, 0, 9);
    peer_end(&p, "0", NULL);
    peer_pump(&p);
    cr_expect_eq(p.status, MESH_GRPC_INTERNAL);
    cr_expect(strstr(p.why, "inside a message"));
    peer_done(&p);
}

Test(grpc, end_without_status_is_unknown) {
    struct peer p = {0};
    peer_open(&p);
    p.say_ends = true;
    nghttp2_session_resume_data(p.server, p.stream);
    peer_pump(&p);
    cr_expect_eq(p.closed, 1);
    cr_expect_eq(p.status, MESH_GRPC_UNKNOWN);
    peer_done(&p);
}

static void answers(const nghttp2_nv *headers, size_t n, int as, const char *says) {
    struct peer p = {0};
    peer_start(&p, NULL);
    peer_pump(&p);
    nghttp2_submit_response(p.server, p.stream, headers, n, NULL); /* headers alone */
    peer_pump(&p);
    cr_expect_eq(p.closed, 1);
    cr_expect_eq(p.status, as, "%d: %s", p.status, p.why);
    cr_expect(strstr(p.why, says), "%s", p.why);
    peer_done(&p);
}

Test(grpc, headers_alone_say_how_it_ended) {
    nghttp2_nv only[] = {peer_field(":status", "200"), peer_field("content-type", "application/grpc+proto"),
                         peer_field("grpc-status", "12"), peer_field("grpc-message", "no such")};
    answers(only, 4, MESH_GRPC_UNIMPLEMENTED, "no such");
    static const struct {
        const char *http;
        int status;
    } cases[] = {{"401", MESH_GRPC_UNAUTHENTICATED}, {"403", MESH_GRPC_PERMISSION_DENIED},
                 {"404", MESH_GRPC_UNIMPLEMENTED},   {"429", MESH_GRPC_UNAVAILABLE},
                 {"502", MESH_GRPC_UNAVAILABLE},     {"503", MESH_GRPC_UNAVAILABLE},
                 {"504", MESH_GRPC_UNAVAILABLE},     {"400", MESH_GRPC_INTERNAL},
                 {"500", MESH_GRPC_UNKNOWN},         {"302", MESH_GRPC_UNKNOWN}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nghttp2_nv one[] = {peer_field(":status", cases[i].http)};
        answers(one, 1, cases[i].status, cases[i].http);
    }
}

Test(grpc, body_that_is_not_gRPC_is_not_read) {
    struct peer p = {0};
    peer_start(&p, NULL);
    peer_pump(&p);
    peer_answer(&p, "200", "text/html");
    peer_message(&p, 3, 0);
    p.say_ends = true;
    peer_pump(&p);
    cr_expect_eq(p.messages, 0);
    cr_expect_eq(p.status, MESH_GRPC_UNKNOWN);
    cr_expect(strstr(p.why, "does not speak gRPC"), "%s", p.why);
    peer_done(&p);
}

Test(grpc, reset_says_how_it_ended) {
    static const struct {
        uint32_t code;
        int status;
    } cases[] = {{NGHTTP2_REFUSED_STREAM, MESH_GRPC_UNAVAILABLE},
                 {NGHTTP2_CANCEL, MESH_GRPC_CANCELLED},
                 {NGHTTP2_ENHANCE_YOUR_CALM, MESH_GRPC_RESOURCE_EXHAUSTED},
                 {NGHTTP2_INADEQUATE_SECURITY, MESH_GRPC_PERMISSION_DENIED},
                 {NGHTTP2_PROTOCOL_ERROR, MESH_GRPC_INTERNAL},
                 {NGHTTP2_NO_ERROR, MESH_GRPC_INTERNAL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct peer p = {0};
        peer_open(&p);
        nghttp2_submit_rst_stream(p.server, 0, p.stream, cases[i].code);
        peer_pump(&p);
        cr_expect_eq(p.closed, 1);
        cr_expect_eq(p.status, cases[i].status, "%u: %d", cases[i].code, p.status);
        peer_done(&p);
    }
}

Test(grpc, goaway_lets_the_stream_go_on_until_it_ends) {
    struct peer p = {0};
    peer_open(&p);
    nghttp2_submit_goaway(p.server, 0, p.stream, NGHTTP2_NO_ERROR, NULL, 0);
    peer_pump(&p);
    cr_expect_eq(p.closed, 0);
    peer_message(&p, 9, 0);
    peer_pump(&p);
    cr_expect_eq(p.messages, 1);
    peer_end(&p, "0", NULL);
    peer_pump(&p);
    cr_expect_eq(p.closed, 1);
    cr_expect_eq(p.status, MESH_GRPC_OK);
    peer_done(&p);
}

Test(grpc, goaway_below_our_stream_ends_it) {
    struct peer p = {0};
    peer_open(&p);
    nghttp2_submit_goaway(p.server, 0, 0, NGHTTP2_NO_ERROR, NULL, 0);
    peer_pump(&p);
    cr_expect_eq(p.closed, 1);
    cr_expect_eq(p.status, MESH_GRPC_UNAVAILABLE);
    cr_expect(!mesh_grpc_is_calmed(p.g));
    peer_done(&p);
}

Test(grpc, too_many_pings_is_remembered) {
    struct peer p = {0};
    peer_open(&p);
    nghttp2_submit_goaway(p.server, 0, p.stream, NGHTTP2_ENHANCE_YOUR_CALM, (const uint8_t *)"too_many_pings",
                          14);
    peer_pump(&p);
    cr_expect_eq(p.closed, 1);
    cr_expect_eq(p.status, MESH_GRPC_UNAVAILABLE);
    cr_expect(strstr(p.why, "too_many_pings"), "%s", p.why);
    cr_expect(mesh_grpc_is_calmed(p.g));
    peer_done(&p);
}

static uint64_t tick(struct peer *p, uint64_t now) {
    p->now = now;
    mesh_grpc_tick(p->g, now);
    return mesh_grpc_deadline(p->g);
}

Test(grpc, silence_is_asked_about_and_an_answer_is_enough) {
    struct peer p = {0};
    peer_open(&p);
    uint64_t start = p.now;
    cr_expect_eq(tick(&p, start + MESH_SEC), start + PEER_KEEPALIVE);
    peer_pump(&p);
    cr_expect_eq(p.pings, 0);
    uint64_t asked = start + PEER_KEEPALIVE;
    cr_expect_eq(tick(&p, asked), asked + 20 * MESH_SEC);
    peer_pump(&p); /* the server answers */
    cr_expect_eq(p.pings, 1);
    cr_expect_eq(tick(&p, asked + 20 * MESH_SEC), asked + PEER_KEEPALIVE);
    cr_expect_eq(p.closed, 0);
    peer_done(&p);
}

Test(grpc, no_answer_to_a_ping_ends_it) {
    struct peer p = {0};
    peer_open(&p);
    uint64_t asked = p.now + PEER_KEEPALIVE;
    tick(&p, asked);
    tick(&p, asked + 20 * MESH_SEC - 1);
    cr_expect_eq(p.closed, 0);
    cr_expect_eq(tick(&p, asked + 20 * MESH_SEC), UINT64_MAX);
    cr_expect_eq(p.closed, 1);
    cr_expect_eq(p.status, MESH_GRPC_UNAVAILABLE);
    tick(&p, asked + 30 * MESH_SEC);
    cr_expect_eq(p.closed, 1, "told once");
    peer_done(&p);
}

Test(grpc, pings_of_the_server_are_answered) {
    struct peer p = {0};
    peer_open(&p);
    nghttp2_submit_ping(p.server, 0, NULL);
    const uint8_t *bytes;
    ssize_t n = nghttp2_session_mem_send(p.server, &bytes);
    peer_feed(&p, bytes, (size_t)n);
    size_t len = mesh_grpc_out(p.g, &bytes);
    cr_assert_eq(len, 17u);
    cr_expect(bytes[3] == NGHTTP2_PING && bytes[4] == NGHTTP2_FLAG_ACK);
    peer_done(&p);
}

static void answer(struct peer *p, const uint8_t *bytes, size_t n) {
    cr_expect_eq(mesh_grpc_send(p->g, bytes, n), 0);
}

Test(grpc, owner_may_send_from_a_message) {
    struct peer p = {0};
    peer_open(&p);
    p.on_message = answer;
    peer_message(&p, 100, 0);
    peer_message(&p, 50, 0);
    peer_pump(&p);
    cr_expect_eq(p.got_len, 10u + 105 + 55);
    peer_done(&p);
}

Test(grpc, other_protocols_are_told_apart) {
    static const char *const said[] = {"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
                                       "SSH-2.0-OpenSSH_9.2\r\n"};
    for (size_t i = 0; i < 2; i++) {
        struct peer p = {.cut = i};
        peer_start(&p, NULL);
        peer_feed(&p, (const uint8_t *)said[i], strlen(said[i]));
        cr_expect_eq(p.ready, 0);
        cr_expect_eq(p.closed, 1);
        cr_expect_eq(p.status, MESH_GRPC_UNAVAILABLE);
        cr_expect(strstr(p.why, "does not speak HTTP/2"), "%s", p.why);
        peer_done(&p);
    }
}

Test(grpc, broken_frames_end_it) {
    struct peer p = {0};
    peer_open(&p);
    /* A window update of nothing on the connection is a protocol error. */
    peer_feed(&p, (const uint8_t *)"\0\0\4\10\0\0\0\0\0\0\0\0\0", 13);
    peer_pump(&p);
    tick(&p, p.now);
    cr_expect_eq(p.closed, 1, "%d", p.closed);
    cr_expect_eq(p.status, MESH_GRPC_UNAVAILABLE);
    peer_feed(&p, (const uint8_t *)"x", 1);
    cr_expect_eq(p.closed, 1);
    peer_done(&p);
}
