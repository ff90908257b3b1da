/* SPDX-License-Identifier: Apache-2.0 */
#include <nghttp2/nghttp2.h>
#include "resolver/grpc.h"

int mesh_grpc_status_of_http(int http_status) {
    switch (http_status) {
    case 400:
        return MESH_GRPC_INTERNAL;
    case 401:
        return MESH_GRPC_UNAUTHENTICATED;
    case 403:
        return MESH_GRPC_PERMISSION_DENIED;
    case 404:
        return MESH_GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return MESH_GRPC_UNAVAILABLE;
    default:
        return MESH_GRPC_UNKNOWN;
    }
}

int mesh_grpc_status_of_reset(uint32_t error_code) {
    switch (error_code) {
    case NGHTTP2_REFUSED_STREAM:
        return MESH_GRPC_UNAVAILABLE;
    case NGHTTP2_CANCEL:
        return MESH_GRPC_CANCELLED;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return MESH_GRPC_RESOURCE_EXHAUSTED;
    case NGHTTP2_INADEQUATE_SECURITY:
        return MESH_GRPC_PERMISSION_DENIED;
    default:
        return MESH_GRPC_INTERNAL;
    }
}

int mesh_grpc_status_parse(const uint8_t *p, size_t n) {
    int v = 0;
    if (n == 0 || n > 2)
        return MESH_GRPC_UNKNOWN;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            return MESH_GRPC_UNKNOWN;
        v = v * 10 + p[i] - '0';
    }
    return v <= MESH_GRPC_UNAUTHENTICATED ? v : MESH_GRPC_UNKNOWN;
}

static int unhex(uint8_t c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

void mesh_grpc_message_decode(const uint8_t *p, size_t n, char *ret_text, size_t cap) {
    size_t len = 0;
    for (size_t i = 0; i < n && len + 1 < cap; i++) {
        uint8_t c = p[i];
        if (c == '%' && n - i > 2 && unhex(p[i + 1]) >= 0 && unhex(p[i + 2]) >= 0) {
            c = (uint8_t)(unhex(p[i + 1]) << 4 | unhex(p[i + 2]));
            i += 2;
        }
        ret_text[len++] = (char)(c < ' ' || c == 127 ? ' ' : c);
    }
    ret_text[len] = 0;
}
