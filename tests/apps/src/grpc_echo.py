# SPDX-License-Identifier: Apache-2.0
# grpc_echo.py HOST PORT TEXT: gRPC's C core as server and client, unary and streaming, no generated code.
import os
import sys

host, port, text = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
ready, told = os.pipe()
server = os.fork()
import grpc  # noqa: E402  after the fork: its threads do not survive one
from concurrent import futures  # noqa: E402

if server == 0:
    def stream(requests, context):
        for r in requests:
            yield r

    handlers = grpc.method_handlers_generic_handler("t.Echo", {
        "One": grpc.unary_unary_rpc_method_handler(lambda r, c: r),
        "Many": grpc.stream_stream_rpc_method_handler(stream)})
    s = grpc.server(futures.ThreadPoolExecutor(4))
    s.add_generic_rpc_handlers((handlers,))
    assert s.add_insecure_port("127.0.0.1:%d" % port) == port
    s.start()
    os.write(told, b"1")
    s.wait_for_termination()
os.read(ready, 1)
try:
    with grpc.insecure_channel("%s:%d" % (host, port)) as channel:
        one = channel.unary_unary("/t.Echo/One")
        many = channel.stream_stream("/t.Echo/Many")
        for i in range(50):
            assert one(text, timeout=20) == text
        assert one(text * 50000, timeout=20) == text * 50000
        assert list(many(iter([text] * 200), timeout=20)) == [text] * 200
finally:
    os.kill(server, 9)
