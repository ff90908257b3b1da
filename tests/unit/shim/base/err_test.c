/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include "shim/base/err.h"

Test(err, every_error_has_its_own_text) {
    cr_assert_str_eq(mesh_err_text(MESH_OK), "success");
    cr_assert_str_eq(mesh_err_text(MESH_E_NOMEM), "out of memory");
    cr_assert_str_eq(mesh_err_text(MESH_E_INTERNAL), "internal error");
}

Test(err, foreign_number_is_unknown) {
    cr_assert_str_eq(mesh_err_text(MESH_E_INTERNAL + 1), "unknown error");
    cr_assert_str_eq(mesh_err_text(MESH_ERR_FIRST_), "unknown error");
    cr_assert_str_eq(mesh_err_text(5), "unknown error");
    cr_assert_str_eq(mesh_err_text(-2147483647 - 1), "unknown error");
}

Test(err, errors_are_never_errnos) {
    cr_assert_lt(MESH_E_INTERNAL, -133); /* EHWPOISON is the last */
}

Test(why, sentence_is_cut_to_fit) {
    struct mesh_why w;
    char text[600];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    cr_assert_eq(mesh_why(&w, MESH_E_SYNTAX, "%s", text), MESH_E_SYNTAX);
    cr_assert_eq(strlen(w.text), sizeof w.text - 1);
}

Test(why, nobody_asks_the_error_is_returned) {
    cr_assert_eq(mesh_why(NULL, MESH_E_LIMIT, "%s", "x"), MESH_E_LIMIT);
}

Test(why, old_sentence_inside_the_new_one_is_kept) {
    struct mesh_why w;
    (void)mesh_why(&w, 0, "bad port");
    (void)mesh_why(&w, 0, "line 3: %s", w.text);
    cr_assert_str_eq(w.text, "line 3: bad port");
}

Test(why, errno_survives) {
    struct mesh_why w;
    errno = EDOM;
    (void)mesh_why(&w, 0, "%d", 1);
    cr_assert_eq(errno, EDOM);
}
