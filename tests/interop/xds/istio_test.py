# SPDX-License-Identifier: Apache-2.0
"""The samples of tests/data/istio served by go-control-plane: in both dialects each port has the peers, identities, splits and
refusals that it has as a file (tests/mesh/istio_test.py)."""
import os
import pathlib
import sys

ROOM = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(ROOM), str(ROOM.parent.parent / "mesh")]
import peers  # noqa: E402

peers.setup = lambda: None  # run.sh has done it, before the network was left behind
from mesh import *  # noqa: E402,F403

DATA = ROOM.parent.parent / "data" / "istio"
APP, RATINGS = "spiffe://shop/ns/prod/sa/details", "spiffe://shop/ns/prod/sa/ratings"
SIDECAR = {"id": "sidecar~127.0.0.9~app.shop~shop.svc.cluster.local", "cluster": "app.shop"}
GRPC = {"id": "sidecar~127.0.0.9~app.shop~shop.svc.cluster.local", "cluster": "app.shop", "metadata": {"GENERATOR": "grpc"}}
AWAY = {"GRPC_XDS_BOOTSTRAP_CONFIG": None, "MESH_DOMAINS": None}


def sample(name):
    text = (DATA / name).read_text()
    for old, new in (("spiffe://cluster.local/ns/shop/sa/app", APP), ("spiffe://cluster.local/ns/shop/", "spiffe://shop/ns/prod/"),
                     ("spiffe://cluster.local/", "spiffe://shop/"), (".*/ns/shop/.*", ".*/ns/prod/.*")):
        text = text.replace(old, new)
    return [r for kind in json.loads(text).values() for r in kind]


def served(resources, node, **options):
    cp = peers.GoServer(**options)
    cp.__enter__()
    opened.append(lambda: cp.__exit__())
    cp.set(resources)
    text = peers.bootstrap(cp.address, node=node, server_listener_resource_name_template="xds.istio.io/grpc/lds/inbound/%s")
    return cp, Mesh(GRPC_XDS_BOOTSTRAP_CONFIG=text, MESH_DOMAINS="shop.mesh")


def reviews(m, *ports, who="reviews"):
    for port in ports:
        for host in ("127.0.0.1", "127.0.0.2"):
            Server(m, identity=who, at="%s:%d" % (host, port), MESH_INBOUND="strict", **AWAY)


@case("sidecar: each port of reviews is split over both versions, each known by its SPIFFE ID")
def _():
    cp, m = served(sample("sidecar.json"), SIDECAR)
    reviews(m, 9001, 9011, 9021)
    c = Client(m)
    for port, behind, share in ((9080, 9001, 90), (9090, 9011, 80), (9100, 9021, 90)):
        eventually("reviews:%d" % port, lambda: c.ask(port=port) == "served")
        before = len(c.trace.find("connected"))
        same(c("[ask('reviews.shop.mesh', %d) for _ in range(100)] == ['served'] * 100" % port), True)
        got = c.trace.find("connected")[before:]
        same({l["peer"] for l in got}, {REVIEWS})
        v1 = len([l for l in got if l["endpoint"] == "127.0.0.1:%d" % behind])
        same({l["endpoint"] for l in got} <= {"127.0.0.1:%d" % behind, "127.0.0.2:%d" % behind}, True)
        assert share - 25 <= v1 < 100, "%d of 100 to v1 on %d" % (v1, port)
    assert not [e for e in cp.find("request") if "error" in e], "a NACK"


@case("sidecar: an endpoint that is not who the cluster says is refused")
def _():
    cp, m = served(sample("sidecar.json"), SIDECAR)
    reviews(m, 9011, who="stranger")
    c = Client(m)
    eventually("EACCES", lambda: c.ask(port=9090) == "EACCES")
    c.trace.none("connected")


for file, node in (("sidecar.json", SIDECAR), ("grpc.json", GRPC)):
    def strict(file=file, node=node):
        cp, m = served(sample(file), node)
        s = Server(m, identity="details", at="127.0.0.9:8080", MESH_INBOUND="view")
        eventually("the policy is there", lambda: call(s.at) == "served:hi")
        same(s.trace.wait("accepted")["peer"], WEB)
        same(call(s.at, identity="ratings"), "refused")
        has(s.trace.wait("refused", why="rbac")["line"], "policy=none", "peer=" + RATINGS)
        same(call(s.at, plain=True), "refused")
    case("%s: app:8080 is STRICT and serves only web" % file)(strict)


@case("a policy that the control plane changes ends the connections that it no longer allows")
def _():
    cp, m = served(sample("sidecar.json"), SIDECAR)
    s = Server(m, identity="details", at="127.0.0.9:8090", MESH_INBOUND="view")
    eventually("the policy is there", lambda: call(s.at) == "served:hi")
    k = tls(False, "web").wrap_socket(socket.create_connection(("127.0.0.9", 8090), timeout=WAIT))
    k.sendall(b"one\n")
    same(k.recv(100), b"served:one\n")
    cp.set(json.loads(json.dumps(sample("sidecar.json")).replace("/sa/web", "/sa/ratings")))

    def ends():
        try:
            k.sendall(b"x\n")
            return k.recv(100) == b""
        except OSError:
            return True
    eventually("it ends", ends)
    same((call(s.at), call(s.at, identity="ratings")), ("refused", "served:hi"))


@case("grpc: the version that is there is reached by its SPIFFE ID")
def _():
    cp, m = served(sample("grpc.json"), GRPC)
    reviews(m, 9001)
    c = Client(m)
    eventually("the tenth", lambda: c.ask(port=9080) == "served")
    l = c.trace.wait("connected")
    same((l["endpoint"], l["peer"]), ("127.0.0.2:9001", REVIEWS))


main()
