/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/inner.h"
#include "proto/pb.pb-c.h"
#include "proto/scan.h"

enum {
    WIRE_MAX = 64 << 20, /* bytes of one message */
    HEAP_BASE = 1 << 20, /* small messages may grow by any factor, ... */
    HEAP_FACTOR = 64, /* large ones by this: an empty message is 2 bytes on the wire and some 100 in memory */
    HEAP_MAX = 256 << 20, /* ... and none beyond this */
};

int mesh_proto_unpack(const ProtobufCMessageDescriptor *d, const uint8_t *p, size_t n,
                      ProtobufCMessage **ret) {
    struct mesh_heap heap;
    if (n > WIRE_MAX)
        return MESH_E_LIMIT;
    /* protobuf-c recurses without a limit and cuts strings at NUL: both are looked at before. */
    int err = mesh_scan_skim(d, (struct mesh_bytes){p, n}, MESH_UNIT_DEPTH);
    if (err)
        return err;
    size_t ceiling = HEAP_BASE + n * HEAP_FACTOR;
    mesh_heap_init(&heap, ceiling < HEAP_MAX ? ceiling : HEAP_MAX);
    ProtobufCMessage *m = protobuf_c_message_unpack(d, &heap.allocator, n, p);
    if (!m)
        return heap.over || heap.failed ? mesh_heap_err(&heap) : MESH_E_SYNTAX;
    *ret = m;
    return 0;
}
