/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/unit/tls/pki.h"
#include "tls/internal.h"

#define A "spiffe://shop/a"
#define B "spiffe://shop/b"

static struct pki_cert root, leaf[2];
static char dir[64], path[3][256];
static struct mesh_identity_source *src;
static struct mesh_why why;
static int64_t now;

static void put(int which, const char *text) { /* by rename, as a good issuer does */
    char part[300];
    snprintf(part, sizeof part, "%s.part", path[which]);
    FILE *f = fopen(part, "w");
    fputs(text, f);
    fclose(f);
    cr_assert_eq(rename(part, path[which]), 0);
}

static void put_cert(int which, const struct pki_cert *c) {
    char *text = which == 0 ? pki_chain_pem(c) : which == 1 ? pki_key_pem(c) : pki_cert_pem(c);
    put(which, text);
    free(text);
}

static void put_all(const struct pki_cert *c) {
    put_cert(0, c);
    put_cert(1, c);
    put_cert(2, &root);
}

static int poll_it(void) {
    memset(&why, 0, sizeof why);
    return mesh_identity_source_poll(src, now, &why);
}

static void expect_in_force(const char *spiffe) {
    struct mesh_identity *id = mesh_identity_source_get(src);
    if (spiffe)
        cr_assert_str_eq(mesh_identity_spiffe(id), spiffe);
    else
        cr_assert_null(id);
    mesh_identity_unref(id);
}

static void setup(void) {
    cr_assert_eq(mesh_tls_start(), 0);
    now = time(NULL);
    root = pki_root("root");
    leaf[0] = pki_make(&root, "a", (struct pki_spec){.san = "URI:" A});
    leaf[1] = pki_make(&root, "b", (struct pki_spec){.san = "URI:" B});
    strcpy(dir, "/tmp/mesh-source-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    for (int i = 0; i < 3; i++)
        snprintf(path[i], sizeof path[i], "%s/%s", dir, (const char *[]){"cert", "key", "ca"}[i]);
    cr_assert_eq(mesh_identity_source_new(path[0], path[1], path[2], &src), 0);
}

static void teardown(void) {
    mesh_identity_source_free(src);
    for (int i = 0; i < 3; i++) {
        unlink(path[i]);
        rmdir(path[i]);
    }
    rmdir(dir);
    pki_free(&leaf[0]);
    pki_free(&leaf[1]);
    pki_free(&root);
}

TestSuite(source, .init = setup, .fini = teardown);

Test(source, no_files_is_said_once) {
    cr_assert_eq(poll_it(), MESH_E_IO);
    cr_assert(strstr(why.text, "/cert: No such file"), "%s", why.text);
    cr_assert_eq(poll_it(), 0);
    expect_in_force(NULL);
    struct mesh_pem pem;
    cr_assert(!mesh_identity_source_pem(src, &pem));
    put_all(&leaf[0]);
    cr_assert_eq(poll_it(), 1);
    expect_in_force(A);
}

Test(source, files_are_loaded_once_and_again_when_replaced) {
    put_all(&leaf[0]);
    cr_assert_eq(poll_it(), 1, "%s", why.text);
    expect_in_force(A);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(poll_it(), 0);
    now += 10; /* the same bytes read again after the settling time are nothing new */
    cr_assert_eq(poll_it(), 0);
    put_all(&leaf[1]);
    cr_assert_eq(poll_it(), 1);
    expect_in_force(B);
}

Test(source, half_a_rotation_keeps_the_old) {
    put_all(&leaf[0]);
    cr_assert_eq(poll_it(), 1);
    put_cert(0, &leaf[1]);
    cr_assert_eq(poll_it(), MESH_E_INVALID);
    cr_assert(strstr(why.text, "key does not belong"), "%s", why.text);
    expect_in_force(A);
    cr_assert_eq(poll_it(), 0); /* said */
    put_cert(1, &leaf[1]);
    cr_assert_eq(poll_it(), 1);
    expect_in_force(B);
}

Test(source, a_torn_file_keeps_the_old) {
    put_all(&leaf[0]);
    cr_assert_eq(poll_it(), 1);
    char *text = pki_chain_pem(&leaf[1]);
    text[strlen(text) / 2] = 0;
    put(0, text);
    cr_assert_eq(poll_it(), MESH_E_SYNTAX);
    expect_in_force(A);
    put(0, "");
    cr_assert_eq(poll_it(), MESH_E_SYNTAX);
    expect_in_force(A);
    free(text);
}

Test(source, an_expired_certificate_keeps_the_old) {
    put_all(&leaf[0]);
    cr_assert_eq(poll_it(), 1);
    struct pki_cert old = pki_make(&root, "x", (struct pki_spec){.san = "URI:" B, .from = -100, .to = -10});
    put_all(&old);
    cr_assert_eq(poll_it(), MESH_E_INVALID);
    cr_assert(strstr(why.text, "expired"), "%s", why.text);
    expect_in_force(A);
    pki_free(&old);
}

Test(source, a_certificate_of_soon_is_taken_when_its_time_comes) {
    put_all(&leaf[0]);
    cr_assert_eq(poll_it(), 1);
    struct pki_cert soon = pki_make(&root, "x", (struct pki_spec){.san = "URI:" B, .from = 20, .to = 3600});
    put_all(&soon);
    cr_assert_eq(poll_it(), MESH_E_INVALID);
    now += 10;
    cr_assert_eq(poll_it(), 0);
    expect_in_force(A);
    now += 15;
    cr_assert_eq(poll_it(), 1, "%s", why.text);
    expect_in_force(B);
    pki_free(&soon);
}

Test(source, what_is_no_regular_file_is_refused_without_waiting) {
    put_all(&leaf[0]);
    cr_assert_eq(poll_it(), 1);
    unlink(path[0]);
    cr_assert_eq(mkfifo(path[0], 0600), 0);
    cr_assert_eq(poll_it(), MESH_E_INVALID);
    cr_assert(strstr(why.text, "not a regular file"), "%s", why.text);
    unlink(path[0]);
    mkdir(path[0], 0700);
    cr_assert_eq(poll_it(), MESH_E_INVALID);
    expect_in_force(A);
}

Test(source, a_file_above_a_mebibyte_is_refused) {
    put_all(&leaf[0]);
    cr_assert_eq(truncate(path[2], (1 << 20) + 1), 0);
    cr_assert_eq(poll_it(), MESH_E_INVALID);
    cr_assert(strstr(why.text, "1 MiB"), "%s", why.text);
}

Test(source, a_directory_swapped_by_symlink_is_followed) {
    char to[2][96], link_path[96], file[3][256];
    snprintf(link_path, sizeof link_path, "%s/..data", dir);
    for (int i = 0; i < 2; i++) {
        snprintf(to[i], sizeof to[i], "%s/v%d", dir, i);
        mkdir(to[i], 0700);
        for (int j = 0; j < 3; j++)
            snprintf(path[j], sizeof path[j], "%s/f%d", to[i], j);
        put_all(&leaf[i]);
    }
    cr_assert_eq(symlink("v0", link_path), 0);
    for (int j = 0; j < 3; j++)
        snprintf(file[j], sizeof file[j], "%s/f%d", link_path, j);
    struct mesh_identity_source *linked;
    cr_assert_eq(mesh_identity_source_new(file[0], file[1], file[2], &linked), 0);
    cr_assert_eq(mesh_identity_source_poll(linked, now, &why), 1, "%s", why.text);
    unlink(link_path);
    cr_assert_eq(symlink("v1", link_path), 0);
    cr_assert_eq(mesh_identity_source_poll(linked, now, &why), 1, "%s", why.text);
    struct mesh_identity *id = mesh_identity_source_get(linked);
    cr_assert_str_eq(mesh_identity_spiffe(id), B);
    mesh_identity_unref(id);
    mesh_identity_source_free(linked);
    unlink(link_path);
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 3; j++) {
            char f[256];
            snprintf(f, sizeof f, "%s/f%d", to[i], j);
            unlink(f);
        }
        rmdir(to[i]);
    }
}

Test(source, bytes_in_force_can_be_handed_on) {
    put_all(&leaf[0]);
    cr_assert_eq(poll_it(), 1);
    struct mesh_pem pem;
    cr_assert(mesh_identity_source_pem(src, &pem));
    struct mesh_identity_source *other;
    cr_assert_eq(mesh_identity_source_new(NULL, NULL, NULL, &other), 0);
    cr_assert_eq(mesh_identity_source_poll(other, now, &why), MESH_E_INVALID);
    cr_assert_eq(mesh_identity_source_feed(other, &pem, now, &why), 1, "%s", why.text);
    cr_assert_eq(mesh_identity_source_feed(other, &pem, now, &why), 0);
    struct mesh_identity *id = mesh_identity_source_get(other);
    cr_assert_str_eq(mesh_identity_spiffe(id), A);
    pem.key_len = 10;
    cr_assert_eq(mesh_identity_source_feed(other, &pem, now, &why), MESH_E_SYNTAX);
    cr_assert_eq(mesh_identity_source_get(other), id);
    mesh_identity_unref(id);
    mesh_identity_unref(id);
    mesh_identity_source_free(other);
    mesh_identity_source_free(NULL);
}

Test(source, an_identity_in_use_outlives_rotations) {
    put_all(&leaf[0]);
    cr_assert_eq(poll_it(), 1);
    struct mesh_identity *id = mesh_identity_source_get(src);
    for (int i = 1; i < 6; i++) {
        put_all(&leaf[i % 2]);
        cr_assert_eq(poll_it(), 1);
    }
    cr_assert_str_eq(mesh_identity_spiffe(id), A);
    mesh_identity_unref(id);
}
