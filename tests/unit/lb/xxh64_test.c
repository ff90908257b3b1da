/* SPDX-License-Identifier: Apache-2.0
 *
 * Vectors: Envoy's test/common/common/hash_test.cc; the reference implementation's self test (xxHash,
 * xxhsum.c), whose buffer is byte i = top byte of a 32-bit generator that starts at 2654435761 and squares
 * itself.
 */
#include <criterion/criterion.h>
#include <string.h>
#include "lb/lb.h"

static uint64_t of(const char *text) {
    return mesh_lb_xxh64(text, strlen(text), 0);
}

Test(xxh64, envoys_vectors_hold) {
    cr_expect_eq(of(""), UINT64_C(17241709254077376921));
    cr_expect_eq(of("foo"), UINT64_C(3728699739546630719));
    cr_expect_eq(of("bar"), UINT64_C(5234164152756840025));
    cr_expect_eq(of("foo\nbar"), UINT64_C(8917841378505826757));
    cr_expect_eq(of("lyft"), UINT64_C(4400747396090729504));
}

Test(xxh64, well_known_strings_hold) {
    cr_expect_eq(of("a"), UINT64_C(0xd24ec4f1a98c6e5b));
    cr_expect_eq(of("abc"), UINT64_C(0x44bc2cf5ad770999));
    cr_expect_eq(of("Nobody inspects the spammish repetition"), UINT64_C(0xfbcea83c8a378bf1));
}

Test(xxh64, reference_self_test_holds) {
    uint8_t buffer[222];
    uint64_t generator = UINT64_C(2654435761), prime = UINT64_C(11400714785074694797);
    for (size_t i = 0; i < sizeof buffer; i++) {
        buffer[i] = (uint8_t)(generator >> 56);
        generator *= prime;
    }
    cr_expect_eq(mesh_lb_xxh64(buffer, 0, 2654435761u), UINT64_C(0xac75fda2929b17ef));
    cr_expect_eq(mesh_lb_xxh64(buffer, 1, 0), UINT64_C(0xe934a84adb052768));
    cr_expect_eq(mesh_lb_xxh64(buffer, 1, 2654435761u), UINT64_C(0x5014607643a9b4c3));
    cr_expect_eq(mesh_lb_xxh64(buffer, 14, 0), UINT64_C(0x8282dcc4994e35c8));
    cr_expect_eq(mesh_lb_xxh64(buffer, 14, 2654435761u), UINT64_C(0xc3bd6bf63deb6df0));
    cr_expect_eq(mesh_lb_xxh64(buffer, 222, 0), UINT64_C(0xb641ae8cb691c174));
    cr_expect_eq(mesh_lb_xxh64(buffer, 222, 2654435761u), UINT64_C(0x20cb8ab7ae10c14a));
}
