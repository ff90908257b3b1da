# SPDX-License-Identifier: Apache-2.0
"""What the tests against real control planes share: backends that anybody can speak to, resources, and three clients of one
control plane (a program under the library, gRPC's xDS client, Envoy), each of which says which backends it reaches."""
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
import threading
import urllib.request

XDS = pathlib.Path(__file__).parent
sys.path[:0] = [str(XDS), str(XDS.parent.parent / "mesh")]
from mesh import *  # noqa: E402,F403
from peers import ANY, CDS, EDS, LDS, NDS, OUT, RDS, GoServer, ScriptedServer, bootstrap  # noqa: E402,F401

NAME, PORT = "reviews.shop.mesh", 9080
AT = "%s:%d" % (NAME, PORT)
TYPE = "type.googleapis.com/envoy.extensions."
ROUTER = {"name": "router", "typed_config": {"@type": TYPE + "filters.http.router.v3.Router"}}
NODE = {"id": "test", "cluster": "test", "locality": {"region": "r", "zone": "z", "sub_zone": "s"}}


def server(kind=GoServer, **options):
    """A control plane that ends with the case."""
    s = kind(**options)
    s.__enter__()
    opened.append(lambda: s.__exit__())
    return s


# ---- backends ----
class Plain:
    """Answers in clear, whoever speaks: a line with "NAME:line", HTTP with its name, a gRPC call with a status that has it."""

    def __init__(self, name, host="127.0.0.1"):
        self.name, self.taken = name, 0
        self.s = socket.create_server((host, 0), backlog=64)
        self.port = self.s.getsockname()[1]
        self.at = "%s:%d" % (host, self.port)
        opened.append(self.stop)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                s, _ = self.s.accept()
                self.taken += 1
                threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        with contextlib.suppress(OSError), s:
            first = s.recv(3, socket.MSG_PEEK | socket.MSG_WAITALL)
            if first == b"PRI":
                self.grpc(s)
            elif first == b"GET":
                s.recv(65536)
                s.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(self.name), self.name.encode()))
            else:
                while d := s.recv(65536):
                    s.sendall(self.name.encode() + b":" + d)

    def grpc(self, s):
        def frame(kind, flags, stream, payload=b""):
            s.sendall(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload)

        def literal(name, value):
            return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
        f = s.makefile("rb")
        f.read(24)
        frame(4, 0, 0)
        while len(head := f.read(9)) == 9:
            n, kind, flags, stream = int.from_bytes(head[:3], "big"), head[3], head[4], int.from_bytes(head[5:], "big")
            payload = f.read(n)
            if kind == 4 and not flags & 1:
                frame(4, 1, 0)
            elif kind == 6 and not flags & 1:
                frame(6, 1, 0, payload)
            elif kind == 1:
                frame(1, 5, stream, b"\x88" + literal(b"content-type", b"application/grpc") + literal(b"grpc-status", b"5") +
                      literal(b"grpc-message", self.name.encode()))

    def stop(self):
        with contextlib.suppress(OSError):
            self.s.shutdown(socket.SHUT_RDWR)
        self.s.close()


# ---- resources ----
def hcm(**more):
    return {"@type": TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "x", "http_filters": [ROUTER], **more}


def api_listener(name=AT, route="reviews"):
    return {"@type": LDS, "name": name, "api_listener": {"api_listener": hcm(rds={"config_source": {"ads": {}}, "route_config_name": route})}}


def route(*clusters, name="reviews", domain=AT):
    """Equal shares of the clusters."""
    action = {"cluster": clusters[0]} if len(clusters) == 1 else {"weighted_clusters": {"clusters": [{"name": c, "weight": 10} for c in clusters]}}
    return {"@type": RDS, "name": name, "virtual_hosts": [{"name": name, "domains": [domain, domain.rsplit(":", 1)[0]],
                                                           "routes": [{"match": {"prefix": ""}, "route": action}]}]}


def eds_cluster(name, **more):
    return {"@type": CDS, "name": name, "type": "EDS", "connect_timeout": "5s", "lb_policy": "ROUND_ROBIN",
            "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}}, **more}


def load(name, *backends):
    return {"@type": EDS, "cluster_name": name, "endpoints": [{"locality": {"region": "r", "zone": "z"}, "load_balancing_weight": 1,
                                                              "lb_endpoints": [endpoint(b.at) for b in backends]}] if backends else []}


def clusters(**of):
    """clusters(a=[one], b=[two, three]): each cluster with its endpoints."""
    return [r for name, backends in of.items() for r in (eds_cluster(name), load(name, *backends))]


# ---- the three ----
class Ours:
    """A program under the library."""

    def __init__(self, *addresses, features=(), **vars):
        self.mesh = Mesh(GRPC_XDS_BOOTSTRAP_CONFIG=bootstrap(*addresses, node=NODE, features=features), MESH_DOMAINS="shop.mesh", MESH_TLS="view", **vars)
        self.client = Client(self.mesh, identity=None)

    def reached(self, n=24, at=AT):
        name, port = at.rsplit(":", 1)
        return set(self.client("[ask(%r, %s) for _ in range(%d)]" % (name, port, n)) or ())


class Grpc:
    """Python's grpcio."""

    def __init__(self, *addresses, at=AT):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MESH_", "LD_", "GRPC_"))}
        env["GRPC_XDS_BOOTSTRAP_CONFIG"] = bootstrap(*addresses, node={**NODE, "id": "grpc"}, features=["xds_v3"])
        self.p = subprocess.Popen([os.path.join(OUT, "venv", "bin", "python"), str(XDS / "grpc_referee.py"), "xds:///" + at], env=env,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(os.path.join(os.environ["RUN"], "grpc.log"), "a"), text=True, bufsize=1)
        opened.append(lambda: (self.p.kill(), self.p.wait()))

    def reached(self, n=24):
        self.p.stdin.write("%d\n" % n)
        return set(json.loads(self.p.stdout.readline()))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


class Envoy:
    """Envoy with the clusters and the route of the control plane behind a listener of its own."""

    def __init__(self, address, delta=False):
        host, port = address.rsplit(":", 1)
        self.port = free_port()
        http2 = {"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": TYPE + "upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}}}
        rds = {"rds": {"config_source": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}, "route_config_name": "reviews"}}
        config = {"node": {**NODE, "id": "envoy"}, "dynamic_resources": {
            "ads_config": {"api_type": "DELTA_GRPC" if delta else "GRPC", "transport_api_version": "V3",
                           "grpc_services": [{"envoy_grpc": {"cluster_name": "ads"}}]},
            "cds_config": {"ads": {}, "resource_api_version": "V3"}},
            "static_resources": {
                "clusters": [{k: v for k, v in cluster("ads", address, connect_timeout="5s", **http2).items() if k != "@type"}],
                "listeners": [{"name": "in", "address": endpoint("127.0.0.1:%d" % self.port)["endpoint"]["address"],
                               "filter_chains": [{"filters": [{"name": "http", "typed_config": hcm(**rds)}]}]}]}}
        self.dir = pathlib.Path(tempfile.mkdtemp(dir=os.environ["RUN"]))
        (self.dir / "envoy.json").write_text(json.dumps(config))
        binary = next(pathlib.Path(OUT).parent.glob("envoy/lib/python3*/site-packages/envoy/_bin/envoy"))
        self.log = open(self.dir / "log", "w")
        self.p = subprocess.Popen([str(binary), "-c", str(self.dir / "envoy.json"), "-l", "warning", "--disable-hot-restart", "--concurrency", "1",
                                   "--base-id-path", str(self.dir / "base"), "--use-dynamic-base-id"], stdout=self.log, stderr=self.log,
                                  env={k: v for k, v in os.environ.items() if not k.startswith(("MESH_", "LD_"))})
        opened.append(lambda: (self.p.kill(), self.p.wait()))

    def reached(self, n=24):
        def get():
            try:
                r = urllib.request.Request("http://127.0.0.1:%d/" % self.port, headers={"Host": AT})
                return urllib.request.urlopen(r, timeout=10).read().decode()
            except OSError as e:
                return str(e)
        return {get() for _ in range(n)}


def agree(who, *backends):
    """In the end each of them reaches these backends, all of them and no others."""
    want = {b.name for b in backends}
    for w in who:
        last = [None]

        def there(w=w, last=last):
            last[0] = w.reached()
            return last[0] == want
        eventually(lambda: "%s reaches %s, last %s" % (type(w).__name__, sorted(want), sorted(map(str, last[0]))), there, wait=2 * WAIT)
