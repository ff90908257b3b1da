/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <string.h>
#include "shim/base/buf.h"

Test(rbuf, integers_are_big_endian) {
    const uint8_t in[] = {1, 2, 3, 4, 5, 6, 0xff, 8, 9, 10};
    struct mesh_rbuf b = mesh_rbuf_of(in, sizeof in);
    cr_assert_eq(mesh_rbuf_u8(&b), 1);
    cr_assert_eq(mesh_rbuf_u16(&b), 0x0203);
    cr_assert_eq(mesh_rbuf_u24(&b), 0x040506);
    cr_assert_eq(mesh_rbuf_u32(&b), 0xff08090au);
    cr_assert_eq(mesh_rbuf_left(&b), 0);
    cr_assert_not(b.broken);
}

Test(rbuf, too_short_breaks_and_stays_broken) {
    const uint8_t in[] = {1, 2, 3};
    struct mesh_rbuf b = mesh_rbuf_of(in, sizeof in);
    cr_assert_eq(mesh_rbuf_u32(&b), 0);
    cr_assert(b.broken);
    cr_assert_eq(mesh_rbuf_u8(&b), 0); /* there would be one */
    cr_assert_null(mesh_rbuf_take(&b, 0));
    cr_assert_eq(mesh_rbuf_left(&b), 0);
}

Test(rbuf, huge_length_does_not_wrap) {
    const uint8_t in[4] = {0};
    struct mesh_rbuf b = mesh_rbuf_of(in, sizeof in);
    cr_assert_null(mesh_rbuf_take(&b, SIZE_MAX));
    cr_assert(b.broken);
}

Test(rbuf, window_ends_where_it_was_told) {
    const uint8_t in[] = {1, 2, 3, 4};
    struct mesh_rbuf b = mesh_rbuf_of(in, sizeof in), w = mesh_rbuf_sub(&b, 2);
    cr_assert_eq(mesh_rbuf_u16(&w), 0x0102);
    (void)mesh_rbuf_u8(&w);
    cr_assert(w.broken);
    cr_assert_not(b.broken);
    cr_assert_eq(mesh_rbuf_u16(&b), 0x0304);
}

Test(rbuf, window_that_is_too_long_is_empty_and_broken) {
    const uint8_t in[] = {1};
    struct mesh_rbuf b = mesh_rbuf_of(in, sizeof in), w = mesh_rbuf_sub(&b, 2);
    cr_assert(w.broken && b.broken);
    cr_assert_eq(mesh_rbuf_left(&w), 0);
}

Test(rbuf, nothing_is_read_from_nothing) {
    struct mesh_rbuf b = mesh_rbuf_of(NULL, 0);
    cr_assert_eq(mesh_rbuf_left(&b), 0);
    (void)mesh_rbuf_u8(&b);
    cr_assert(b.broken);
}

Test(wbuf, integers_are_big_endian) {
    uint8_t out[10];
    const uint8_t want[] = {1, 2, 3, 4, 5, 6, 0xff, 8, 9, 10};
    struct mesh_wbuf b = mesh_wbuf_of(out, sizeof out);
    mesh_wbuf_u8(&b, 1);
    mesh_wbuf_u16(&b, 0x0203);
    mesh_wbuf_u24(&b, 0x040506);
    mesh_wbuf_u32(&b, 0xff08090au);
    cr_assert_not(b.broken);
    cr_assert_eq(mesh_wbuf_len(&b), 10);
    cr_assert_arr_eq(out, want, 10);
}

Test(wbuf, what_does_not_fit_is_not_begun) {
    uint8_t out[4] = {9, 9, 9, 9};
    struct mesh_wbuf b = mesh_wbuf_of(out, 3);
    mesh_wbuf_u16(&b, 0x0102);
    mesh_wbuf_u16(&b, 0x0304);
    cr_assert(b.broken);
    cr_assert_eq(mesh_wbuf_len(&b), 2);
    mesh_wbuf_u8(&b, 5); /* would fit, but the buffer is broken */
    cr_assert_eq(out[2], 9);
    cr_assert_eq(out[3], 9);
}

Test(wbuf, empty_put_takes_no_source) {
    uint8_t out[1];
    struct mesh_wbuf b = mesh_wbuf_of(out, 1);
    mesh_wbuf_put(&b, NULL, 0);
    cr_assert_not(b.broken);
    cr_assert_eq(mesh_wbuf_len(&b), 0);
}
