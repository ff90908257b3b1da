/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/real.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <gnu/lib-names.h>
#include <string.h>

static const char *const names[] = {
#define CALL(family, lacks, ret, name, params, args) #name,
#define VOID(family, name, params, args) #name,
#define NORETURN(family, name, params, args) #name,
#define FIXED(family, lacks, ret, name, type, params, args) #name,
#define CHECKED(family, ret, name, params, args, overrun, call, call_args) #name,
#define POINTER(lacks, ret, name, params, args) #name,
#include "shim/symbols.def"
};
enum { COUNT = sizeof names / sizeof *names };

Test(real, every_name_of_the_table_is_what_dlsym_finds) {
    for (size_t i = 0; i < COUNT; i++)
        cr_expect_eq(mesh_real_lookup(names[i]), dlsym(RTLD_NEXT, names[i]), "%s", names[i]);
}

Test(real, hardly_any_name_is_missing_from_this_libc) {
    size_t missing = 0;
    for (size_t i = 0; i < COUNT; i++)
        missing += mesh_real_lookup(names[i]) == NULL;
    cr_expect_leq(missing, 4);
}

Test(real, several_versions_give_the_default_one) {
    void *libc = dlopen(LIBC_SO, RTLD_LAZY | RTLD_NOLOAD);
    void *old = dlvsym(libc, "posix_spawn", "GLIBC_2.2.5"), *found = mesh_real_lookup("posix_spawn");
    cr_assert_not_null(found);
    if (!old)
        cr_skip_test("this libc has one version of posix_spawn");
    cr_expect_neq(found, old);
    cr_expect_eq(found, dlsym(RTLD_NEXT, "posix_spawn"));
}

Test(real, unknown_names_give_null) {
    cr_expect_null(mesh_real_lookup("no_such_call_anywhere"));
    cr_expect_null(mesh_real_lookup(""));
}

Test(real, data_is_found_as_well) {
    FILE **err = mesh_real_lookup("stderr");
    cr_assert_not_null(err);
    cr_expect_eq(fileno(*err), 2);
}

Test(real, first_call_looks_up_and_later_ones_go_straight) {
    int fds[2];
    void *before = (void *)real.pipe;
    cr_assert_eq(real.pipe(fds), 0);
    cr_expect_neq((void *)real.pipe, before);
    cr_expect_eq((void *)real.pipe, mesh_real_lookup("pipe"));
    cr_expect_eq(real.write(fds[1], "x", 1), 1);
    cr_expect_eq(real.close(fds[0]), 0);
    cr_expect_eq(real.close(fds[1]), 0);
}

Test(real, first_call_keeps_all_arguments) {
    char host[64] = "", service[16] = "";
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(4711), .sin_addr = {htonl(0x7f000001)}};
    cr_expect_eq(real.getnameinfo((struct sockaddr *)&in, sizeof in, host, sizeof host, service,
                                  sizeof service, NI_NUMERICHOST | NI_NUMERICSERV),
                 0);
    cr_expect_str_eq(host, "127.0.0.1");
    cr_expect_str_eq(service, "4711");
}

Test(real, a_call_that_libc_lacks_fails_with_enosys) {
    if (mesh_real_lookup("pidfd_spawn"))
        cr_skip_test("this libc has pidfd_spawn");
    char *argv[] = {(char *)"true", NULL};
    int fd = -2;
    cr_expect_eq(real.pidfd_spawn(&fd, "/bin/true", NULL, NULL, argv, NULL), ENOSYS);
    cr_expect_eq(fd, -2);
}
