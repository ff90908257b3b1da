# SPDX-License-Identifier: Apache-2.0
"""A management server that does what it is told, right or wrong: peers.ScriptedServer starts it.

    scripted.py [-listen 127.0.0.1:0|unix:PATH] [-cert F -key F [-client-ca F]] [-age MS]

grpcio serves ADS on a unix socket of its own; clients come through a relay in this process that can hurt the bytes.
JSON lines in and out as in go/main.go: the same events, and `open` has `headers`, `peer` (the client certificate's names) too.
Commands:
    set, put, remove   resources that are served by themselves while auto is on (it is); version as there
    auto   on          off: requests are only logged
    send   type?, response?, raw?, pad?, delta?   one message on every open stream: a DiscoveryResponse (or, with delta,
                       DeltaDiscoveryResponse) in JSON, nonce made up when it is not said; or raw bytes in base64;
                       pad: that many bytes more in a field that nobody knows
    end    code?, message?                        every stream ends with this gRPC status
    wire   mode        pass; stall: nothing moves, connections stay; trickle (bytes, every: ms): what the server says
                       comes in small pieces; refuse: connections are reset as they come; garbage (raw): the next bytes of the
                       server, or the first of a new connection, are these instead
    cut                resets every connection;  goaway: GOAWAY and the end of streams, then served again
    stop, start, quit  as there; stop closes the port
"""

import argparse
import base64
import json
import os
import queue
import socket
import struct
import sys
import tempfile
import threading
import time
from concurrent import futures

import grpc
from google.protobuf import json_format
from envoy.service.discovery.v3 import discovery_pb2 as discovery
from envoy.config.cluster.v3 import cluster_pb2  # noqa: F401
from envoy.config.endpoint.v3 import endpoint_pb2  # noqa: F401
from envoy.config.listener.v3 import listener_pb2  # noqa: F401
from envoy.config.route.v3 import route_pb2  # noqa: F401
from envoy.extensions.filters.http.fault.v3 import fault_pb2  # noqa: F401
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2  # noqa: F401
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2  # noqa: F401
from envoy.extensions.clusters.aggregate.v3 import cluster_pb2 as aggregate_pb2  # noqa: F401
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2  # noqa: F401

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
SHORT = {"LDS": "envoy.config.listener.v3.Listener", "RDS": "envoy.config.route.v3.RouteConfiguration",
         "CDS": "envoy.config.cluster.v3.Cluster", "EDS": "envoy.config.endpoint.v3.ClusterLoadAssignment",
         "SDS": "envoy.extensions.transport_sockets.tls.v3.Secret"}
PREFIX = "type.googleapis.com/"
NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
            ("grpc.http2.min_ping_interval_without_data_ms", 1000), ("grpc.keepalive_permit_without_calls", 1)]

said = threading.Lock()


def say(event, **fields):
    with said:
        sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
        sys.stdout.flush()


# ---- the service ----
class Stream:
    def __init__(self, number, delta):
        self.number, self.delta = number, delta
        self.out = queue.Queue()
        self.asked = {}  # type URL: names, or "*"
        self.nonces = 0


class Service:
    def __init__(self):
        self.lock = threading.RLock()
        self.streams, self.count = [], 0
        self.auto = True
        self.resources, self.versions, self.changes = {}, {}, 0  # type URL: {name: JSON}

    def handler(self):
        return grpc.method_handlers_generic_handler(SERVICE, {
            "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(lambda it, ctx: self.serve(it, ctx, False)),
            "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(lambda it, ctx: self.serve(it, ctx, True))})

    def serve(self, requests, context, delta):
        with self.lock:
            self.count += 1
            stream = Stream(self.count, delta)
            self.streams.append(stream)
        peer = [v.decode() for v in context.auth_context().get("x509_subject_alternative_name", ())]
        say("open", stream=stream.number, delta=delta, peer=peer, headers={k: str(v) for k, v in context.invocation_metadata()})
        threading.Thread(target=self.read, args=(stream, requests), daemon=True).start()
        try:
            while True:
                what = stream.out.get()
                if isinstance(what, bytes):
                    yield what
                elif what is None:
                    return
                else:
                    context.set_code(what[0])
                    context.set_details(what[1])
                    return
        finally:
            with self.lock:
                self.streams.remove(stream)
            say("close", stream=stream.number, delta=delta)

    def read(self, stream, requests):
        try:
            for data in requests:
                (self.asked_delta if stream.delta else self.asked_sotw)(stream, data)
        except grpc.RpcError:
            pass
        except Exception as e:  # the stream is over
            if str(e):
                say("log", text=repr(e))
        stream.out.put(None)

    @staticmethod
    def tell(stream, r, **fields):
        if r.HasField("error_detail"):
            fields["error"] = {"code": r.error_detail.code, "message": r.error_detail.message}
        if r.HasField("node"):
            fields["node"] = json_format.MessageToDict(r.node, preserving_proto_field_name=True)
        say("request", stream=stream.number, delta=stream.delta, type=r.type_url, nonce=r.response_nonce, **fields)

    def asked_sotw(self, stream, data):
        r = discovery.DiscoveryRequest.FromString(data)
        self.tell(stream, r, names=list(r.resource_names), version=r.version_info)
        names = set(r.resource_names)
        with self.lock:
            before = stream.asked.get(r.type_url)
            stream.asked[r.type_url] = names
            if self.auto and (before is None or names - before):
                self.answer(stream, r.type_url)

    def asked_delta(self, stream, data):
        r = discovery.DeltaDiscoveryRequest.FromString(data)
        self.tell(stream, r, subscribe=list(r.resource_names_subscribe), unsubscribe=list(r.resource_names_unsubscribe),
                  versions=dict(r.initial_resource_versions))
        with self.lock:
            first = r.type_url not in stream.asked
            asked = stream.asked.setdefault(r.type_url, set())
            fresh = set(r.resource_names_subscribe) or ({"*"} if first else set())
            asked.update(fresh)
            asked.difference_update(r.resource_names_unsubscribe)
            if self.auto and fresh:
                self.answer_delta(stream, r.type_url, fresh)

    # ---- by itself
    @staticmethod
    def wants(asked, name):
        return not asked or "*" in asked or name in asked

    def answer(self, stream, url):
        have = self.resources.get(url, {})
        list_ = [r for name, r in have.items() if self.wants(stream.asked[url], name)]
        self.send(stream, {"version_info": self.versions.get(url, "0"), "type_url": url, "resources": list_})

    def answer_delta(self, stream, url, names, removed=()):
        have = self.resources.get(url, {})
        version = self.versions.get(url, "0")
        list_ = [{"name": name, "version": version, "resource": r} for name, r in have.items() if name in names or "*" in names]
        gone = [n for n in names if n != "*" and n not in have] + list(removed)
        if list_ or gone:
            self.send(stream, {"system_version_info": version, "type_url": url, "resources": list_, "removed_resources": gone})

    def send(self, stream, response, pad=0):
        stream.nonces += 1
        response = {"nonce": f"{stream.number}.{stream.nonces}", **response}
        if stream.delta:
            m = json_format.ParseDict(response, discovery.DeltaDiscoveryResponse())
            names = {"names": [r.name for r in m.resources], "removed": list(m.removed_resources)}
        else:
            m = json_format.ParseDict(response, discovery.DiscoveryResponse())
            names = {"version": m.version_info, "count": len(m.resources)}
        stream.out.put(m.SerializeToString() + padding(pad))
        say("response", stream=stream.number, delta=stream.delta, type=m.type_url, nonce=m.nonce, **names)

    # ---- told
    def publish(self, resources, version, alone):
        fresh = {} if alone else {url: dict(of) for url, of in self.resources.items()}
        for r in resources:
            fresh.setdefault(r["@type"], {})[r.get("name") or r.get("cluster_name") or r.get("clusterName") or ""] = r
        with self.lock:
            self.exchange(fresh, version)

    def remove(self, type_, names):
        url = PREFIX + SHORT[type_] if type_ in SHORT else type_
        with self.lock:
            fresh = {u: {n: r for n, r in of.items() if u != url or n not in names} for u, of in self.resources.items()}
            self.exchange(fresh, "")

    def exchange(self, fresh, version):
        before, self.resources = self.resources, fresh
        for url in before.keys() | fresh.keys():
            was, now = before.get(url, {}), fresh.get(url, {})
            if was == now and not version:
                continue
            self.changes += 1
            self.versions[url] = version or str(self.changes)
            for s in self.streams:
                if not self.auto or url not in s.asked:
                    continue
                if s.delta:
                    changed = {n for n in now if was.get(n) != now[n] and self.wants(s.asked[url], n)}
                    self.answer_delta(s, url, changed, [n for n in was if n not in now and self.wants(s.asked[url], n)])
                else:
                    self.answer(s, url)

    def each(self, delta=None):
        with self.lock:
            return [s for s in self.streams if delta is None or s.delta == delta]


def padding(n):
    """A field 1000 of n bytes."""
    if not n:
        return b""
    length, size = n, b""
    while length > 127:
        size, length = size + bytes([length & 127 | 128]), length >> 7
    return b"\xc2\x3e" + size + bytes([length]) + b"\0" * n


# ---- the relay ----
class Relay:
    def __init__(self, listen, upstream):
        self.address, self.upstream = listen, upstream
        self.mode, self.options, self.pairs = "pass", {}, set()
        self.lock = threading.Lock()
        self.listener = None

    def start(self):
        if self.address.startswith("unix:"):
            path = self.address[5:]
            if os.path.exists(path):
                os.unlink(path)
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
        else:
            host, port = self.address.rsplit(":", 1)
            self.listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind((host.strip("[]"), int(port)))
            self.address = f"{host}:{self.listener.getsockname()[1]}"
        self.listener.listen(64)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()
        say("listening", address=self.address)

    def stop(self):
        if self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None
        self.cut()

    @staticmethod
    def reset(s):
        try:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.shutdown(socket.SHUT_RD)  # wakes who reads
        except OSError:
            pass
        s.close()

    def cut(self):
        with self.lock:
            pairs, self.pairs = self.pairs, set()
        for pair in pairs:
            for s in pair:
                self.reset(s)

    def accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            say("connected")
            if self.mode == "refuse":
                self.reset(client)
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.upstream)
            with self.lock:
                self.pairs.add((client, server))
            if self.mode == "garbage":
                self.garble(client)
            for a, b, down in ((client, server, False), (server, client, True)):
                threading.Thread(target=self.pump, args=(a, b, down, (client, server)), daemon=True).start()

    def garble(self, client):
        self.mode = "pass"
        client.sendall(base64.b64decode(self.options["raw"]))

    def pump(self, a, b, down, pair):
        try:
            while data := a.recv(65536):
                while self.mode == "stall":
                    time.sleep(0.01)
                if down and self.mode == "garbage":
                    self.garble(b)
                elif down and self.mode == "trickle":
                    n = self.options.get("bytes", 1)
                    for i in range(0, len(data), n):
                        b.sendall(data[i:i + n])
                        time.sleep(self.options.get("every", 1) / 1000)
                else:
                    b.sendall(data)
            b.shutdown(socket.SHUT_WR)
            if not down:
                return
        except OSError:
            pass
        say("disconnected")
        with self.lock:
            self.pairs.discard(pair)
        for s in pair:
            s.close()


# ---- commands ----
class Plane:
    def __init__(self, args):
        self.args = args
        self.dir = tempfile.TemporaryDirectory()
        self.service = Service()
        self.relay = Relay(args.listen, os.path.join(self.dir.name, "grpc"))
        self.grpc = None

    def serve(self):
        options = list(NO_LIMIT)
        if self.args.age:
            options += [("grpc.max_connection_age_ms", self.args.age), ("grpc.max_connection_age_grace_ms", 500)]
        self.grpc = grpc.server(futures.ThreadPoolExecutor(32), options=options)
        self.grpc.add_generic_rpc_handlers((self.service.handler(),))
        at = "unix:" + self.relay.upstream
        if self.args.cert:
            read = lambda path: open(path, "rb").read() if path else None  # noqa: E731
            self.grpc.add_secure_port(at, grpc.ssl_server_credentials(
                [(read(self.args.key), read(self.args.cert))], read(self.args.client_ca), bool(self.args.client_ca)))
        else:
            self.grpc.add_insecure_port(at)
        self.grpc.start()

    def unserve(self, grace):
        self.grpc.stop(grace).wait()
        if os.path.exists(self.relay.upstream):
            os.unlink(self.relay.upstream)

    def obey(self, c):
        op = c["op"]
        if op in ("set", "put"):
            self.service.publish(c["resources"], c.get("version", ""), op == "set")
        elif op == "remove":
            self.service.remove(c["type"], c["names"])
        elif op == "auto":
            self.service.auto = c["on"]
        elif op == "send":
            self.send(c)
        elif op == "end":
            code = next(s for s in grpc.StatusCode if s.value[0] == c.get("code", 0))
            for s in self.service.each():
                s.out.put((code, c.get("message", "")))
        elif op == "wire":
            self.relay.options = c
            self.relay.mode = c["mode"]
        elif op == "cut":
            self.relay.cut()
        elif op == "goaway":
            self.unserve(0.5)
            self.serve()
        elif op == "stop":
            self.relay.stop()
        elif op == "start":
            self.relay.start()
        elif op != "quit":
            raise ValueError("no such command")

    def send(self, c):
        for s in self.service.each(c.get("delta", False) if "response" in c else None):
            if "raw" in c:
                s.out.put(base64.b64decode(c["raw"]))
            else:
                url = c.get("type", "")
                url = PREFIX + SHORT[url] if url in SHORT else url
                self.service.send(s, {**({"type_url": url} if url else {}), **c.get("response", {})}, c.get("pad", 0))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-listen", default="127.0.0.1:0")
    for name in ("-cert", "-key", "-client-ca"):
        parser.add_argument(name)
    parser.add_argument("-age", type=int)
    plane = Plane(parser.parse_args())
    plane.serve()
    plane.relay.start()
    for line in sys.stdin:
        c = json.loads(line)
        try:
            plane.obey(c)
            say("done", op=c["op"])
        except Exception as e:  # told to the test
            say("done", op=c["op"], error=f"{type(e).__name__}: {e}")
        if c["op"] == "quit":
            break
    sys.stdout.flush()
    os._exit(0)  # threads of streams


main()
