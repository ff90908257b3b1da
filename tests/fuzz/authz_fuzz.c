/* SPDX-License-Identifier: Apache-2.0
 *
 * A record of policies that anybody may have written: one byte of who calls, then the record. The judgement
 * ends, reads nothing outside, and says the same when it is asked again.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include "resolver/authz.h"

static struct mesh_facts facts_of(uint8_t how) {
    struct mesh_facts f = {.kind = how & 3,
                           .has_cert = how >> 2 & 1,
                           .cut_peer = how >> 3 & 1,
                           .cut_sni = how >> 4 & 1,
                           .peer = "spiffe://shop/ns/prod/sa/web",
                           .sni = "outbound_.80_._.reviews.shop.mesh"};
    if (how >> 5 & 1)
        memset(f.peer, 'x', sizeof f.peer); /* without an end */
    return f;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(8080)},
                       peer = {.sin_family = AF_INET, .sin_port = htons(40000)};
    struct mesh_verdict one = {0}, two = {0};
    if (n < 1)
        return 0;
    struct mesh_facts facts = facts_of(p[0]);
    struct mesh_caller who = {(struct sockaddr *)&local, (struct sockaddr *)&peer, sizeof local, sizeof peer,
                              &facts};
    void *rec = malloc(n); /* exactly as long as it says */
    memcpy(rec, p + 1, n - 1);
    inet_pton(AF_INET, "10.1.0.1", &local.sin_addr);
    inet_pton(AF_INET, "10.0.0.7", &peer.sin_addr);
    int a = mesh_authz_judge(rec, (uint32_t)(n - 1), &who, &one),
        b = mesh_authz_judge(rec, (uint32_t)(n - 1), &who, &two);
    if (a != b || (a == 0 && memcmp(&one, &two, sizeof one) != 0))
        abort();
    free(rec);
    return 0;
}
