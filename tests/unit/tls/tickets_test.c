/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "tests/unit/tls/pair.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tls/internal.h"

#define WEB "spiffe://shop/ns/prod/sa/web"
#define REVIEWS "spiffe://shop/ns/prod/sa/reviews"

static struct pki_cert root;
static struct mesh_identity *web, *reviews;

static void setup(void) {
    cr_assert_eq(mesh_tls_start(), 0);
    root = pki_root("root");
    web = pki_workload(&root, WEB);
    reviews = pki_workload(&root, REVIEWS);
}

static void teardown(void) {
    mesh_identity_unref(web);
    mesh_identity_unref(reviews);
    pki_free(&root);
}

TestSuite(tickets, .init = setup, .fini = teardown);

/* One connection; the answer is what both ends say about resumption: 0 or 1, -1 when they differ. */
static int connect_once(const struct mesh_handshake_config *c, const struct mesh_handshake_config *s) {
    struct pair *p = pair_run(c, s);
    pair_exchange(p);
    int resumed = p->client.peer.resumed == p->server.peer.resumed ? p->client.peer.resumed : -1;
    cr_assert_str_eq(p->client.peer.spiffe, mesh_identity_spiffe(s->identity));
    cr_assert_str_eq(p->server.peer.spiffe, mesh_identity_spiffe(c->identity));
    cr_assert_eq(p->client.peer.not_after, mesh_identity_not_after(s->identity));
    pair_free(p);
    return resumed;
}

static struct mesh_handshake_config keyed_client(void) {
    struct mesh_handshake_config c = client_config(web);
    c.ticket_key = "reviews|any";
    return c;
}

Test(tickets, the_second_connection_is_resumed_in_both_versions) {
    for (uint16_t v = 0x0303; v <= 0x0304; v++) {
        struct mesh_handshake_config c = keyed_client(), s = server_config(reviews);
        c.max_version = v;
        c.ticket_key = v == 0x0303 ? "a" : "b";
        cr_assert_eq(connect_once(&c, &s), 0);
        for (int i = 0; i < 4; i++)
            cr_assert_eq(connect_once(&c, &s), 1);
    }
}

Test(tickets, without_a_key_nothing_is_resumed) {
    struct mesh_handshake_config c = client_config(web), s = server_config(reviews);
    cr_assert_eq(connect_once(&c, &s), 0);
    cr_assert_eq(connect_once(&c, &s), 0);
}

Test(tickets, a_tls13_ticket_is_used_once) {
    struct mesh_handshake_config c = keyed_client(), s = server_config(reviews);
    int64_t expires;
    cr_assert_eq(connect_once(&c, &s), 0);
    struct mesh_handshake *a, *b;
    cr_assert_eq(mesh_handshake_new(&c, &a), 0);
    cr_assert_eq(mesh_handshake_new(&c, &b), 0);
    cr_assert_neq(SSL_SESSION_get0_ticket_appdata(SSL_get_session(a->ssl), &(void *){0}, &(size_t){0}), 0);
    cr_assert_null(SSL_get_session(b->ssl));
    cr_assert_null(mesh_tls_tickets_take(web, a->ticket_key, 0, &expires));
    mesh_handshake_free(a);
    mesh_handshake_free(b);
}

Test(tickets, other_names_peers_identities_and_roots_do_not_meet) {
    struct mesh_handshake_config c = keyed_client(), s = server_config(reviews), d;
    struct mesh_match m = {
        .kind = MESH_MATCH_PREFIX, .san_type = MESH_SAN_URI, .len = 9, .text = "spiffe://"};
    struct mesh_identity *other = pki_workload(&root, WEB);
    cr_assert_eq(connect_once(&c, &s), 0);
    d = c, d.ticket_key = "ratings|any";
    cr_assert_eq(connect_once(&d, &s), 0);
    d = c, d.sni = "ratings.shop.mesh";
    cr_assert_eq(connect_once(&d, &s), 0);
    d = c, d.peers = &m, d.npeers = 1;
    cr_assert_eq(connect_once(&d, &s), 0);
    d = c, d.identity = other;
    cr_assert_eq(connect_once(&d, &s), 0);
    cr_assert_eq(connect_once(&c, &s), 1);
    mesh_identity_unref(other);
}

Test(tickets, a_server_with_other_callers_roots_or_identity_wants_the_certificate_again) {
    struct mesh_match m = {
        .kind = MESH_MATCH_PREFIX, .san_type = MESH_SAN_URI, .len = 9, .text = "spiffe://"};
    struct pki_cert second = pki_root("second");
    char *bundle = NULL, *one = pki_cert_pem(&root), *two = pki_cert_pem(&second);
    cr_assert_gt(asprintf(&bundle, "%s%s", one, two), 0);
    struct mesh_identity *more_roots;
    cr_assert_eq(mesh_identity_with_ca(reviews, bundle, strlen(bundle), &more_roots, NULL), 0);
    struct mesh_identity *same_name = pki_workload(&root, REVIEWS);
    struct mesh_handshake_config c = keyed_client(), s = server_config(reviews), t;
    for (uint16_t v = 0x0303; v <= 0x0304; v++) {
        c.max_version = v;
        c.ticket_key = v == 0x0303 ? "a" : "b";
        cr_assert_eq(connect_once(&c, &s), 0);
        cr_assert_eq(connect_once(&c, &s), 1);
        t = s, t.peers = &m, t.npeers = 1;
        cr_assert_eq(connect_once(&c, &t), 0);
        cr_assert_eq(connect_once(&c, &s), 0); /* the newest ticket is the other list's */
        cr_assert_eq(connect_once(&c, &s), 1);
        t = s, t.identity = more_roots;
        cr_assert_eq(connect_once(&c, &t), 0);
        cr_assert_eq(connect_once(&c, &s), 0);
        t = s, t.identity = same_name;
        cr_assert_eq(connect_once(&c, &t), 0);
    }
    mesh_identity_unref(more_roots);
    mesh_identity_unref(same_name);
    pki_free(&second);
    free(bundle);
    free(one);
    free(two);
}

Test(tickets, a_caller_no_longer_accepted_is_refused_with_a_ticket_in_hand) {
    struct mesh_match m = {
        .kind = MESH_MATCH_EXACT, .san_type = MESH_SAN_URI, .len = 12, .text = "spiffe://a/b"};
    struct mesh_handshake_config c = keyed_client(), s = server_config(reviews);
    cr_assert_eq(connect_once(&c, &s), 0);
    s.peers = &m;
    s.npeers = 1;
    struct pair *p = pair_run(&c, &s);
    cr_assert_eq(p->server.err, MESH_E_PEER, "%s", p->server.why.text);
    pair_free(p);
}

/* The room's own guard behind the session id context: a session that resumes although the rule has changed.
 */
Test(tickets, a_resumed_session_is_authorised_anew) {
    for (uint16_t v = 0x0303; v <= 0x0304; v++) {
        struct mesh_handshake_config c = keyed_client(), s = server_config(reviews);
        c.max_version = v;
        c.ticket_key = v == 0x0303 ? "a" : "b";
        cr_assert_eq(connect_once(&c, &s), 0);
        struct pair *p = calloc(1, sizeof *p);
        end_start(&p->client, &c);
        end_start(&p->server, &s);
        p->server.hs->rule.none = true;
        for (int i = 0; i < 4; i++) {
            end_take_out(&p->client, &p->to_server);
            end_feed(&p->server, &p->to_server);
            end_take_out(&p->server, &p->to_client);
            end_feed(&p->client, &p->to_client);
        }
        cr_assert_eq(p->server.err, MESH_E_PEER, "%s", p->server.why.text);
        /* The client is content and then reads the alert, behind whatever tickets there were. */
        cr_assert_eq(p->client.err, 0);
        end_finish(&p->client);
        uint8_t plain[4096], type = 0, number = 0, *at = p->to_client.bytes;
        size_t left = p->to_client.n, len;
        int got = 0;
        for (; (len = wire_record(at, left)); at += len, left -= len)
            got = mesh_record_open(&p->client.rx, &p->client.rx_aead, 1, at, len, plain, sizeof plain, &type);
        cr_assert(got == 2 && type == MESH_REC_ALERT, "%d %d", got, type);
        cr_assert_eq(mesh_alert_read(&p->client.rx, plain, 2, &number), MESH_E_ALERT);
        cr_assert_str_eq(mesh_alert_name(number), "bad_certificate");
        pair_free(p);
    }
}

Test(tickets, a_client_offers_no_session_of_a_peer_that_it_accepts_no_more) {
    struct mesh_handshake_config c = keyed_client(), s = server_config(reviews);
    cr_assert_eq(connect_once(&c, &s), 0);
    struct mesh_handshake *hs;
    uint8_t key[32];
    int64_t expires;
    cr_assert_eq(mesh_handshake_new(&(struct mesh_handshake_config){.identity = web, .ticket_key = "x"}, &hs),
                 0);
    memcpy(key, hs->ticket_key, 32);
    mesh_handshake_free(hs);
    /* Put the session under a key where the rule does not accept it. */
    cr_assert_eq(mesh_handshake_new(&c, &hs), 0);
    SSL_SESSION *session = SSL_get1_session(hs->ssl);
    mesh_handshake_free(hs);
    struct mesh_match m = {
        .kind = MESH_MATCH_EXACT, .san_type = MESH_SAN_URI, .len = 12, .text = "spiffe://a/b"};
    c.peers = &m;
    c.npeers = 1;
    cr_assert_eq(mesh_handshake_new(&c, &hs), 0);
    memcpy(key, hs->ticket_key, 32);
    mesh_handshake_free(hs);
    mesh_tls_tickets_put(web, key, session, c.wall, INT64_MAX);
    SSL_SESSION_free(session);
    cr_assert_eq(mesh_handshake_new(&c, &hs), 0);
    cr_assert_null(SSL_get_session(hs->ssl));
    cr_assert_null(mesh_tls_tickets_take(web, key, 0, &expires));
    mesh_handshake_free(hs);
}

Test(tickets, a_session_ends_with_the_first_certificate) {
    struct pki_cert brief =
        pki_make(&root, "x", (struct pki_spec){.san = "URI:" REVIEWS, .from = -60, .to = 120});
    struct mesh_identity *id = pki_identity(&brief, &root);
    struct mesh_handshake_config c = keyed_client(), s = server_config(id);
    int64_t expires = 0, now = time(NULL);
    cr_assert_eq(connect_once(&c, &s), 0);
    struct mesh_handshake *hs;
    cr_assert_eq(mesh_handshake_new(&c, &hs), 0);
    SSL_SESSION *session = SSL_get_session(hs->ssl);
    cr_assert_leq(SSL_SESSION_get_ticket_lifetime_hint(session), 120);
    cr_assert_leq(hs->chain_not_after, now + 120);
    mesh_tls_tickets_put(hs->identity, hs->ticket_key, session, hs->wall, hs->chain_not_after);
    cr_assert_null(mesh_tls_tickets_take(hs->identity, hs->ticket_key, now + 121, &expires));
    cr_assert_null(
        mesh_tls_tickets_take(hs->identity, hs->ticket_key, now + 60, &expires)); /* gone for good */
    mesh_tls_tickets_put(hs->identity, hs->ticket_key, session, hs->wall, hs->chain_not_after);
    session = mesh_tls_tickets_take(hs->identity, hs->ticket_key, now + 60, &expires);
    cr_assert_not_null(session);
    SSL_SESSION_free(session);
    mesh_handshake_free(hs);
    mesh_identity_unref(id);
    pki_free(&brief);
}

Test(tickets, a_chain_of_resumptions_ends_with_the_first_session) {
    struct mesh_handshake_config c = keyed_client(), s = server_config(reviews);
    cr_assert_eq(connect_once(&c, &s), 0);
    struct mesh_handshake *hs;
    cr_assert_eq(mesh_handshake_new(&c, &hs), 0);
    int64_t first = hs->chain_not_after, expires;
    mesh_tls_tickets_put(hs->identity, hs->ticket_key, SSL_get_session(hs->ssl), hs->wall, first - 500);
    cr_assert_eq(connect_once(&c, &s), 1);
    SSL_SESSION *session = mesh_tls_tickets_take(hs->identity, hs->ticket_key, 0, &expires);
    cr_assert_not_null(session);
    cr_assert_leq(expires, first - 500);
    SSL_SESSION_free(session);
    mesh_handshake_free(hs);
}

/* The server resumes without seeing the intermediate that ends first: what it knows of it is in the ticket.
 */
Test(tickets, a_resumed_sessions_ticket_keeps_the_end_of_the_whole_chain) {
    struct pki_cert middle = pki_make(&root, "m", (struct pki_spec){.ca = true, .from = -60, .to = 600});
    struct pki_cert leaf = pki_make(&middle, "x", (struct pki_spec){.san = "URI:" WEB});
    struct mesh_identity *id = pki_identity(&leaf, &root);
    struct mesh_handshake_config c = keyed_client(), s = server_config(reviews);
    struct mesh_handshake *hs;
    c.identity = id;
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(connect_once(&c, &s), i > 0);
        cr_assert_eq(mesh_handshake_new(&c, &hs), 0);
        SSL_SESSION *session = SSL_get_session(hs->ssl);
        cr_assert_leq(SSL_SESSION_get_ticket_lifetime_hint(session), 600);
        mesh_tls_tickets_put(hs->identity, hs->ticket_key, session, hs->wall, hs->chain_not_after);
        mesh_handshake_free(hs);
    }
    mesh_identity_unref(id);
    pki_free(&leaf);
    pki_free(&middle);
}

Test(tickets, an_expired_leaf_ends_a_resumption) {
    struct mesh_handshake_config c = keyed_client(), s = server_config(reviews);
    cr_assert_eq(connect_once(&c, &s), 0);
    s.wall += 3 * 3600; /* the server's clock is past the client's certificate; OpenSSL's own clock is not */
    struct pair *p = pair_run(&c, &s);
    cr_assert_eq(p->server.err, MESH_E_PEER);
    cr_assert(strstr(p->server.why.text, "expired"), "%s", p->server.why.text);
    pair_free(p);
}

Test(tickets, the_table_is_bounded_and_keeps_the_newest) {
    struct mesh_handshake_config c = keyed_client(), s = server_config(reviews);
    uint8_t key[32] = {0};
    int64_t expires;
    cr_assert_eq(connect_once(&c, &s), 0);
    struct mesh_handshake *hs;
    cr_assert_eq(mesh_handshake_new(&c, &hs), 0);
    SSL_SESSION *session = SSL_get1_session(hs->ssl);
    for (int i = 0; i < 5000; i++) {
        key[0] = (uint8_t)i;
        key[1] = (uint8_t)(i >> 8);
        mesh_tls_tickets_put(web, key, session, 0, 1000 + i);
    }
    SSL_SESSION *hit = mesh_tls_tickets_take(web, key, 0, &expires);
    cr_assert_not_null(hit);
    cr_assert_eq(expires, 1000 + 4999);
    SSL_SESSION_free(hit);
    int found = 0;
    for (int i = 0; i < 5000; i++) {
        key[0] = (uint8_t)i;
        key[1] = (uint8_t)(i >> 8);
        while ((hit = mesh_tls_tickets_take(web, key, 0, &expires))) {
            found++;
            SSL_SESSION_free(hit);
        }
    }
    cr_assert_eq(found, 255);
    for (int i = 0; i < 100; i++) /* one name cannot fill it */
        mesh_tls_tickets_put(web, key, session, 0, INT64_MAX);
    for (found = 0; (hit = mesh_tls_tickets_take(web, key, 0, &expires)); found++)
        SSL_SESSION_free(hit);
    cr_assert_eq(found, 8);
    SSL_SESSION_free(session);
    mesh_handshake_free(hs);
}

static int in_child(int (*fn)(void)) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(fn());
    int status;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static struct mesh_handshake_config fork_client, fork_server;

/* Without criterion's assertions, which do not belong in a child. */
static int child_resumes(void) {
    struct pair *p = pair_run(&fork_client, &fork_server);
    if (p->client.err || p->server.err)
        return 98;
    end_finish(&p->client);
    return p->client.peer.resumed;
}

Test(tickets, a_forked_client_takes_the_ticket_and_the_parent_has_it_no_more) {
    fork_client = keyed_client();
    fork_server = server_config(reviews);
    cr_assert_eq(connect_once(&fork_client, &fork_server), 0);
    cr_assert_eq(in_child(child_resumes), 1);
    struct mesh_handshake *hs;
    int64_t expires;
    cr_assert_eq(mesh_handshake_new(&fork_client, &hs), 0);
    int left = SSL_get_session(hs->ssl) != NULL; /* at most what the child's own connection brought */
    while (mesh_tls_tickets_take(web, hs->ticket_key, 0, &expires))
        left++;
    cr_assert_leq(left, 1);
    mesh_handshake_free(hs);
}

/* ---- the memory that processes share ---- */

static void *fresh_memory(void) {
    void *mem = mmap(NULL, mesh_tickets_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(mem, MAP_FAILED);
    cr_assert_not(mesh_tickets_whole(mem));
    cr_assert_eq(mesh_tickets_format(mem), 0);
    cr_assert(mesh_tickets_whole(mem));
    return mem;
}

/* A later process of the same service: its identity from the same PEM, on this memory. */
static struct mesh_identity *as_in_a_new_process(void *mem, struct pki_cert *cert) {
    mesh_tickets_use(mem);
    return pki_identity(cert, &root);
}

Test(tickets, a_restarted_client_and_a_restarted_server_go_on_with_their_tickets) {
    struct pki_cert web_cert = pki_make(&root, "w", (struct pki_spec){.san = "URI:" WEB});
    struct pki_cert reviews_cert = pki_make(&root, "r", (struct pki_spec){.san = "URI:" REVIEWS});
    void *client_memory = fresh_memory(), *server_memory = fresh_memory(), *others = fresh_memory();
    struct mesh_identity *one = as_in_a_new_process(client_memory, &web_cert);
    struct mesh_identity *two = as_in_a_new_process(client_memory, &web_cert);
    struct mesh_identity *server_one = as_in_a_new_process(server_memory, &reviews_cert);
    struct mesh_identity *server_two = as_in_a_new_process(server_memory, &reviews_cert);
    struct mesh_identity *elsewhere = as_in_a_new_process(others, &reviews_cert);
    struct mesh_handshake_config c = keyed_client(), s = server_config(server_one);
    mesh_tickets_use(client_memory);
    c.identity = one;
    cr_assert_eq(connect_once(&c, &s), 0);
    c.identity = two;
    cr_assert_eq(connect_once(&c, &s), 1);
    s.identity = server_two;
    cr_assert_eq(connect_once(&c, &s), 1);
    s.identity = elsewhere; /* the same key on another run directory */
    cr_assert_eq(connect_once(&c, &s), 0);
    mesh_tickets_use(fresh_memory());
    mesh_identity_unref(one);
    mesh_identity_unref(two);
    mesh_identity_unref(server_one);
    mesh_identity_unref(server_two);
    mesh_identity_unref(elsewhere);
    pki_free(&web_cert);
    pki_free(&reviews_cert);
}

Test(tickets, a_servers_tls12_tickets_end_with_its_process_tree) {
    struct pki_cert cert = pki_make(&root, "r", (struct pki_spec){.san = "URI:" REVIEWS});
    void *mem = fresh_memory();
    struct mesh_identity *first = as_in_a_new_process(mem, &cert), *second = as_in_a_new_process(mem, &cert);
    struct mesh_handshake_config c = keyed_client(), s = server_config(first);
    c.max_version = 0x0303;
    cr_assert_eq(connect_once(&c, &s), 0);
    cr_assert_eq(connect_once(&c, &s), 1);
    s.identity = second;
    cr_assert_eq(connect_once(&c, &s), 0);
    mesh_identity_unref(first);
    mesh_identity_unref(second);
    pki_free(&cert);
}

/* The session and its key, put by `web`. */
static SSL_SESSION *one_session(uint8_t ret_key[32]) {
    struct mesh_handshake_config c = keyed_client(), s = server_config(reviews);
    struct mesh_handshake *hs;
    cr_assert_eq(connect_once(&c, &s), 0);
    cr_assert_eq(mesh_handshake_new(&c, &hs), 0);
    SSL_SESSION *session = SSL_get1_session(hs->ssl);
    memcpy(ret_key, hs->ticket_key, 32);
    mesh_handshake_free(hs);
    return session;
}

Test(tickets, what_is_kept_shows_neither_secret_nor_peer_and_opens_for_its_identity_alone) {
    uint8_t key[32], secret[64];
    unsigned char *mem = fresh_memory();
    int64_t expires;
    SSL_SESSION *session = one_session(key);
    size_t n = SSL_SESSION_get_master_key(session, secret, sizeof secret);
    mesh_tickets_use(mem);
    mesh_tls_tickets_put(web, key, session, 1000, INT64_MAX);
    cr_assert_null(memmem(mem, mesh_tickets_size(), secret, n));
    cr_assert_null(memmem(mem, mesh_tickets_size(), "spiffe://", 9));
    cr_assert_null(mesh_tls_tickets_take(reviews, key, 1000, &expires));
    mesh_tls_tickets_put(web, key, session, 1000, INT64_MAX);
    SSL_SESSION *back = mesh_tls_tickets_take(web, key, 1000, &expires);
    uint8_t again[64];
    cr_assert_eq(SSL_SESSION_get_master_key(back, again, sizeof again), n);
    cr_assert_arr_eq(secret, again, n);
    SSL_SESSION_free(back);
    SSL_SESSION_free(session);
}

/* Bytes turn over everywhere all the time: a session comes back as it was put, or none does. */
Test(tickets, damaged_memory_gives_the_session_or_nothing) {
    uint8_t key[32], secret[64], again[64];
    unsigned char *mem = fresh_memory();
    int64_t expires;
    int came = 0;
    unsigned seed = 1;
    SSL_SESSION *session = one_session(key);
    size_t n = SSL_SESSION_get_master_key(session, secret, sizeof secret);
    mesh_tickets_use(mem);
    for (int round = 0; round < 3000; round++) {
        mesh_tls_tickets_put(web, key, session, 1000 + round, INT64_MAX);
        size_t span = round % 3 ? mesh_tickets_size() : 8192; /* the head and the words more often */
        for (int k = 0; k < 40; k++)
            mem[(unsigned)rand_r(&seed) % span] ^= (unsigned char)(1u << k % 8);
        SSL_SESSION *back = mesh_tls_tickets_take(web, key, 1000 + round, &expires);
        if (!back)
            continue;
        came++;
        cr_assert_eq(SSL_SESSION_get_master_key(back, again, sizeof again), n);
        cr_assert_arr_eq(secret, again, n);
        SSL_SESSION_free(back);
    }
    cr_assert_gt(came, 100);
    SSL_SESSION_free(session);
}

/* Children work on the same slots and are killed in the middle, again and again. */
Test(tickets, killed_processes_leave_the_store_usable) {
    uint8_t key[32];
    int64_t expires;
    SSL_SESSION *session = one_session(key), *back;
    mesh_tickets_use(fresh_memory());
    for (int i = 0; i < 200; i++) {
        int up[2];
        char byte;
        cr_assert_eq(pipe(up), 0);
        pid_t pid = fork();
        if (pid == 0) {
            for (unsigned k = 0;; k++) {
                key[0] = (uint8_t)k;
                mesh_tls_tickets_put(web, key, session, 1000, INT64_MAX);
                SSL_SESSION_free(mesh_tls_tickets_take(web, key, 1000, &expires));
                if (k == 3 && write(up[1], "x", 1) != 1)
                    _exit(1);
            }
        }
        cr_assert_eq(read(up[0], &byte, 1), 1);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        close(up[0]);
        close(up[1]);
    }
    int found = 0;
    for (int i = 0; i < 256; i++) { /* each slot, some seconds later */
        key[0] = (uint8_t)i;
        mesh_tls_tickets_put(web, key, session, 1011, INT64_MAX);
    }
    for (int i = 0; i < 256; i++) {
        key[0] = (uint8_t)i;
        while ((back = mesh_tls_tickets_take(web, key, 1011, &expires))) {
            found++;
            SSL_SESSION_free(back);
        }
    }
    cr_assert_eq(found, 256);
    SSL_SESSION_free(session);
}

/* One ticket, many takers at once: one of them has it. */
Test(tickets, a_ticket_goes_to_one_of_many_processes) {
    uint8_t key[32];
    int64_t expires;
    SSL_SESSION *session = one_session(key);
    mesh_tickets_use(fresh_memory());
    for (int i = 0; i < 30; i++) {
        int winners = 0, status;
        mesh_tls_tickets_put(web, key, session, 1000, INT64_MAX);
        fflush(NULL);
        for (int k = 0; k < 4; k++)
            if (fork() == 0)
                _exit(mesh_tls_tickets_take(web, key, 1000, &expires) != NULL);
        while (wait(&status) > 0)
            winners += WEXITSTATUS(status);
        cr_assert_eq(winners, 1);
    }
    SSL_SESSION_free(session);
}

static struct wire forked_client_out;
static struct mesh_handshake *forked_hs;

static int child_server(void) {
    struct end e = {.err = MESH_E_AGAIN};
    struct mesh_handshake_config s = fork_server;
    if (mesh_handshake_new(&s, &e.hs) != 0)
        return 97;
    end_feed(&e, &forked_client_out);
    return SSL_session_reused(e.hs->ssl);
}

Test(tickets, a_server_forked_after_listen_takes_its_siblings_tickets) {
    fork_client = keyed_client();
    fork_server = server_config(reviews);
    cr_assert_eq(connect_once(&fork_client, &fork_server), 0);
    struct end e;
    end_start(&e, &fork_client);
    end_take_out(&e, &forked_client_out);
    cr_assert_eq(in_child(child_server), 1);
    end_free(&e);
}

/* Half a handshake made before fork is finished by the child. */
static int child_finishes(void) {
    struct end e = {.err = MESH_E_AGAIN, .hs = forked_hs};
    end_feed(&e, &forked_client_out);
    return e.err == 0 ? 0 : 1;
}

Test(tickets, a_handshake_under_way_at_fork_is_finished_by_the_child) {
    struct mesh_handshake_config c = keyed_client(), s = server_config(reviews);
    struct end client, server;
    static struct wire w;
    end_start(&client, &c);
    end_start(&server, &s);
    end_take_out(&client, &w);
    end_feed(&server, &w);
    end_take_out(&server, &forked_client_out);
    forked_hs = client.hs;
    cr_assert_eq(in_child(child_finishes), 0);
    end_feed(&client, &forked_client_out); /* and, had the child not, by the parent */
    cr_assert_eq(client.err, 0);
    end_free(&client);
    end_free(&server);
}

static int random_pipe[2];

static int child_random(void) {
    struct mesh_handshake *hs;
    const uint8_t *p;
    if (mesh_handshake_new(&fork_client, &hs) != 0 || mesh_handshake_step(hs, NULL, 0, NULL) != MESH_E_AGAIN)
        return 1;
    mesh_handshake_out(hs, &p);
    return write(random_pipe[1], p + 11, 32) == 32 ? 0 : 1; /* the ClientHello's random */
}

Test(tickets, forked_children_draw_different_random_numbers) {
    uint8_t a[32], b[32], c[32];
    const uint8_t *p;
    fork_client = client_config(web);
    cr_assert_eq(pipe(random_pipe), 0);
    struct mesh_handshake *hs;
    cr_assert_eq(mesh_handshake_new(&fork_client, &hs), 0); /* the generators are seeded before fork */
    cr_assert_eq(mesh_handshake_step(hs, NULL, 0, NULL), MESH_E_AGAIN);
    cr_assert(in_child(child_random) == 0 && in_child(child_random) == 0);
    cr_assert_eq(read(random_pipe[0], a, 32), 32);
    cr_assert_eq(read(random_pipe[0], b, 32), 32);
    mesh_handshake_free(hs);
    cr_assert_eq(mesh_handshake_new(&fork_client, &hs), 0);
    cr_assert_eq(mesh_handshake_step(hs, NULL, 0, NULL), MESH_E_AGAIN);
    mesh_handshake_out(hs, &p);
    memcpy(c, p + 11, 32);
    mesh_handshake_free(hs);
    cr_assert(memcmp(a, b, 32) && memcmp(a, c, 32) && memcmp(b, c, 32));
}

/* Handshakes at once in several threads with small stacks, on shared identities, tickets and chains. */
static void *many_handshakes(void *arg) {
    struct mesh_handshake_config c = keyed_client(), s = server_config(reviews);
    long *failures = arg;
    for (int i = 0; i < 40; i++) {
        struct pair *p = pair_run(&c, &s);
        if (p->client.err || p->server.err)
            ++*failures;
        else
            pair_exchange(p);
        pair_free(p);
        mesh_identity_unref(mesh_identity_ref(web));
    }
    return NULL;
}

Test(tickets, threads_with_128_kib_stacks_shake_hands_at_once, .timeout = 120) {
    pthread_t t[4];
    long failures[4] = {0};
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    cr_assert_eq(pthread_attr_setstacksize(&attr, 128 * 1024), 0);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&t[i], &attr, many_handshakes, &failures[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        cr_assert_eq(failures[i], 0);
    }
}
