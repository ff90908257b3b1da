/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "shim/env_file.h"

static char path[] = "/tmp/env_file_test.XXXXXX";
static struct mesh_why why;

static void make(const void *text, size_t n, mode_t mode) {
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, n), (ssize_t)n);
    cr_assert_eq(fchmod(fd, mode), 0);
    close(fd);
}

static void gone(void) {
    unlink(path);
}

TestSuite(env_file, .fini = gone);

static int read_it(uid_t owner) {
    char *text = NULL;
    int r = mesh_env_file_read(path, owner, &text, &why);
    free(text);
    return r;
}

Test(env_file, missing_file_is_no_error_to_speak_of) {
    char *text;
    cr_assert_eq(mesh_env_file_read("/nonexistent/a/b", 0, &text, &why), MESH_E_NOTFOUND);
    cr_assert_str_eq(why.text, "");
}

Test(env_file, own_file_is_read_whole) {
    char *text = NULL;
    make("A=1\nB=2", 7, 0644);
    cr_assert_eq(mesh_env_file_read(path, geteuid(), &text, &why), 0);
    cr_assert_str_eq(text, "A=1\nB=2");
    free(text);
}

Test(env_file, foreign_or_writable_file_is_refused) {
    make("A=1", 3, 0644);
    cr_assert_eq(read_it(geteuid() + 1), MESH_E_INVALID);
    cr_assert(strstr(why.text, "owned by"));
    chmod(path, 0620);
    cr_assert_eq(read_it(geteuid()), MESH_E_INVALID);
    chmod(path, 0602);
    cr_assert_eq(read_it(geteuid()), MESH_E_INVALID);
    chmod(path, 0600);
    cr_assert_eq(read_it(geteuid()), 0);
}

Test(env_file, oversized_file_is_refused) {
    char *text = calloc(1, MESH_ENV_FILE_MAX + 1);
    memset(text, '\n', MESH_ENV_FILE_MAX + 1);
    make(text, MESH_ENV_FILE_MAX, 0600);
    cr_assert_eq(read_it(geteuid()), 0);
    gone();
    memcpy(path + strlen(path) - 6, "XXXXXX", 6);
    make(text, MESH_ENV_FILE_MAX + 1, 0600);
    cr_assert_eq(read_it(geteuid()), MESH_E_INVALID);
    free(text);
}

Test(env_file, nul_byte_is_refused) {
    make("A=1\0B=2", 7, 0600);
    cr_assert_eq(read_it(geteuid()), MESH_E_INVALID);
}

Test(env_file, fifo_and_directory_are_refused_without_waiting, .timeout = 5) {
    char *text;
    make("", 0, 0600);
    gone();
    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_assert_eq(read_it(geteuid()), MESH_E_INVALID);
    cr_assert_eq(mesh_env_file_read("/", 0, &text, &why), MESH_E_INVALID);
}

Test(env_file, lines_are_names_and_values) {
    char text[] = "# c\n\n  A = b c \t\r\nB=\nC=x=y\n=v\nword\n D=1", *rest = text, *name, *value;
    const char *const want[][2] = {{"A", "b c"}, {"B", ""}, {"C", "x=y"}};
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(mesh_env_file_next(&rest, &name, &value), 1);
        cr_assert_str_eq(name, want[i][0]);
        cr_assert_str_eq(value, want[i][1]);
    }
    cr_assert_eq(mesh_env_file_next(&rest, &name, &value), MESH_E_SYNTAX);
    cr_assert_eq(mesh_env_file_next(&rest, &name, &value), MESH_E_SYNTAX);
    cr_assert_str_eq(name, "word");
    cr_assert_eq(mesh_env_file_next(&rest, &name, &value), 1);
    cr_assert_str_eq(name, "D");
    cr_assert_eq(mesh_env_file_next(&rest, &name, &value), 0);
}
