/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>

#include "proto/cluster.pb-c.h"
#include "proto/core.pb-c.h"
#include "proto/endpoint.pb-c.h"
#include "proto/listener.pb-c.h"
#include "proto/pb.pb-c.h"
#include "tests/unit/proto/reading.h"

static int unpack(const ProtobufCMessageDescriptor *d, const char *bytes, size_t n) {
    ProtobufCMessage *m = NULL;
    int err = mesh_proto_unpack(d, (const uint8_t *)bytes, n, &m);
    cr_expect((err == 0) == (m != NULL));
    drop(m);
    return err;
}
#define LOCALITY(bytes) unpack(&mesh__core__locality__descriptor, bytes, sizeof(bytes) - 1)

Test(unpack, well_formed_message_is_unpacked) {
    ProtobufCMessage *m = NULL;
    cr_assert_eq(
        mesh_proto_unpack(&mesh__core__locality__descriptor, (const uint8_t *)"\x0a\x02r1\x12\x02z1", 8, &m),
        0);
    cr_expect_str_eq(((Mesh__Core__Locality *)m)->zone, "z1");
    drop(m);
    cr_expect_eq(LOCALITY(""), 0);
    cr_expect_eq(LOCALITY("\x28\x05\x0a\x01x"), 0); /* a field that the subset has not */
}

Test(unpack, broken_wire_is_a_syntax_error) {
    cr_expect_eq(LOCALITY("\x0a"), MESH_E_SYNTAX);
    cr_expect_eq(LOCALITY("\x0a\x05x"), MESH_E_SYNTAX);
    cr_expect_eq(LOCALITY("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"), MESH_E_SYNTAX);
    cr_expect_eq(LOCALITY("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80"), MESH_E_SYNTAX);
    cr_expect_eq(LOCALITY("\x2b\x2c"), MESH_E_SYNTAX); /* a group */
    cr_expect_eq(LOCALITY("\x2d\x01\x02"), MESH_E_SYNTAX);
    cr_expect_eq(LOCALITY("\x29\x01\x02"), MESH_E_SYNTAX);
    cr_expect_eq(LOCALITY("\x08\x01"), MESH_E_SYNTAX); /* a number where a text belongs */
}

Test(unpack, text_that_is_cut_by_nul_or_no_utf_8_is_refused) {
    cr_expect_eq(LOCALITY("\x0a\x03"
                          "a\0b"),
                 MESH_E_SYNTAX);
    cr_expect_eq(LOCALITY("\x0a\x02\xc3\xa9"), 0);
    cr_expect_eq(LOCALITY("\x0a\x01\xc3"), MESH_E_SYNTAX);
    cr_expect_eq(LOCALITY("\x0a\x02\xc0\x80"), MESH_E_SYNTAX);
    cr_expect_eq(LOCALITY("\x0a\x03\xe0\x80\x80"), MESH_E_SYNTAX);
    cr_expect_eq(LOCALITY("\x0a\x03\xed\xa0\x80"), MESH_E_SYNTAX);
    cr_expect_eq(LOCALITY("\x0a\x04\xf0\x8f\x80\x80"), MESH_E_SYNTAX);
    cr_expect_eq(LOCALITY("\x0a\x04\xf0\x9f\x98\x80"), 0);
    cr_expect_eq(LOCALITY("\x0a\x04\xf4\x90\x80\x80"), MESH_E_SYNTAX);
    cr_expect_eq(LOCALITY("\x0a\x04\xf8\x88\x80\x80"), MESH_E_SYNTAX);
    cr_expect_eq(LOCALITY("\x0a\x02\x80x"), MESH_E_SYNTAX);
    cr_expect_eq(LOCALITY("\x0a\x0c\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80"), MESH_E_SYNTAX);
    cr_expect_eq(LOCALITY("\x2a\x03"
                          "a\0b"),
                 0); /* of an unknown field nobody knows what it is */
}

/* ListValue{values: Value{list_value: ListValue{...}}}, `depth` messages in all. */
static size_t nest(uint8_t *to, int depth) {
    size_t n = 0;
    for (int i = depth - 2; i >= 0; i--) {
        uint8_t head[4] = {i % 2 ? 0x32 : 0x0a};
        size_t h = n < 128 ? 2 : 3;
        head[1] = (uint8_t)(n < 128 ? n : n | 0x80);
        head[2] = (uint8_t)(n >> 7);
        memmove(to + h, to, n);
        memcpy(to, head, h);
        n += h;
    }
    return n;
}

Test(unpack, depth_is_bounded) {
    uint8_t wire[1024];
    cr_expect_eq(unpack(&mesh__pb__list_value__descriptor, (char *)wire, nest(wire, 32)), 0);
    cr_expect_eq(unpack(&mesh__pb__list_value__descriptor, (char *)wire, nest(wire, 33)), MESH_E_LIMIT);
    cr_expect_eq(unpack(&mesh__pb__list_value__descriptor, (char *)wire, nest(wire, 300)), MESH_E_LIMIT);
}

static void *unpack_deep(void *arg) {
    uint8_t wire[1024];
    *(int *)arg = unpack(&mesh__pb__list_value__descriptor, (char *)wire, nest(wire, 32));
    return NULL;
}

Test(unpack, deepest_message_fits_on_a_small_stack) {
    pthread_attr_t attr;
    pthread_t t;
    int err = 1;
    pthread_attr_init(&attr);
#if !defined(__SANITIZE_ADDRESS__)
    pthread_attr_setstacksize(&attr, 64 << 10);
#endif
    cr_assert_eq(pthread_create(&t, &attr, unpack_deep, &err), 0);
    pthread_join(t, NULL);
    cr_expect_eq(err, 0);
}

Test(unpack, memory_that_a_message_takes_is_bounded) {
    size_t n = 8 << 20;
    char *wire = malloc(n);
    for (size_t i = 0; i < n; i += 2)
        memcpy(wire + i, "\x12\x00", 2); /* an empty LbEndpoint */
    cr_expect_eq(unpack(&mesh__endpoint__locality_lb_endpoints__descriptor, wire, n), MESH_E_LIMIT);
    cr_expect_eq(unpack(&mesh__endpoint__locality_lb_endpoints__descriptor, wire, 65536), 0);
    for (size_t i = 0; i < n; i += 2)
        memcpy(wire + i, "\x42\x00", 2); /* an empty HealthCheck */
    cr_expect_eq(unpack(&mesh__cluster__cluster__descriptor, wire, 1 << 20), MESH_E_LIMIT);
    cr_expect_eq(unpack(&mesh__cluster__cluster__descriptor, wire, 4096), 0);
    free(wire);
    cr_expect_eq(unpack(&mesh__pb__struct__descriptor, NULL, (64 << 20) + 1), MESH_E_LIMIT);
}

Test(unpack, embedded_message_that_comes_twice_is_merged) {
    ProtobufCMessage *m = NULL;
    cr_assert_eq(mesh_proto_unpack(&mesh__endpoint__locality_lb_endpoints__descriptor,
                                   (const uint8_t *)"\x0a\x03\x0a\x01r\x0a\x03\x12\x01z", 10, &m),
                 0);
    const Mesh__Core__Locality *l = ((Mesh__Endpoint__LocalityLbEndpoints *)m)->locality;
    cr_expect_str_eq(l->region, "r");
    cr_expect_str_eq(l->zone, "z");
    drop(m);
}
