/* SPDX-License-Identifier: Apache-2.0
 *
 * Any text as a bootstrap: what is taken is whole, and its templates can be filled in.
 */
#include <stdlib.h>
#include <string.h>
#include "resolver/bootstrap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
    if (!holds)
        abort();
}

static void look_at_servers(const struct mesh_xds_server *s, uint32_t n) {
    must(n > 0);
    for (uint32_t i = 0; i < n; i++) {
        must(s[i].uri && s[i].host && *s[i].host && s[i].is_unix == !s[i].port);
        must(!s[i].tls.cert == !s[i].tls.key && (!s[i].token_file || s[i].is_tls));
    }
}

static void look(const struct mesh_bootstrap *b) {
    char name[256];
    const struct mesh_xds_authority *a;
    look_at_servers(b->servers, b->nservers);
    must(b->node && b->client_template && b->node_id && b->node_cluster && b->region && b->zone &&
         b->sub_zone);
    for (uint32_t i = 0; i < b->nauthorities; i++) {
        look_at_servers(b->authorities[i].servers, b->authorities[i].nservers);
        must(strncmp(b->authorities[i].client_template, "xdstp:", 6) == 0);
        if (mesh_bootstrap_expand(b->authorities[i].client_template, "a b", name, sizeof name) == 0)
            must(strlen(name) < sizeof name && mesh_bootstrap_authority(b, name, &a) == 0);
    }
    for (uint32_t i = 0; i < b->nproviders; i++)
        must(b->providers[i].instance != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mesh_bootstrap *b = NULL;
    struct mesh_why why = {""};
    int err = mesh_bootstrap_parse((const char *)data, size, "f", &b, &why);
    must((err == 0) == (b != NULL) && (err == 0) == !why.text[0]);
    if (b)
        look(b);
    mesh_bootstrap_free(b);
    return 0;
}
