# SPDX-License-Identifier: Apache-2.0
"""grpc_referee.py TARGET: gRPC's own xDS client. For each line `N` on standard input it makes N calls and answers a line of
JSON: how often which status text came. The backends (world.py) answer every call with a status that has their name."""
import collections
import json
import sys

import grpc

channel = grpc.insecure_channel(sys.argv[1], options=[("grpc.enable_retries", 0), ("grpc.initial_reconnect_backoff_ms", 200),
                                                      ("grpc.max_reconnect_backoff_ms", 500)])
say = channel.unary_unary("/echo/Say", request_serializer=None, response_deserializer=None)
for line in sys.stdin:
    seen = collections.Counter()
    for _ in range(int(line)):
        try:
            say(b"", timeout=20)
        except grpc.RpcError as e:
            seen[e.details()] += 1
    print(json.dumps(seen), flush=True)
