# SPDX-License-Identifier: Apache-2.0
"""What istiod sends (tests/data/istio), as a file: each port's peers, identities, splits and refusals; and who may come in."""
import collections

from mesh import *

DATA = HERE.parent / "data" / "istio"
APP, RATINGS = "spiffe://shop/ns/prod/sa/details", "spiffe://shop/ns/prod/sa/ratings"
TYPE = "type.googleapis.com/envoy.extensions.filters."


def sample(name):
    """The sample, in the trust domain and under the names of the tests' certificates."""
    text = (DATA / name).read_text()
    for old, new in (("spiffe://cluster.local/ns/shop/sa/app", APP), ("spiffe://cluster.local/ns/shop/", "spiffe://shop/ns/prod/"),
                     ("spiffe://cluster.local/", "spiffe://shop/"), (".*/ns/shop/.*", ".*/ns/prod/.*")):
        text = text.replace(old, new)
    return json.loads(text)


def reviews(m, *ports, v1="reviews", v2="reviews"):
    """The two versions' endpoints of the sample, under the library."""
    return [Server(m, identity=who, at="%s:%d" % (host, port), MESH_INBOUND="strict", MESH_VIEW=None)
            for host, who in (("127.0.0.1", v1), ("127.0.0.2", v2)) for port in ports]


def endpoints(c, port, n):
    """Which endpoints n connections to reviews reached, and who was there."""
    before = len(c.trace.find("connected"))
    same(c("[ask('reviews.shop.mesh', %d) for _ in range(%d)] == ['served'] * %d" % (port, n, n)), True)
    return collections.Counter((l["endpoint"], l["peer"]) for l in c.trace.find("connected")[before:])


# ---- outbound ----
for port, behind, share in ((9080, 9001, 90), (9090, 9011, 80), (9100, 9021, 90)):
    def split(port=port, behind=behind, share=share):
        m = Mesh(sample("sidecar.json"))
        reviews(m, behind)
        c = Client(m)
        got = endpoints(c, port, 200)
        same(set(got), {("127.0.0.1:%d" % behind, REVIEWS), ("127.0.0.2:%d" % behind, REVIEWS)})
        v1 = got[("127.0.0.1:%d" % behind, REVIEWS)]
        assert 2 * share - 30 <= v1 <= min(2 * share + 30, 199), "%d of 200 to v1, %d %% are meant" % (v1, share)
    case("sidecar: reviews:%d is split %d to %d over both versions, each known by its SPIFFE ID" % (port, share, 100 - share))(split)


@case("sidecar: the name has the service's own address, and the address leads where the name does")
def _():
    m = Mesh(sample("sidecar.json"))
    reviews(m, 9011)
    c = Client(m)
    same(c("socket.getaddrinfo('reviews.shop.mesh', 9090, 0, socket.SOCK_STREAM)[0][4][0]"), "240.240.0.10")
    same(c("socket.getnameinfo(('240.240.0.10', 9090), 0)[0]"), "reviews.shop.mesh")
    same(c("S = socket.create_connection(('240.240.0.10', 9090)); ret = say(S)"), "served:hi")
    same(c.trace.wait("connected")["name"], "reviews.shop.mesh:9090")


@case("sidecar: an endpoint that is not who the cluster says is never spoken to")
def _():
    m = Mesh(sample("sidecar.json"))
    reviews(m, 9011, v1="stranger", v2="stranger")
    c = Client(m)
    same(c.ask(port=9090), "EACCES")
    has(c.trace.wait("refused", why="peer")["line"], "sa/stranger")
    c.trace.none("connected")


@case("sidecar: server name and protocol are Istio's; peer exchange is not offered")
def _():
    m, seen = Mesh(sample("sidecar.json")), []
    b = [Backend("v", host=host, port=9011) for host in ("127.0.0.1", "127.0.0.2")]
    for x in b:
        x.ctx.set_alpn_protocols(["istio-peer-exchange", "istio"])
        x.ctx.sni_callback = lambda s, name, ctx: seen.append(name)
        wrap = x.ctx.wrap_socket
        x.ctx.wrap_socket = lambda s, wrap=wrap, **k: (lambda t: (seen.append(t.selected_alpn_protocol()), t)[1])(wrap(s, **k))
    c = Client(m)
    same(c.ask(port=9090), "v")
    assert seen[0] in ("outbound_.9090_.v1_.reviews.shop.mesh", "outbound_.9090_.v2_.reviews.shop.mesh"), seen
    same(seen[1], "istio")


@case("sidecar: without a DestinationRule the endpoint's metadata chooses: tlsMode istio is mutual TLS, none is plaintext")
def _():
    v = sample("sidecar.json")
    m = Mesh(v)
    s = Server(m, identity="details", at="127.0.0.9:8090", MESH_INBOUND="permissive", MESH_VIEW=None)
    c = Client(m)
    same(c.ask("app.shop.mesh", 8090), "served")
    same(c.trace.wait("connected")["peer"], APP)
    for e in v["EDS"]:
        for l in e["endpoints"]:
            for x in l["lb_endpoints"]:
                x["metadata"]["filter_metadata"].pop("envoy.transport_socket_match", None)
    m.put(v)
    eventually("the endpoint is plaintext", lambda: (c.ask("app.shop.mesh", 8090), c.trace.find("connected", tls="none"))[1])
    s.stop()


@case("sidecar: what no listener names is libc's: PassthroughCluster")
def _():
    m = Mesh(sample("sidecar.json"))
    b = Backend("plain", how="plain")
    c = Client(m)
    same(c("S = socket.create_connection(('127.0.0.1', %d)); ret = say(S)" % b.port), "plain:hi")


@case("sidecar: a route to BlackHoleCluster is refused")
def _():
    v = sample("sidecar.json")
    for r in v["RDS"]:
        for h in r["virtual_hosts"]:
            h["routes"][-1]["route"] = {"cluster": "BlackHoleCluster"}
    c = Client(Mesh(v))
    same(c.ask(port=9080), "ECONNREFUSED")
    has(c.trace.wait("refused")["line"], "BlackHoleCluster")


@case("sidecar: routes that need the request are said once")
def _():
    m = Mesh(sample("sidecar.json"))
    text = json.dumps(m.ctl("check", "-f", str(m.view)))
    has(text, "virtual host reviews.shop.mesh:9080: 1 of its 2 routes need the request")
    assert "rbac" not in text, text


@case("name table: a name answers its address; it leads where a listener has the address, else it is libc's")
def _():
    v = sample("sidecar.json")
    v["NDS"] = [{"@type": "type.googleapis.com/istio.networking.nds.v1.NameTable", "table": {
        "reviews": {"ips": ["240.240.0.10"], "registry": "External", "shortname": "reviews", "namespace": "shop"},
        "elsewhere.shop.mesh": {"ips": ["127.0.0.77"]},
        "many.shop.mesh": {"ips": ["10.0.0.1", "10.0.0.2"]}}}]
    m = Mesh(v)
    reviews(m, 9011)
    b = Backend("plain", how="plain", host="127.0.0.77")
    c = Client(m)
    eventually("the table is here", lambda: c("socket.getaddrinfo('elsewhere.shop.mesh', 80, 0, socket.SOCK_STREAM)[0][4][0]") == "127.0.0.77")
    same(c("socket.getaddrinfo('reviews', 9090, 0, socket.SOCK_STREAM)[0][4][0]"), "240.240.0.10")
    same(c.ask("reviews", 9090), "served")
    same(c.trace.wait("connected")["peer"], REVIEWS)
    same(c.ask("elsewhere.shop.mesh", b.port), "plain")


@case("grpc: names by listener, the version that is there, by its SPIFFE ID; one that is not is refused")
def _():
    m = Mesh(sample("grpc.json"))
    reviews(m, 9001, 9021)
    c = Client(m)
    for port, behind in ((9080, 9001), (9100, 9021)):
        got = {c.ask(port=port) for _ in range(60)}
        assert got <= {"served", "EHOSTUNREACH"} and "EHOSTUNREACH" in got, got
        eventually("the tenth", lambda: c.ask(port=port) == "served")
        for l in c.trace.find("connected"):
            same(l["peer"], REVIEWS)
            has(l["endpoint"], "127.0.0.2:")
    has(json.dumps(m.ctl("check", "-f", str(m.view))), "reviews.shop.mesh:9080 would be refused: the route leads to a cluster that the view does not have",
        "reviews.shop.mesh:9090 would be refused")
    same(c.ask(port=9090), "ECONNREFUSED")  # a TCP port: no route, and this sample has no cluster for it


@case("grpc: a TCP port, which has no routes, is its cluster")
def _():
    v = sample("grpc.json")
    for kind in ("CDS", "EDS"):
        for r in [r for r in v[kind] if "9080|v2" in json.dumps(r)]:
            v[kind].append(json.loads(json.dumps(r).replace("9080|v2", "9090|")))
    m = Mesh(v)
    reviews(m, 9001)
    c = Client(m)
    same(c.ask(port=9090), "served")
    same(c.trace.wait("connected")["cluster"], "outbound|9090||reviews.shop.mesh")


# ---- inbound: STRICT, and an AuthorizationPolicy ----
for file, why in (("sidecar.json", "network and HTTP RBAC of virtualInbound"), ("grpc.json", "the server listener's")):
    def strict(file=file):
        m = Mesh(sample(file))
        s = Server(m, identity="details", at="127.0.0.9:8080", MESH_INBOUND="view")
        same(call(s.at), "served:hi")
        same(s.trace.wait("accepted")["peer"], WEB)
        same(call(s.at, identity="ratings"), "refused")
        has(s.trace.wait("refused", why="rbac")["line"], "policy=none", "peer=" + RATINGS, "port=8080", "from=127.0.0.1:")
        same(call(s.at, plain=True), "refused")
        s.trace.wait("refused", why="plaintext")
        same(call(s.at, identity="foreign"), "refused")
        s.trace.wait("refused", why="peer")
        same(len(s.trace.find("accepted")), 1)
        has(json.dumps(m.ctl("-p", str(s.pid), "why", rc=0)), "rbac", "ratings")
    case("%s: app:8080 is STRICT and serves only web: %s" % (file, why))(strict)


@case("sidecar.json: app:8090, a TCP port, the same")
def _():
    s = Server(Mesh(sample("sidecar.json")), identity="details", at="127.0.0.9:8090", MESH_INBOUND="view")
    same((call(s.at), call(s.at, identity="ratings"), call(s.at, plain=True)), ("served:hi", "refused", "refused"))


@case("sidecar.json: another port of the workload takes mesh callers alone, and the policy allows none of them")
def _():
    s = Server(Mesh(sample("sidecar.json")), identity="details", at="127.0.0.9:7777", MESH_INBOUND="view")
    same((call(s.at), call(s.at, plain=True)), ("refused", "refused"))
    has(s.trace.wait("refused", why="rbac")["line"], "policy=none", "port=7777")


@case("sidecar.json: a caller under the library is told: its connection ends, and the endpoint counts as failed")
def _():
    m = Mesh(sample("sidecar.json"))
    Server(m, identity="details", at="127.0.0.9:8090", MESH_INBOUND="view")
    c = Client(m, identity="ratings")
    assert c.ask("app.shop.mesh", 8090) in ("ECONNRESET", "EPIPE", "EACCES"), c.ask("app.shop.mesh", 8090)
    same(Client(m).ask("app.shop.mesh", 8090), "served")


# ---- inbound, as one writes it ----
def rbac(action="ALLOW", principals=({"any": True},), permissions=({"any": True},), name="p", shadow=False):
    return {"name": "envoy.filters.network.rbac", "typed_config": {"@type": TYPE + "network.rbac.v3.RBAC", "stat_prefix": "x",
            "shadow_rules" if shadow else "rules": {"action": action, "policies": {name: {"permissions": list(permissions), "principals": list(principals)}}}}}


def named(**match):
    return {"authenticated": {"principal_name": match}}


TCP = {"name": "envoy.filters.network.tcp_proxy", "typed_config": {"@type": TYPE + "network.tcp_proxy.v3.TcpProxy", "stat_prefix": "x", "cluster": "in"}}
DOWN = {"name": "envoy.transport_sockets.tls", "typed_config": {
    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", "require_client_certificate": True,
    "common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "default"}], "combined_validation_context": {
        "default_validation_context": {"match_subject_alt_names": [{"prefix": "spiffe://shop/"}]}, "validation_context_sds_secret_config": {"name": "ROOTCA"}}}}}


def chain(*filters, tls=True, **match):
    c = {"filter_chain_match": match, "filters": [*filters, TCP]}
    return {**c, "transport_socket": DOWN} if tls else c


def inbound(*chains):
    return resources({"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "virtualInbound", "traffic_direction": "INBOUND",
                      "use_original_dst": True, "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15006}}, "filter_chains": list(chains)})


ISTIO = ["istio-peer-exchange", "istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"]


@case("PERMISSIVE: mesh TLS, plaintext, and the program's own TLS, each by its chain")
def _():
    m = Mesh(inbound(chain(transport_protocol="tls", application_protocols=ISTIO), chain(tls=False, transport_protocol="tls"),
                     chain(tls=False, transport_protocol="raw_buffer")))
    s = Server(m, MESH_INBOUND="view")
    same((call(s.at), call(s.at, plain=True)), ("served:hi", "served:hi"))
    same(s.trace.wait("accepted", tls="none")["event"], "accepted")
    same(s.trace.wait("accepted", tls="1.3")["peer"], WEB)
    own = Server(m, how="ssl:%s:%s" % (PKI / "reviews-dns-chain.pem", PKI / "reviews-dns.key"), MESH_INBOUND="view")
    x = ssl.create_default_context(cafile=str(PKI / "ca.pem"))
    with socket.create_connection(("127.0.0.1", own.port)) as k, x.wrap_socket(k, server_hostname="localhost") as k:
        k.sendall(b"hi\n")
        same(k.recv(100), b"served:hi\n")


@case("PERMISSIVE: a program that speaks first to a caller that does not")
def _():
    m = Mesh(inbound(chain(transport_protocol="tls"), chain(tls=False, transport_protocol="raw_buffer")))
    s = Server(m, how="first", MESH_INBOUND="view")
    with socket.create_connection(("127.0.0.1", s.port)) as k:
        same(k.recv(100), b"220 hello\n")


@case("DISABLE: the port is the program's own, and mesh TLS is not ours to end")
def _():
    s = Server(Mesh(inbound(chain(tls=False))), MESH_INBOUND="view")
    same(call(s.at, plain=True), "served:hi")
    s.trace.none("accepted")


@case("DISABLE with a policy: plaintext callers are judged by their address, and have no name")
def _():
    by_ip = {"direct_remote_ip": {"address_prefix": "127.0.0.1", "prefix_len": 32}}
    m = Mesh(inbound(chain(rbac("DENY", [by_ip]), tls=False)))
    s = Server(m, MESH_INBOUND="view")
    same(call(s.at, plain=True), "refused")
    has(s.trace.wait("refused", why="rbac")["line"], "policy=p")
    m.put(inbound(chain(rbac("ALLOW", [by_ip]), tls=False)))
    eventually("the policy allows it", lambda: call(s.at, plain=True) == "served:hi")
    m.put(inbound(chain(rbac("ALLOW", [named(prefix="spiffe://")]), tls=False)))
    eventually("nobody has a name", lambda: call(s.at, plain=True) == "refused")
    m.put(inbound(chain(rbac("ALLOW", [by_ip]), tls=False)))
    eventually("the policy allows it again", lambda: call(s.at, plain=True) == "served:hi")
    first = Server(m, how="first", MESH_INBOUND="view")
    with socket.create_connection(("127.0.0.1", first.port)) as k:
        same(k.recv(100), b"220 hello\n")


@case("a policy that changes ends the connections that it no longer allows, and leaves the others")
def _():
    m = Mesh(inbound(chain(rbac("ALLOW", [named(prefix="spiffe://shop/")]))))
    s = Server(m, MESH_INBOUND="view")

    def open_(who):
        k = tls(False, who).wrap_socket(socket.create_connection(("127.0.0.1", s.port), timeout=WAIT))
        k.sendall(b"one\n")
        same(k.recv(100), b"served:one\n")
        return k

    def ends(k):
        try:
            k.sendall(b"x\n")
            return k.recv(100) == b""
        except OSError:
            return True
    web, ratings = open_("web"), open_("ratings")
    m.put(inbound(chain(rbac("DENY", [named(exact=RATINGS)], name="no-ratings"))))
    eventually("the denied one ends", lambda: ends(ratings))
    has(s.trace.wait("refused", why="rbac")["line"], "policy=no-ratings", "sa/ratings")
    web.sendall(b"two\n")
    same(web.recv(100), b"served:two\n")
    same((call(s.at), call(s.at, identity="ratings")), ("served:hi", "refused"))


@case("a policy that changes ends plaintext connections too")
def _():
    m = Mesh(inbound(chain(rbac("ALLOW"), tls=False)))
    s = Server(m, MESH_INBOUND="view")
    with socket.create_connection(("127.0.0.1", s.port), timeout=WAIT) as k:
        k.sendall(b"one\n")
        same(k.recv(100), b"served:one\n")
        m.put(inbound(chain(rbac("DENY"), tls=False)))

        def ends():
            try:
                k.sendall(b"x\n")
                return k.recv(100) == b""
            except OSError:
                return True
        eventually("it ends", ends)


@case("a mode that changes holds for the next connection, on a listening socket that was there before")
def _():
    m = Mesh(inbound(chain(tls=False)))
    s = Server(m, MESH_INBOUND="view")
    same(call(s.at, plain=True), "served:hi")
    m.put(inbound(chain(transport_protocol="tls")))
    eventually("strict", lambda: call(s.at, plain=True) == "refused")
    same(call(s.at), "served:hi")


@case("a dry run is traced and lets everybody in")
def _():
    s = Server(Mesh(inbound(chain(rbac("DENY", [named(exact=WEB)], name="dry", shadow=True)))), MESH_INBOUND="view")
    same(call(s.at), "served:hi")
    has(s.trace.wait("shadow")["line"], "why=rbac-shadow", "policy=dry", "peer=" + WEB)


@case("a policy by server name")
def _():
    m = Mesh(inbound(chain(rbac("ALLOW", permissions=[{"requested_server_name": {"exact": "a.mesh"}}]))))
    s = Server(m, MESH_INBOUND="view")

    def with_name(name):
        try:
            with tls(False, "web").wrap_socket(socket.create_connection(("127.0.0.1", s.port), timeout=WAIT), server_hostname=name) as k:
                k.sendall(b"hi\n")
                return k.recv(100).decode().strip() or "refused"
        except OSError:
            return "refused"
    same((with_name("a.mesh"), with_name("b.mesh"), with_name(None)), ("served:hi", "refused", "refused"))


@case("HTTP rules that a connection decides are kept, those that need the request refuse it and say so")
def _():
    def hcm(permission, principal={"any": True}):
        c = chain()
        c["filters"] = [{"name": "hcm", "typed_config": {
            "@type": TYPE + "network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "x",
            "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "in"}}]}]},
            "http_filters": [{"name": "guard", "typed_config": {"@type": TYPE + "http.rbac.v3.RBAC", "rules": {"policies": {
                "users": {"permissions": [permission], "principals": [principal]}}}}},
                {"name": "envoy.filters.http.router", "typed_config": {"@type": TYPE + "http.router.v3.Router"}}]}}]
        return inbound(c)
    header = {"header": {"name": "x-user", "string_match": {"exact": "test"}}}
    m = Mesh(hcm(header, named(exact=WEB)))
    s = Server(m, MESH_INBOUND="view")
    same(call(s.at), "refused")
    has(s.trace.wait("refused", why="rbac", policy="users")["line"], "needs=\"header x-user\"")
    has(json.dumps(m.ctl("check", "-f", str(m.view))), "policy users decides by header x-user")
    same(call(s.at, identity="ratings"), "refused")  # whatever it asks
    s.trace.wait("refused", why="rbac", policy="none")
    m.put(hcm({"destination_port": s.port}, named(exact=WEB)))
    eventually("no request is needed", lambda: call(s.at) == "served:hi")


@case("filter chains by the caller's address: each its own identity; one that none takes is refused")
def _():
    m = Mesh(inbound(chain(direct_source_prefix_ranges=[{"address_prefix": "127.0.0.2", "prefix_len": 32}]),
                     chain(tls=False, direct_source_prefix_ranges=[{"address_prefix": "127.0.0.3", "prefix_len": 32}])))
    s = Server(m, at="0.0.0.0:0", MESH_INBOUND="view")

    def from_(host, plain):
        try:
            k = socket.create_connection(("127.0.0.1", s.port), timeout=WAIT, source_address=(host, 0))
            with (k if plain else tls(False, "web").wrap_socket(k)) as k:
                k.sendall(b"hi\n")
                return k.recv(100).decode().strip() or "refused"
        except OSError:
            return "refused"
    same([from_(h, p) for h in ("127.0.0.2", "127.0.0.3", "127.0.0.4") for p in (False, True)],
         ["served:hi", "refused", "refused", "served:hi", "refused", "refused"])


@case("a filter that is not known refuses what it guards, by name; the chain beside it is served")
def _():
    ext = {"name": "envoy.filters.network.ext_authz", "typed_config": {"@type": TYPE + "network.ext_authz.v3.ExtAuthz"}}
    m = Mesh(inbound(chain(ext, destination_port=1), chain()))
    s = Server(m, MESH_INBOUND="view")
    same(call(s.at), "served:hi")
    has(json.dumps(m.ctl("check", "-f", str(m.view))), "ext_authz")
    m.put(inbound(chain(ext)))
    eventually("refused", lambda: call(s.at) == "refused")
    has(s.trace.wait("refused", why="inbound")["line"], "ext_authz")


main()
