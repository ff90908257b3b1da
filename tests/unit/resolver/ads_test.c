/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/ads.h"
#include "tests/unit/resolver/xds_wire.h"

/* ---- an owner that writes down what it is told; resources called bad... are rejected ----------------------
 */
static struct wire_log log_;
static struct mesh_xds_server server;
static struct mesh_ads *ads;
static uint64_t now;
static bool is_cached, is_delta;

static int sends;
static size_t longest;

static int on_send(void *arg, const uint8_t *p, size_t n) {
    sends++;
    longest = n > longest ? n : longest;
    say_request(&log_, p, n, is_delta);
    return 0;
}
static void on_restart(void *arg, const char *why) {
    say(&log_, "restart %s\n", why);
}
static const char *kind(enum mesh_ads_type type) {
    return wire_kind(mesh_ads_type_url(type));
}
static int on_offer(void *arg, enum mesh_ads_type type, const char *name, struct mesh_bytes value,
                    struct mesh_bytes version, struct mesh_why *why) {
    bool bad = strncmp(name, "bad", 3) == 0;
    say(&log_, "%s %s %s %.*s\n", bad ? "reject" : "take", kind(type), name, (int)version.n,
        (const char *)version.p);
    return bad ? mesh_why(why, MESH_E_INVALID, "no good") : 0;
}
static void on_removed(void *arg, enum mesh_ads_type type, const char *name) {
    say(&log_, "removed %s %s\n", kind(type), name);
}
static void on_failed(void *arg, enum mesh_ads_type type, const char *name, int code,
                      struct mesh_bytes message) {
    say(&log_, "failed %s %s %d %.*s\n", kind(type), name, code, (int)message.n, (const char *)message.p);
}
static void on_missing(void *arg, enum mesh_ads_type type, const char *name) {
    say(&log_, "missing %s %s\n", kind(type), name);
}
static bool on_cached(void *arg, enum mesh_ads_type type, const char *name) {
    return is_cached;
}
static void on_answered(void *arg, enum mesh_ads_type type, const char *error) {
}
static const struct mesh_ads_owner owner = {on_send,   on_restart, on_offer,  on_removed,
                                            on_failed, on_missing, on_cached, on_answered};

static void start(bool delta) {
    static const uint8_t node[] = {0x0a, 0x01, 'n'};
    server.is_delta = is_delta = delta;
    now = 1000 * MESH_SEC;
    cr_assert_eq(mesh_ads_new(&server, (struct mesh_bytes){node, 3}, &owner, NULL, &ads), 0);
}

static void stop(void) {
    mesh_ads_free(ads);
}
TestSuite(ads, .fini = stop);

static void heard(const char *what) {
    cr_expect_str_eq(log_.text, what, "heard\n%s\ninstead of\n%s", log_.text, what);
    log_.len = 0;
    log_.text[0] = '\0';
}

static void flushed(const char *what) {
    mesh_ads_flush(ads, now);
    heard(what);
}

static void want(enum mesh_ads_type type, const char *name) {
    cr_assert_eq(mesh_ads_subscribe(ads, type, name), 0);
}

static void passes(uint64_t time) {
    now += time;
    mesh_ads_tick(ads, now);
}

static void message(const char *text) {
    size_t n;
    uint8_t *p = wire_of(is_delta ? &mesh__discovery__delta_discovery_response__descriptor
                                  : &mesh__discovery__discovery_response__descriptor,
                         text, &n);
    mesh_ads_message(ads, p, n, now);
    free(p);
}

#define U "type.googleapis.com/"
#define CDS U "envoy.config.cluster.v3.Cluster"
#define LDS U "envoy.config.listener.v3.Listener"
#define RDS U "envoy.config.route.v3.RouteConfiguration"
#define ANY(type, name) "{'@type': " type ", name: " name "}"
#define SAID(type, v, n, list)                                                                               \
    message("{version_info: '" v "', nonce: '" n "', type_url: " type ", resources: [" list "]}")
#define WRAP(type, n, v, more) "{name: " n ", version: '" v "', resource: " ANY(type, n) more "}"
#define DELTA(type, n, list, removed)                                                                        \
    message("{nonce: '" n "', type_url: " type ", resources: [" list "], removed_resources: [" removed "]}")

/* A stream on which clusters a and b were asked for, and a came. */
static void start_with_a(void) {
    start(false);
    want(MESH_ADS_CLUSTER, "a");
    want(MESH_ADS_CLUSTER, "b");
    mesh_ads_up(ads);
    flushed("> CDS node v= n= a,b\n");
    SAID(CDS, "1", "x", ANY(CDS, "a"));
    flushed("take CDS a 1\n> CDS v=1 n=x a,b\n");
}

/* ---- state of the world -----------------------------------------------------------------------------------
 */
Test(ads, stream_that_comes_up_asks_for_each_type_with_the_node_once) {
    start(false);
    want(MESH_ADS_ROUTE, "r");
    want(MESH_ADS_LISTENER, "l");
    want(MESH_ADS_CLUSTER, "c");
    flushed("");
    mesh_ads_up(ads);
    flushed("> CDS node v= n= c\n> LDS v= n= l\n> RDS v= n= r\n");
    flushed("");
}

Test(ads, subscriptions_are_sent_as_one_full_list) {
    start_with_a();
    want(MESH_ADS_CLUSTER, "c");
    want(MESH_ADS_CLUSTER, "d");
    mesh_ads_unsubscribe(ads, MESH_ADS_CLUSTER, "a");
    flushed("> CDS v=1 n=x b,c,d\n");
    want(MESH_ADS_CLUSTER, "c");
    flushed("");
}

Test(ads, good_response_is_acknowledged_with_the_full_list) {
    start_with_a();
    want(MESH_ADS_CLUSTER, "c");
    SAID(CDS, "2", "y", ANY(CDS, "a") ", " ANY(CDS, "b"));
    flushed("take CDS a 2\ntake CDS b 2\n> CDS v=2 n=y a,b,c\n");
    cr_expect_eq(mesh_ads_describe(ads).acks, 2);
}

Test(ads, bad_resource_is_rejected_by_name_and_the_others_are_used) {
    start_with_a();
    want(MESH_ADS_CLUSTER, "bad1");
    want(MESH_ADS_CLUSTER, "bad2");
    SAID(CDS, "2", "y", ANY(CDS, "bad1") ", " ANY(CDS, "a") ", " ANY(CDS, "bad2"));
    flushed("reject CDS bad1 2\ntake CDS a 2\nreject CDS bad2 2\n"
            "> CDS v=1 n=y a,b,bad1,bad2 err=3:bad1: no good; bad2: no good\n");
    cr_expect_eq(mesh_ads_describe(ads).nacks, 1);
    SAID(CDS, "3", "z", ANY(CDS, "a"));
    flushed("take CDS a 3\n> CDS v=3 n=z a,b,bad1,bad2\n");
}

Test(ads, unknown_type_is_neither_acknowledged_nor_rejected) {
    start_with_a();
    SAID(U "envoy.config.other.v3.Other", "2", "y", "");
    flushed("");
}

Test(ads, type_that_was_never_asked_for_is_not_answered_and_its_nonce_kept) {
    start_with_a();
    SAID(RDS, "7", "r1", ANY(RDS, "r"));
    flushed("");
    want(MESH_ADS_ROUTE, "r");
    flushed("> RDS v= n=r1 r\n");
}

Test(ads, type_without_a_subscription_left_is_still_acknowledged) {
    start_with_a();
    want(MESH_ADS_ROUTE, "r");
    flushed("> RDS v= n= r\n");
    mesh_ads_unsubscribe(ads, MESH_ADS_ROUTE, "r");
    flushed("> RDS v= n=\n");
    SAID(RDS, "1", "r1", ANY(RDS, "r"));
    flushed("> RDS v=1 n=r1\n");
}

Test(ads, name_that_comes_twice_is_rejected) {
    start_with_a();
    SAID(CDS, "2", "y", ANY(CDS, "a") ", " ANY(CDS, "a"));
    flushed("take CDS a 2\n> CDS v=1 n=y a,b err=3:a: comes twice\n");
}

Test(ads, resource_that_nobody_asked_for_is_passed_over) {
    start_with_a();
    SAID(CDS, "2", "y", ANY(CDS, "a") ", " ANY(CDS, "z") ", " ANY(CDS, "z"));
    flushed("take CDS a 2\n> CDS v=2 n=y a,b\n");
}

Test(ads, resource_of_another_type_or_without_a_name_is_rejected) {
    start_with_a();
    SAID(CDS, "2", "y", ANY(RDS, "a") ", " ANY(CDS, "''"));
    flushed("removed CDS a\n> CDS v=1 n=y a,b err=3:resources[0]: not of the type of the response; "
            "resources[1]: has no name\n");
}

Test(ads, second_message_in_a_row_that_does_not_scan_ends_the_stream) {
    start_with_a();
    mesh_ads_message(ads, (const uint8_t *)"\x0a", 1, now);
    flushed("");
    SAID(CDS, "2", "y", ANY(CDS, "a"));
    flushed("take CDS a 2\n> CDS v=2 n=y a,b\n");
    mesh_ads_message(ads, (const uint8_t *)"\x0a", 1, now);
    mesh_ads_message(ads, (const uint8_t *)"\x0a", 1, now);
    flushed("restart responses that are not well-formed\n");
}

Test(ads, listener_or_cluster_that_is_absent_is_gone_but_not_one_that_never_came) {
    start_with_a();
    SAID(CDS, "2", "y", "");
    flushed("removed CDS a\n> CDS v=2 n=y a,b\n");
    SAID(CDS, "3", "z", ANY(CDS, "a"));
    flushed("take CDS a 3\n> CDS v=3 n=z a,b\n");
}

Test(ads, route_that_is_absent_stays) {
    start(false);
    want(MESH_ADS_ROUTE, "r");
    mesh_ads_up(ads);
    mesh_ads_flush(ads, now);
    SAID(RDS, "1", "x", ANY(RDS, "r"));
    SAID(RDS, "2", "y", "");
    flushed("> RDS node v= n= r\ntake RDS r 1\n> RDS v=1 n=x r\n> RDS v=2 n=y r\n");
}

Test(ads, each_of_two_responses_at_once_is_answered) {
    start_with_a();
    SAID(CDS, "2", "y", ANY(CDS, "a"));
    SAID(CDS, "3", "z", ANY(CDS, "a"));
    flushed("take CDS a 2\n> CDS v=2 n=y a,b\ntake CDS a 3\n> CDS v=3 n=z a,b\n");
}

Test(ads, new_stream_starts_without_nonce_and_names_the_version_only_when_all_is_here) {
    start_with_a();
    cr_expect_not(mesh_ads_down(ads, 14, true));
    mesh_ads_up(ads);
    flushed("> CDS node v= n= a,b\n"); /* b is missing: let nothing be skipped */
    SAID(CDS, "2", "y", ANY(CDS, "a") ", " ANY(CDS, "b"));
    flushed("take CDS a 2\ntake CDS b 2\n> CDS v=2 n=y a,b\n");
    mesh_ads_down(ads, 14, true);
    want(MESH_ADS_LISTENER, "l");
    mesh_ads_up(ads);
    flushed("> CDS node v=2 n= a,b\n> LDS v= n= l\n");
}

Test(ads, last_name_of_a_full_type_is_kept_since_an_empty_list_asks_for_everything) {
    start_with_a();
    mesh_ads_unsubscribe(ads, MESH_ADS_CLUSTER, "a");
    flushed("> CDS v=1 n=x b\n");
    mesh_ads_unsubscribe(ads, MESH_ADS_CLUSTER, "b");
    flushed("");
    SAID(CDS, "2", "y", ANY(CDS, "b"));
    flushed("> CDS v=2 n=y b\n");
    want(MESH_ADS_CLUSTER, "c");
    flushed("> CDS v=2 n=y c\n");
    mesh_ads_unsubscribe(ads, MESH_ADS_CLUSTER, "c");
    mesh_ads_down(ads, 0, true);
    mesh_ads_up(ads);
    flushed("");
}

Test(ads, wildcard_is_an_empty_list_and_takes_what_comes) {
    start(false);
    mesh_ads_subscribe_all(ads, MESH_ADS_CLUSTER);
    mesh_ads_up(ads);
    flushed("> CDS node v= n=\n");
    SAID(CDS, "1", "x", ANY(CDS, "a") ", " ANY(CDS, "b"));
    flushed("take CDS a 1\ntake CDS b 1\n> CDS v=1 n=x\n");
    SAID(CDS, "2", "y", ANY(CDS, "b"));
    flushed("take CDS b 2\nremoved CDS a\n> CDS v=2 n=y\n");
    mesh_ads_down(ads, 0, true);
    mesh_ads_up(ads);
    flushed("> CDS node v=2 n=\n");
}

Test(ads, table_of_names_is_asked_for_without_a_name) {
    start(false);
    want(MESH_ADS_NAMES, "");
    mesh_ads_up(ads);
    flushed("> NDS node v= n=\n");
    SAID(U "istio.networking.nds.v1.NameTable", "1", "x",
         "{'@type': " U "istio.networking.nds.v1.NameTable}");
    flushed("take NDS  1\n> NDS v=1 n=x\n");
}

Test(ads, names_that_no_request_has_room_for_are_refused) {
    char name[4096];
    int rc = 0, n = 0;
    start(false);
    memset(name, 'n', sizeof(name));
    for (; rc == 0 && n < 2000; n++) {
        snprintf(name + 4000, 32, "%d", n);
        rc = mesh_ads_subscribe(ads, MESH_ADS_CLUSTER, name);
    }
    cr_expect_eq(rc, MESH_E_LIMIT);
    cr_expect(n > 900 && n < 1000, "%d", n);
}

/* ---- timers -----------------------------------------------------------------------------------------------
 */
Test(ads, name_is_missing_15_s_after_its_request_was_handed_to_a_stream) {
    start(false);
    want(MESH_ADS_CLUSTER, "a");
    passes(20 * MESH_SEC);
    heard("");
    mesh_ads_up(ads);
    flushed("> CDS node v= n= a\n");
    cr_expect_eq(mesh_ads_deadline(ads), now + 15 * MESH_SEC);
    passes(14 * MESH_SEC);
    heard("");
    passes(1 * MESH_SEC);
    heard("missing CDS a\n");
    SAID(CDS, "1", "x", ANY(CDS, "a")); /* the subscription stays */
    flushed("take CDS a 1\n> CDS v=1 n=x a\n");
    passes(60 * MESH_SEC);
    heard("");
}

Test(ads, transient_timer_takes_30_s) {
    server.timer_is_transient = true;
    start(false);
    want(MESH_ADS_CLUSTER, "a");
    mesh_ads_up(ads);
    flushed("> CDS node v= n= a\n");
    passes(29 * MESH_SEC);
    heard("");
    passes(1 * MESH_SEC);
    heard("missing CDS a\n");
}

Test(ads, any_sighting_ends_the_timer_and_a_lost_stream_stops_it) {
    start(false);
    want(MESH_ADS_CLUSTER, "bad");
    want(MESH_ADS_CLUSTER, "a");
    mesh_ads_up(ads);
    flushed("> CDS node v= n= bad,a\n");
    passes(10 * MESH_SEC);
    SAID(CDS, "1", "x", ANY(CDS, "bad"));
    flushed("reject CDS bad 1\n> CDS v= n=x bad,a err=3:bad: no good\n");
    mesh_ads_down(ads, 14, true);
    passes(20 * MESH_SEC);
    heard("");
    mesh_ads_up(ads);
    flushed("> CDS node v= n= bad,a\n");
    passes(15 * MESH_SEC);
    heard("missing CDS bad\nmissing CDS a\n");
}

Test(ads, timer_does_not_run_for_what_is_here) {
    start(false);
    is_cached = true;
    want(MESH_ADS_CLUSTER, "a");
    mesh_ads_up(ads);
    flushed("> CDS node v= n= a\n");
    passes(60 * MESH_SEC);
    heard("");
}

Test(ads, resource_error_ends_the_timer_and_is_told) {
    start(false);
    want(MESH_ADS_CLUSTER, "a");
    mesh_ads_up(ads);
    flushed("> CDS node v= n= a\n");
    message("{nonce: x, version_info: '1', type_url: " CDS ", resource_errors: [{resource_name: {name: a}, "
            "error_detail: {code: 5, message: none}}, {resource_name: {name: other}}]}");
    flushed("failed CDS a 5 none\n> CDS v=1 n=x a\n");
    passes(60 * MESH_SEC);
    heard("");
}

/* ---- the brake --------------------------------------------------------------------------------------------
 */
Test(ads, rejected_response_that_comes_again_is_not_looked_at_and_answered_ever_later) {
    static const uint64_t delays[] = {1000, 1600, 2560, 4096};
    start(false);
    want(MESH_ADS_CLUSTER, "bad");
    want(MESH_ADS_LISTENER, "l");
    mesh_ads_up(ads);
    flushed("> CDS node v= n= bad\n> LDS v= n= l\n");
    SAID(CDS, "1", "x", ANY(CDS, "bad"));
    flushed("reject CDS bad 1\n> CDS v= n=x bad err=3:bad: no good\n");
    for (int i = 0; i < 4; i++) {
        SAID(CDS, "1", "y", ANY(CDS, "bad"));
        flushed("");
        passes(delays[i] * MESH_MS - 1);
        flushed("");
        SAID(LDS, "1", "z", ANY(LDS, "l")); /* others are answered meanwhile */
        flushed("take LDS l 1\n> LDS v=1 n=z l\n");
        passes(1);
        flushed("> CDS v= n=y bad err=3:bad: no good\n");
    }
    for (int i = 0; i < 10; i++)
        SAID(CDS, "1", "y", ANY(CDS, "bad"));
    passes(60 * MESH_SEC);
    flushed("> CDS v= n=y bad err=3:bad: no good\n");
    SAID(CDS, "2", "y", ANY(CDS, "bad"));
    flushed("reject CDS bad 2\n> CDS v= n=y bad err=3:bad: no good\n");
}

Test(ads, delayed_rejection_goes_with_a_change_of_subscriptions) {
    start(false);
    want(MESH_ADS_CLUSTER, "bad");
    mesh_ads_up(ads);
    SAID(CDS, "1", "w", ""); /* not asked yet: only the nonce is kept */
    flushed("> CDS node v= n=w bad\n");
    SAID(CDS, "1", "x", ANY(CDS, "bad"));
    SAID(CDS, "1", "y", ANY(CDS, "bad"));
    want(MESH_ADS_CLUSTER, "c");
    flushed("reject CDS bad 1\n> CDS v= n=x bad err=3:bad: no good\n> CDS v= n=y bad,c err=3:bad: no good\n");
}

/* ---- TTL --------------------------------------------------------------------------------------------------
 */
#define WRAPPED(more) "{'@type': " U "envoy.service.discovery.v3.Resource, name: a, version: '7'" more "}"
#define CONTENT ", resource: " ANY(CDS, "a")
Test(ads, resource_is_gone_when_its_time_to_live_is_over_unless_a_heartbeat_came) {
    start(false);
    want(MESH_ADS_CLUSTER, "a");
    mesh_ads_up(ads);
    flushed("> CDS node v= n= a\n");
    SAID(CDS, "1", "x", WRAPPED(CONTENT ", ttl: 10s"));
    flushed("take CDS a 7\n> CDS v=1 n=x a\n");
    passes(9 * MESH_SEC);
    SAID(CDS, "1", "y", WRAPPED(", ttl: 10s"));
    flushed("> CDS v=1 n=y a\n");
    passes(9 * MESH_SEC);
    heard("");
    passes(1 * MESH_SEC);
    heard("removed CDS a\n");
    SAID(CDS, "1", "z", WRAPPED(CONTENT));
    flushed("take CDS a 7\n> CDS v=1 n=z a\n");
    passes(60 * MESH_SEC);
    heard("");
}

Test(ads, heartbeat_of_what_is_not_here_is_rejected) {
    start(false);
    want(MESH_ADS_CLUSTER, "a");
    mesh_ads_up(ads);
    flushed("> CDS node v= n= a\n");
    SAID(CDS, "1", "x", WRAPPED(""));
    flushed("> CDS v= n=x a err=3:a: no content\n");
}

/* ---- Delta ------------------------------------------------------------------------------------------------
 */
static void start_delta_with_a(void) {
    start(true);
    want(MESH_ADS_CLUSTER, "a");
    want(MESH_ADS_CLUSTER, "b");
    mesh_ads_up(ads);
    flushed("> CDS node n= +a,b\n");
    DELTA(CDS, "x", WRAP(CDS, "a", "1", ""), "");
    flushed("take CDS a 1\n> CDS n=x\n");
}

Test(ads, delta_answers_and_changes_are_messages_of_their_own) {
    start_delta_with_a();
    want(MESH_ADS_CLUSTER, "c");
    mesh_ads_unsubscribe(ads, MESH_ADS_CLUSTER, "b");
    DELTA(CDS, "y", WRAP(CDS, "a", "2", ""), "");
    flushed("take CDS a 2\n> CDS n=y\n> CDS n= +c -b\n");
    mesh_ads_unsubscribe(ads, MESH_ADS_CLUSTER, "a");
    mesh_ads_unsubscribe(ads, MESH_ADS_CLUSTER, "c");
    flushed("> CDS n= -a,c\n");
}

Test(ads, delta_rejection_names_the_bad_and_uses_the_others) {
    start_delta_with_a();
    want(MESH_ADS_CLUSTER, "bad");
    flushed("> CDS n= +bad\n");
    DELTA(CDS, "y", WRAP(CDS, "bad", "1", "") ", " WRAP(CDS, "b", "1", ""), "");
    flushed("reject CDS bad 1\ntake CDS b 1\n> CDS n=y err=3:bad: no good\n");
}

Test(ads, delta_leaves_what_is_not_mentioned_and_removes_what_is_said) {
    start_delta_with_a();
    DELTA(CDS, "y", WRAP(CDS, "b", "1", ""), "");
    flushed("take CDS b 1\n> CDS n=y\n");
    DELTA(CDS, "z", "", "a, other");
    flushed("removed CDS a\n> CDS n=z\n");
    DELTA(CDS, "w", WRAP(CDS, "a", "3", ""), ""); /* created anew, without asking */
    flushed("take CDS a 3\n> CDS n=w\n");
}

Test(ads, delta_says_on_a_new_stream_what_is_here) {
    start_delta_with_a();
    mesh_ads_down(ads, 14, true);
    want(MESH_ADS_CLUSTER, "c");
    mesh_ads_up(ads);
    flushed("> CDS node n= +a,b,c a=1\n");
    mesh_ads_forget(ads); /* another server has spoken meanwhile */
    mesh_ads_down(ads, 14, true);
    mesh_ads_up(ads);
    flushed("> CDS node n= +a,b,c\n");
}

Test(ads, delta_name_that_is_not_there_is_missing_after_15_s_or_at_once_when_said) {
    start_delta_with_a();
    passes(15 * MESH_SEC);
    heard("missing CDS b\n");
    DELTA(CDS, "y", "", "b");
    flushed("removed CDS b\n> CDS n=y\n");
}

Test(ads, delta_wrapper_must_call_it_as_it_calls_itself) {
    start_delta_with_a();
    message("{nonce: y, type_url: " CDS
            ", resources: [{name: b, version: '1', resource: " ANY(CDS, "a") "}]}");
    flushed("> CDS n=y err=3:b: calls itself otherwise inside\n");
}

Test(ads, delta_wildcard_is_a_star) {
    start(true);
    mesh_ads_subscribe_all(ads, MESH_ADS_CLUSTER);
    mesh_ads_up(ads);
    flushed("> CDS node n= +*\n");
    DELTA(CDS, "x", WRAP(CDS, "a", "1", "") ", " WRAP(CDS, "b", "1", ""), "");
    flushed("take CDS a 1\ntake CDS b 1\n> CDS n=x\n");
    DELTA(CDS, "y", "", "a");
    flushed("removed CDS a\n> CDS n=y\n");
    mesh_ads_down(ads, 14, true);
    mesh_ads_up(ads);
    flushed("> CDS node n= +* b=1\n");
}

Test(ads, delta_that_the_server_does_not_know_becomes_state_of_the_world) {
    start(true);
    want(MESH_ADS_CLUSTER, "a");
    cr_expect_str_eq(mesh_ads_path(ads), MESH_ADS_PATH_DELTA);
    mesh_ads_up(ads);
    flushed("> CDS node n= +a\n");
    cr_expect_not(mesh_ads_down(ads, 12, true)); /* it had answered: something else */
    cr_expect(mesh_ads_down(ads, 12, false));
    cr_expect_str_eq(mesh_ads_path(ads), MESH_ADS_PATH_SOTW);
    is_delta = false;
    mesh_ads_up(ads);
    flushed("> CDS node v= n= a\n");
}

static void want_many(int from, bool wants) {
    char name[4000];
    memset(name, 'n', sizeof(name));
    for (int i = from; i < from + 900; i++) {
        snprintf(name + 3900, 32, "%d", i);
        if (wants)
            want(MESH_ADS_CLUSTER, name);
        else
            mesh_ads_unsubscribe(ads, MESH_ADS_CLUSTER, name);
    }
}

Test(ads, delta_list_that_is_too_long_goes_in_parts) {
    start(true);
    want_many(0, true);
    mesh_ads_up(ads);
    mesh_ads_flush(ads, now);
    cr_expect_eq(sends, 1);
    want_many(0, false);
    want_many(900, true);
    mesh_ads_flush(ads, now);
    cr_expect_eq(sends, 3);
    cr_expect(longest < 4 << 20, "%zu", longest);
    mesh_ads_flush(ads, now);
    cr_expect_eq(sends, 3);
}
