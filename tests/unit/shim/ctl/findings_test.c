/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdio.h>
#include <string.h>
#include "shim/ctl/findings.h"

static struct mesh_ctl_findings f;

Test(findings, warnings_alone_are_a_yes) {
    mesh_ctl_found(&f, MESH_CTL_WARNING, "view", "do this", "%s", "w");
    mesh_ctl_found(&f, MESH_CTL_OK, "view", "", "%s", "o");
    cr_assert(mesh_ctl_findings_clean(&f));
    cr_assert_eq(mesh_ctl_findings_print(&f, MESH_CTL_TEXT), 0);
}

Test(findings, one_error_is_a_no, .init = cr_redirect_stdout) {
    mesh_ctl_found(&f, MESH_CTL_WARNING, "view", "do this", "w %d", 1);
    mesh_ctl_found(&f, MESH_CTL_ERROR, "identity", "", "e");
    cr_assert_eq(mesh_ctl_findings_print(&f, MESH_CTL_TEXT), 1);
    fflush(stdout);
    cr_assert_stdout_eq_str("warning  view: w 1\n         -> do this\nerror    identity: e\n");
}

Test(findings, json_has_every_finding, .init = cr_redirect_stdout) {
    mesh_ctl_found(&f, MESH_CTL_ERROR, "identity", "renew it", "e");
    cr_assert_eq(mesh_ctl_findings_print(&f, MESH_CTL_JSON), 1);
    cr_assert_stdout_eq_str(
        "{\n  \"ok\": false,\n  \"findings\": [\n    {\n      \"severity\": \"error\",\n"
        "      \"subject\": \"identity\",\n      \"text\": \"e\",\n      \"todo\": \"renew it\"\n    }\n"
        "  ],\n  \"left_out\": 0\n}\n");
}

Test(findings, flood_of_warnings_leaves_room_for_errors) {
    for (int i = 0; i < 2000; i++)
        mesh_ctl_found(&f, MESH_CTL_WARNING, "view", "", "w");
    cr_assert_eq(f.n, MESH_CTL_REMARKS_MAX);
    for (int i = 0; i < 2000; i++)
        mesh_ctl_found(&f, MESH_CTL_ERROR, "view", "", "e");
    cr_assert_eq(f.n, MESH_CTL_FINDINGS_MAX);
    cr_assert_eq(f.left_out, 4000 - MESH_CTL_FINDINGS_MAX);
    cr_assert_not(mesh_ctl_findings_clean(&f));
}

Test(findings, long_texts_are_cut) {
    static char text[2000];
    memset(text, 'x', sizeof text - 1);
    mesh_ctl_found(&f, MESH_CTL_ERROR, "view", text, "%s", text);
    cr_assert_eq(strlen(f.items[0].text), sizeof f.items[0].text - 1);
    cr_assert_eq(strlen(f.items[0].todo), sizeof f.items[0].todo - 1);
}
