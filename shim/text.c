/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/text.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

void mesh_text_copy(char *ret, size_t cap, const char *s) {
    size_t n = strnlen(s, cap - 1);
    memcpy(ret, s, n);
    ret[n] = 0;
}

void mesh_text_addr(char *ret, size_t cap, const struct sockaddr *sa) {
    char ip[INET6_ADDRSTRLEN] = "?";
    const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;
    if (sa->sa_family == AF_INET) {
        inet_ntop(AF_INET, &in->sin_addr, ip, sizeof ip);
        snprintf(ret, cap, "%s:%u", ip, ntohs(in->sin_port));
    } else if (sa->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
        inet_ntop(AF_INET, in6->sin6_addr.s6_addr + 12, ip, sizeof ip);
        snprintf(ret, cap, "%s:%u", ip, ntohs(in6->sin6_port));
    } else if (sa->sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof ip);
        snprintf(ret, cap, "[%s]:%u", ip, ntohs(in6->sin6_port));
    } else {
        mesh_text_copy(ret, cap, ip);
    }
}
