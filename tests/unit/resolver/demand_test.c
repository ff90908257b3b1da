/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include "resolver/demand.h"
#include "shim/base/clock.h"
#include "tests/unit/resolver/fixture.h"

static const char bootstrap[] =
    "{\"xds_servers\": [{\"server_uri\": \"127.0.0.1:1\", \"channel_creds\": [{\"type\": "
    "\"insecure\"}]}], \"node\": {\"id\": \"test\"}}";
static struct fixture f;

static void start(void) {
    fixture_init(&f, NULL);
    f.cfg.file = NULL;
    f.cfg.bootstrap_text = bootstrap;
    f.cfg.domains = "mesh,maybe?";
    cr_assert_eq(fixture_open(&f), 0, "%s", f.why.text);
    cr_assert_str_eq(f.why.text, "");
}

static void stop(void) {
    fixture_done(&f);
}

TestSuite(demand, .init = start, .fini = stop);

static uint32_t find(const char *name, uint16_t port, struct mesh_demand *ret) {
    uint32_t n = 0;
    struct mesh_demand d;
    for (uint32_t i = 0; i < VIEW_DEMANDS; i++)
        if (mesh_demand_read(f.view, i, &d) && strcmp(d.name, name) == 0 && d.port == port) {
            *ret = d;
            n++;
        }
    return n;
}

Test(demand, unknown_name_is_posted_once_and_stays_open) {
    struct mesh_answer a;
    struct mesh_demand d;
    cr_assert_eq(mesh_view_name(f.view, "a.mesh", &a), MESH_E_AGAIN);
    cr_assert_eq(mesh_view_name(f.view, "example.com", &a), MESH_E_NOTFOUND, "other names are libc's");
    cr_assert_eq(mesh_view_ask(f.view, "A.Mesh.", 80), 0);
    cr_assert_eq(mesh_view_ask(f.view, "a.mesh", 80), 0);
    cr_assert_eq(mesh_view_ask(f.view, "a.mesh", 0), 0);
    cr_assert_eq(find("a.mesh", 80, &d), 1);
    cr_assert_eq(d.state, DEMAND_ASKED);
    cr_assert_eq(find("a.mesh", 0, &d), 1);
    cr_assert_eq(mesh_view_name_at(f.view, "a.mesh", 80, &a), MESH_E_AGAIN);
}

Test(demand, denial_holds_for_its_port_and_for_a_while) {
    struct mesh_answer a;
    struct mesh_demand d;
    cr_assert_eq(mesh_view_ask(f.view, "a.mesh", 80), 0);
    cr_assert_eq(find("a.mesh", 80, &d), 1);
    uint32_t seen = mesh_view_answers(f.view);
    mesh_demand_answer(f.view, &d, DEMAND_DENIED, mesh_now());
    mesh_demand_wake(f.view);
    cr_assert_neq(mesh_view_answers(f.view), seen);
    cr_assert_eq(mesh_view_name_at(f.view, "a.mesh", 80, &a), MESH_E_DENIED);
    cr_assert_eq(mesh_view_name_at(f.view, "a.mesh", 81, &a), MESH_E_AGAIN);
    cr_assert_eq(mesh_view_ask(f.view, "a.mesh", 80), 0);
    cr_assert_eq(mesh_view_name_at(f.view, "a.mesh", 80, &a), MESH_E_DENIED, "remembered");
    atomic_store(&mesh_view_head(f.view)->demands[d.slot].answered,
                 mesh_now() - DEMAND_DENIED_FOR - MESH_SEC);
    cr_assert_eq(mesh_view_name_at(f.view, "a.mesh", 80, &a), MESH_E_AGAIN, "and asked again after that");
    cr_assert_eq(mesh_view_ask(f.view, "a.mesh", 80), 0);
    cr_assert(mesh_demand_read(f.view, d.slot, &d));
    cr_assert_eq(d.state, DEMAND_ASKED);
}

Test(demand, denied_name_of_a_question_mark_domain_is_libcs) {
    struct mesh_answer a;
    struct mesh_demand d;
    cr_assert_eq(mesh_view_name(f.view, "a.maybe", &a), MESH_E_AGAIN, "asked for first");
    cr_assert(mesh_view_falls_through(f.view, "a.maybe"));
    cr_assert_not(mesh_view_falls_through(f.view, "a.mesh"));
    cr_assert_eq(mesh_view_ask(f.view, "a.maybe", 0), 0);
    cr_assert_eq(find("a.maybe", 0, &d), 1);
    mesh_demand_answer(f.view, &d, DEMAND_DENIED, mesh_now());
    cr_assert_eq(mesh_view_name(f.view, "a.maybe", &a), MESH_E_NOTFOUND);
}

Test(demand, silence_about_the_bare_name_gives_an_address_to_ask_a_port_for) {
    struct mesh_answer a;
    struct mesh_demand d;
    char name[256];
    cr_assert_eq(mesh_view_ask(f.view, "a.mesh", 0), 0);
    cr_assert_eq(find("a.mesh", 0, &d), 1);
    mesh_demand_answer(f.view, &d, DEMAND_SILENT, mesh_now());
    cr_assert_eq(mesh_view_name(f.view, "a.mesh", &a), 0);
    cr_assert(a.has4);
    cr_assert_eq(mesh_view_name_of(f.view, 4, a.v4, name, sizeof name), 0);
    cr_assert_str_eq(name, "a.mesh");
}

Test(demand, full_table_says_so) {
    char name[32];
    int rc = 0;
    for (int i = 0; i < 2 * VIEW_DEMANDS && rc == 0; i++) {
        snprintf(name, sizeof name, "n%d.mesh", i);
        rc = mesh_view_ask(f.view, name, 0);
    }
    cr_assert_eq(rc, MESH_E_LIMIT);
}

Test(demand, hostile_slots_are_not_read) {
    struct mesh_demand d;
    struct view_demand *s = mesh_view_head(f.view)->demands;
    memset(s, 0xff, 16 * sizeof *s);
    for (int i = 0; i < 16; i++)
        atomic_store(&s[i].state, DEMAND_ASKED);
    for (uint32_t i = 0; i < 16; i++)
        cr_assert_not(mesh_demand_read(f.view, i, &d));
    cr_assert_eq(mesh_view_asked(f.view, "a.mesh", 80), MESH_E_AGAIN);
}

Test(demand, listener_is_closed_until_something_is_said_of_it) {
    struct sockaddr_in bound = fixture_addr("0.0.0.0", 8080), local = fixture_addr("10.0.0.1", 8080),
                       other = fixture_addr("10.0.0.1", 8081);
    struct mesh_demand d;
    mesh_view_inbound_ask(f.view, (struct sockaddr *)&bound);
    cr_assert_eq(find("inbound/0.0.0.0:8080", 0, &d), 1);
    cr_assert_not(mesh_view_inbound_known(f.view, (struct sockaddr *)&local));
    mesh_demand_answer(f.view, &d, DEMAND_DENIED, mesh_now());
    cr_assert(mesh_view_inbound_known(f.view, (struct sockaddr *)&local));
    cr_assert_not(mesh_view_inbound_known(f.view, (struct sockaddr *)&other));
}

Test(demand, wrong_bootstrap_is_named_and_names_are_refused) {
    struct mesh_view *view;
    struct mesh_why why;
    struct mesh_answer a;
    bool is_private;
    f.cfg.bootstrap_text = "{\"xds_servers\": 7}";
    cr_assert_eq(mesh_view_open(&f.cfg, &view, &is_private, &why), 0);
    cr_assert(strstr(why.text, "xds_servers"), "%s", why.text);
    cr_assert_eq(mesh_view_name(view, "a.mesh", &a), MESH_E_AGAIN);
    cr_assert_not(mesh_view_learns(view), "nobody waits");
    mesh_view_close(view);
}
