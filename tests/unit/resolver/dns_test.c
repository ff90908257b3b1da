/* SPDX-License-Identifier: Apache-2.0
 *
 * What needs no DNS server; the rest: tests/interop/xds/channel_test.py.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "resolver/channel.h"
#include "shim/base/clock.h"

static int answers, last_err, kept, dropped;
static uint32_t last_n;
static uint8_t last_family;
static bool refuse;

static void on_answer(void *arg, const struct mesh_dns_answer *a) {
    answers++;
    last_err = a->err;
    last_n = a->n;
    last_family = a->n ? a->addrs[0].family : 0;
}

static int keep(int fd) {
    if (refuse) {
        close(fd);
        return -EMFILE;
    }
    kept++;
    return fd;
}

static void drop(int fd) {
    dropped++;
}

static const struct mesh_fd_hooks hooks = {keep, drop};

static struct mesh_dns *start(void) {
    struct mesh_dns *dns;
    cr_assert_eq(mesh_dns_new(&hooks, &dns), 0);
    answers = 0;
    return dns;
}

static void asks(struct mesh_dns *dns, const char *host, unsigned families, int err, uint32_t n,
                 uint8_t family) {
    int before = answers;
    cr_assert_eq(mesh_dns_ask(dns, host, families, on_answer, NULL), 0);
    cr_expect_eq(answers, before + 1, "%s: at once", host);
    cr_expect_eq(last_err, err, "%s: %s", host, mesh_err_text(last_err));
    cr_expect(last_n == n && last_family == family, "%s: %u of family %u", host, last_n, last_family);
}

TestSuite(dns, .timeout = 60);

Test(dns, numeric_hosts_are_their_own_answer) {
    struct mesh_dns *dns = start();
    asks(dns, "10.0.0.1", 3, 0, 1, 4);
    asks(dns, "10.0.0.1", 1, 0, 1, 4);
    asks(dns, "10.0.0.1", 2, MESH_E_NOTFOUND, 0, 0);
    asks(dns, "2001:db8::1", 3, 0, 1, 6);
    asks(dns, "2001:db8::1", 1, MESH_E_NOTFOUND, 0, 0);
    mesh_dns_free(dns);
}

Test(dns, hosts_file_is_asked) {
    struct mesh_dns *dns = start();
    asks(dns, "localhost", 1, 0, 1, 4);
    mesh_dns_free(dns);
}

Test(dns, names_that_cannot_be_are_not_asked_for) {
    struct mesh_dns *dns = start();
    asks(dns, "a..b", 3, MESH_E_NOTFOUND, 0, 0);
    mesh_dns_free(dns);
    cr_expect_eq(kept, 0);
}

Test(dns, forgotten_questions_and_a_freed_object_say_nothing) {
    struct mesh_dns *dns = start();
    int tag;
    cr_assert_eq(mesh_dns_ask(dns, "nobody.invalid", 3, on_answer, &tag), 0);
    int before = answers; /* a machine without a DNS server says so at once */
    mesh_dns_forget(dns, &tag);
    mesh_dns_drive(dns, mesh_now() + 100 * MESH_SEC);
    cr_expect_eq(answers, before);
    cr_assert_eq(mesh_dns_ask(dns, "nobody.invalid", 3, on_answer, NULL), 0);
    before = answers;
    mesh_dns_free(dns);
    cr_expect_eq(answers, before);
    cr_expect_eq(kept, dropped);
}

Test(dns, late_answers_are_not_waited_for) {
    struct mesh_dns *dns = start();
    uint64_t at = UINT64_MAX;
    struct pollfd fds[8];
    cr_assert_eq(mesh_dns_ask(dns, "nobody.invalid", 3, on_answer, NULL), 0);
    if (!answers) {
        (void)mesh_dns_fill(dns, fds, 8, &at);
        cr_expect_leq(at, mesh_now() + 2 * MESH_SEC, "the next try");
        mesh_dns_drive(dns, mesh_now() + 21 * MESH_SEC);
    }
    cr_expect_eq(answers, 1);
    cr_expect_neq(last_err, 0);
    mesh_dns_free(dns);
    cr_expect_eq(answers, 1, "told once");
}

Test(dns, sockets_that_cannot_be_kept_are_an_answer_too) {
    struct mesh_dns *dns = start();
    refuse = true;
    cr_assert_eq(mesh_dns_ask(dns, "nobody.invalid", 3, on_answer, NULL), 0);
    for (int i = 0; !answers && i < 100; i++)
        mesh_dns_drive(dns, mesh_now() + (uint64_t)i * MESH_SEC);
    cr_expect_eq(answers, 1);
    cr_expect_neq(last_err, 0);
    mesh_dns_free(dns);
}
