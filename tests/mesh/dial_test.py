# SPDX-License-Identifier: Apache-2.0
"""Dial: which endpoint a connect gets, what is tried next, what the program is told."""
from mesh import *


def told_why(c, why, **more):
    return c.trace.wait("refused", why=why, **more)


# ---- the next endpoint ----
@case("a refused endpoint is followed by the next one, on the same descriptor")
def _():
    dead, one = Backend("dead", "closed"), Backend("one")
    c = Client(Mesh(service(dead, one)))
    for _ in range(4):
        same(c.ask(), "one")
    for l in c.trace.find("connected"):
        same(l["endpoint"], one.at)
    assert any(l["attempts"] == "2" for l in c.trace.find("connected"))


@case("a trace line tells name, cluster, endpoint, peer, version and cipher of each connection")
def _():
    one = Backend("one")
    c = Client(Mesh(service(one)))
    same(c.ask(), "one")
    l = c.trace.wait("connected")
    has(l["line"], "name=reviews.shop.mesh:9080", "route=", "cluster=", "endpoint=" + one.at, "peer=" + REVIEWS, "tls=1.3", "cipher=AES-",
        "resumed=no", "attempts=1", "ms=", "fd=")
    has(c.trace.wait("closed")["line"], "in=", "out=", "ms=")


@case("all endpoints refused is ECONNREFUSED")
def _():
    c = Client(Mesh(service(Backend("a", "closed"), Backend("b", "closed"))))
    same(c.ask(), "ECONNREFUSED")


@case("an endpoint that accepts and resets is followed by the next one")
def _():
    a, one = Backend("a", "reset"), Backend("one")
    c = Client(Mesh(service(a, one)))
    for _ in range(3):
        same(c.ask(), "one")


@case("an endpoint that accepts and is silent is left for the next one after connect_timeout")
def _():
    a, one = Backend("a", "silent"), Backend("one")
    m = Mesh(resources(cluster("reviews.shop.mesh", a.at, one.at, connect_timeout="0.4s")), MESH_PATIENCE="10s")
    c = Client(m)
    same({c.ask() for _ in range(2)}, {"one"})
    assert a.taken, "the silent one was never tried"
    assert b"hi" not in a.seen


@case("a silent endpoint is left for the next one also after connected was told, and what was written goes there alone")
def _():
    a, one = Backend("a", "silent"), Backend("one")
    c = Client(Mesh(resources(cluster("reviews.shop.mesh", a.at, one.at, connect_timeout="0.6s")), MESH_PATIENCE="50ms"))
    for _ in range(2):
        same(c.ask(), "one")
    assert a.taken and b"hi" not in a.seen


@case("a server in plaintext is no peer: EACCES, and it sees no byte of ours in clear")
def _():
    a = Backend("a", "plain")
    c = Client(Mesh(service(a)), MESH_PATIENCE="10s")
    same(c.ask(text="my-secret"), "EACCES")
    told_why(c, "protocol")
    assert b"my-secret" not in a.seen


@case("nobody in the view is EHOSTUNREACH, why=no-endpoint")
def _():
    c = Client(Mesh(resources(cluster("reviews.shop.mesh", load_assignment={"cluster_name": "reviews.shop.mesh", "endpoints": []}))))
    same(c.ask(), "EHOSTUNREACH")
    told_why(c, "no-endpoint")


@case("nobody healthy in the view is EHOSTUNREACH")
def _():
    one = Backend("one")
    la = {"cluster_name": "reviews.shop.mesh", "endpoints": [{"lb_endpoints": [endpoint(one.at, health_status="UNHEALTHY")]}]}
    c = Client(Mesh(resources(cluster("reviews.shop.mesh", load_assignment=la))))
    same(c.ask(), "EHOSTUNREACH")
    same(one.taken, 0)


@case("an unhealthy endpoint is not dialled while another is there")
def _():
    one, sick = Backend("one"), Backend("sick")
    la = {"cluster_name": "reviews.shop.mesh", "endpoints": [{"lb_endpoints": [endpoint(sick.at, health_status="UNHEALTHY"), endpoint(one.at)]}]}
    c = Client(Mesh(resources(cluster("reviews.shop.mesh", load_assignment=la))))
    same([c.ask() for _ in range(4)], ["one"] * 4)
    same(sick.taken, 0)


# ---- families ----
@case("an IPv6 endpoint is not reached by an IPv4 socket: EHOSTUNREACH, why=family")
def _():
    one = Backend("one", host="::1")
    # both families in one name, so that it has an IPv4 address; the IPv4 endpoint is not healthy
    four = Backend("four")
    la = {"cluster_name": "reviews.shop.mesh", "endpoints": [{"lb_endpoints": [endpoint(one.at), endpoint(four.at)]}]}
    m = Mesh(resources(cluster("reviews.shop.mesh", load_assignment=la)))
    c = Client(m)
    c("S, SA = sock()")
    m.put(resources(cluster("reviews.shop.mesh", one.at)))
    eventually("the view is replaced", lambda: c("len(socket.getaddrinfo('reviews.shop.mesh', 9080, 0, socket.SOCK_STREAM))") == 1)
    same(c("S.connect(SA)"), "EHOSTUNREACH")
    told_why(c, "family")
    same(c.ask(), "one")


@case("a name with IPv6 endpoints alone has an IPv6 address alone")
def _():
    c = Client(Mesh(service(Backend("one", host="::1"))))
    same(c("[int(a[0]) for a in socket.getaddrinfo('reviews.shop.mesh', 9080, 0, socket.SOCK_STREAM)]"), [int(socket.AF_INET6)])
    same(c.ask(), "one")


@case("an IPv6 socket reaches IPv4 endpoints, IPV6_V6ONLY does not")
def _():
    one, six = Backend("one"), Backend("six", host="::1")
    m = Mesh(service(one, six))
    c = Client(m)
    c("""def by(only):
    f, t, p, _, sa = socket.getaddrinfo('reviews.shop.mesh', 9080, socket.AF_INET6, socket.SOCK_STREAM)[0]
    s = socket.socket(f, t, p); s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    s.connect(sa); return say(s)""")
    same({c("by(0)") for _ in range(6)}, {"one:hi", "six:hi"})
    same({c("by(1)") for _ in range(6)}, {"six:hi"})


# ---- virtual addresses ----
@case("a virtual address on a port that nothing has is ECONNREFUSED, why=no-route")
def _():
    c = Client(Mesh(service(Backend("one"))))
    same(c.ask(port=9999), "ECONNREFUSED")
    told_why(c, "no-route")


@case("UDP to a virtual address is EACCES")
def _():
    c = Client(Mesh(service(Backend("one"))))
    c("S, SA = sock(); U = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
    same(c("U.connect(SA)"), "EACCES")
    c.trace.wait("refused", why="not-tcp")


@case("getpeername is the virtual address that was connected to")
def _():
    c = Client(Mesh(service(Backend("one"))))
    c("S, SA = sock(); S.connect(SA)")
    same(c("S.getpeername() == SA"), True)


@case("a service's real address from the view is that service; its other ports are libc's")
def _():
    one, other = Backend("one"), Backend("other", "plain", host="127.0.0.77")
    c = Client(Mesh(service(one, addresses=["127.0.0.77"])))
    same(c.ask("127.0.0.77", 9080), "one")
    same(c.ask("127.0.0.77", other.port), "other")


# ---- identity ----
@case("a wrong SPIFFE ID is EACCES, refused why=peer with name and endpoint, and meshctl why knows it")
def _():
    one = Backend("one", identity="stranger")
    m = Mesh(service(one, peers=[REVIEWS]))
    c = Client(m, MESH_PATIENCE="10s")
    same(c.ask(), "EACCES")
    has(told_why(c, "peer", endpoint=one.at)["line"], "name=reviews.shop.mesh:9080", "stranger")
    same(one.seen, b"")
    has(json.dumps(m.ctl("why", rc=0)), "peer", one.at)


@case("a wrong SPIFFE ID is followed by the right one at the next endpoint")
def _():
    a, one = Backend("a", identity="stranger"), Backend("one")
    c = Client(Mesh(service(a, one, peers=[REVIEWS])), MESH_PATIENCE="10s")
    same([c.ask() for _ in range(3)], ["one"] * 3)
    same(a.seen, b"")


for server, what in (("foreign", "another trust domain's chain"), ("smuggled", "a foreign ID under our root"), ("impostor", "our ID under a foreign root"),
                     ("expired", "an expired certificate"), ("not-yet", "a certificate of the future"), ("two-ids", "two SPIFFE IDs"),
                     ("no-id", "no SPIFFE ID"), ("self", "a self-signed certificate")):
    def one_server(server=server):
        if not (PKI / (server + "-chain.pem")).exists():
            shutil.copy(PKI / (server + ".pem"), PKI / (server + "-chain.pem"))
        one = Backend("one", identity=server)
        c = Client(Mesh(service(one)), MESH_PATIENCE="10s")
        same(c.ask(), "EACCES")
        c.trace.wait("refused")
        same(one.seen, b"")
    case("a server with %s is EACCES" % what)(one_server)


@case("MESH_PEERS decides where the view names none, and only there")
def _():
    one, two = Backend("one"), Backend("two", identity="ratings")
    m = Mesh({"services": {"reviews.shop.mesh:9080": {"endpoints": [one.at]},
                           "ratings.shop.mesh:9080": {"endpoints": [two.at], "peers": ["spiffe://shop/ns/prod/sa/ratings"]}}}, MESH_PATIENCE="10s")
    same(Client(m, MESH_PEERS="spiffe://shop/ns/*/sa/reviews").ask(), "one")
    c = Client(m, MESH_PEERS="spiffe://shop/ns/*/sa/details")
    same(c.ask(), "EACCES")
    same(c.ask("ratings.shop.mesh"), "two")


@case("MESH_PEERS=none: only what the view names")
def _():
    one, two = Backend("one"), Backend("two", identity="ratings")
    m = Mesh({"services": {"reviews.shop.mesh:9080": {"endpoints": [one.at]},
                           "ratings.shop.mesh:9080": {"endpoints": [two.at], "peers": ["spiffe://shop/ns/prod/sa/ratings"]}}}, MESH_PATIENCE="10s")
    c = Client(m, MESH_PEERS="none")
    same(c.ask(), "EACCES")
    same(c.ask("ratings.shop.mesh"), "two")


@case("no identity: mesh connections are EACCES, why=identity; other connections are not touched")
def _():
    one, raw = Backend("one"), Backend("raw", "plain")
    c = Client(Mesh(service(one)), identity=None, MESH_PATIENCE="10s")
    same(c.ask(), "EACCES")
    has(told_why(c, "identity")["detail"], "MESH_CERT")
    same(c.ask("127.0.0.1", raw.port), "raw")


@case("SNI and ALPN, a validation context and SAN matchers in the view are used")
def _():
    one = Backend("one", identity="reviews-new", ca="bundle")
    names = []
    one.ctx.sni_callback = lambda s, name, c: names.append(name) and None
    one.ctx.set_alpn_protocols(["shop"])
    def view(san, ca="ca2"):
        return resources(cluster("reviews.shop.mesh", one.at, transport_socket=upstream_tls(sni="reviews.internal", common_tls_context={
            "alpn_protocols": ["shop"], "validation_context": {"trusted_ca": {"filename": "%s/%s.pem" % (PKI, ca)}, "match_typed_subject_alt_names": [
                {"san_type": "URI", "matcher": {"exact": san}}]}})))
    m = Mesh(view(REVIEWS), MESH_PATIENCE="10s")
    same(Client(m).ask(), "one")
    same(names[-1], "reviews.internal")
    m.put(view("spiffe://shop/ns/prod/sa/other"))
    same(Client(m).ask(), "EACCES")
    m.put(view(REVIEWS, ca="ca"))
    same(Client(m).ask(), "EACCES")


@case("a peer with no more than TLS 1.2 is served, and the trace says so")
def _():
    c = Client(Mesh(service(Backend("one", version=ssl.TLSVersion.TLSv1_2))))
    same(c.ask(), "one")
    c.trace.wait("connected", tls="1.2")


@case("a server that refuses our certificate after the handshake is ECONNRESET, and counts as a failure")
def _():
    one = Backend("one", ca="foreign-ca")
    m = Mesh(service(one))
    c = Client(m)
    has(("ECONNRESET", "EPIPE", "EACCES"), c.ask())
    eventually("a failure is counted", lambda: (m.stat(one.at) or {}).get("failures", 0) > 0)


# ---- plaintext by the cluster's word ----
@case("tls: off is dialled in clear, and traced tls=none")
def _():
    one = Backend("one", "plain")
    c = Client(Mesh(service(one, tls="off")))
    same(c.ask(), "one")
    c.trace.wait("connected", tls="none", endpoint=one.at)
    assert one.seen == b"hi\n"


@case("every line of a cluster in clear says tls=none, and of one that is not says no such thing")
def _():
    one, gone, safe = Backend("one", "plain"), Backend("gone", "closed"), Backend("safe")
    m = Mesh({"services": {"clear.mesh:80": {"endpoints": [one.at], "tls": "off"}, "gone.mesh:80": {"endpoints": [gone.at], "tls": "off"},
                           "none.mesh:80": {"endpoints": [], "tls": "off"}, "safe.mesh:80": {"endpoints": [safe.at]}}})
    c = Client(m)
    same([c.ask(n, 80) for n in ("clear.mesh", "gone.mesh", "none.mesh", "safe.mesh")], ["one", "ECONNREFUSED", "EHOSTUNREACH", "safe"])
    c.trace.wait("dial", name="clear.mesh:80", route="default", cluster="clear.mesh:80", tls="none")
    c.trace.wait("attempt", why="connect", name="gone.mesh:80", endpoint=gone.at, tls="none")
    c.trace.wait("refused", why="no-endpoint", name="none.mesh:80", tls="none")
    c.trace.wait("closed", tls="none")
    same([l.get("tls") for l in c.trace.find("dial", name="safe.mesh:80")], [None])
    has(c.trace.wait("dial", name="safe.mesh:80")["address"], "241.", ":80")
    same([l.get("tls") for l in c.trace.find("closed")], ["none", None])


@case("a connection that arrives in another program, or in a message, is traced as handover")
def _():
    c = Client(Mesh(service(Backend("one"))))
    same(c("""import subprocess
A = conn()
say(A)
p = subprocess.run([sys.executable, "-c", "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.sendall(b'kin' + bytes([10])); print(s.recv(99).decode())",
                    str(A.fileno())], pass_fds=[A.fileno()], capture_output=True, text=True)
ret = p.stdout.strip() + p.stderr"""), "one:kin")
    c.trace.wait("handover", by="exec")
    c("a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [A.fileno()]); B = socket.socket(fileno=socket.recv_fds(b, 1, 1)[1][0])")
    same(c("say(B)"), "one:hi")
    same([l["fd"] for l in c.trace.find("handover", by="scm")], [str(c("B.fileno()"))])


@case("raw_buffer is dialled in clear without an identity, and MESH_TLS=required refuses it")
def _():
    one = Backend("one", "plain")
    m = Mesh(resources(cluster("reviews.shop.mesh", one.at, transport_socket=RAW)))
    c = Client(m, identity=None)
    same(c.ask(), "one")
    c.trace.wait("connected", tls="none")
    c = Client(m, MESH_TLS="required")
    same(c.ask(), "EACCES")
    c.trace.wait("refused")
    same(one.seen, b"hi\n")


@case("MESH_TLS=view dials a cluster that says nothing in clear; mutual does not")
def _():
    one, two = Backend("one", "plain"), Backend("two")
    m = Mesh(resources(cluster("reviews.shop.mesh", one.at), cluster("ratings.shop.mesh", two.at)))
    same(Client(m, MESH_TLS="view").ask(), "one")
    same(Client(m, MESH_TLS="mutual").ask("ratings.shop.mesh"), "two")


@case("a wrong MESH_TLS fails closed")
def _():
    one = Backend("one", "plain")
    m = Mesh(resources(cluster("reviews.shop.mesh", one.at)))
    c = Client(m, MESH_TLS="veiw", MESH_PATIENCE="10s")
    same(c.ask(), "EACCES")
    assert b"hi" not in one.seen


# ---- exclusion ----
@case("MESH_EXCLUDE by range and port wins over addresses of the view")
def _():
    one, raw = Backend("one"), Backend("raw", "plain", host="127.0.0.78")
    v = {"services": {"reviews.shop.mesh": {"endpoints": [one.at], "addresses": ["127.0.0.78"]}}}
    same(Client(Mesh(v)).ask("127.0.0.78", raw.port), "one")
    same(Client(Mesh(v), MESH_EXCLUDE="127.0.0.0/8").ask("127.0.0.78", raw.port), "raw")
    same(Client(Mesh(v), MESH_EXCLUDE="127.0.0.78:%d" % raw.port).ask("127.0.0.78", raw.port), "raw")
    same(Client(Mesh(v), MESH_EXCLUDE="127.0.0.78:1").ask("127.0.0.78", raw.port), "one")


@case("MESH_EXCLUDE by name: the name is libc's")
def _():
    c = Client(Mesh(service(Backend("one"))), MESH_EXCLUDE="reviews.shop.mesh")
    has(("EAI_NONAME", "EAI_AGAIN"), c.ask())


@case("MESH_EXCLUDE of the endpoints does not take a service out of the mesh")
def _():
    one = Backend("one")
    same(Client(Mesh(service(one)), MESH_EXCLUDE="127.0.0.1").ask(), "one")


# ---- health that all processes share ----
def eager(*ats, ejection="60s", **more):
    return resources(cluster("reviews.shop.mesh", *ats, outlier_detection={
        "consecutive_5xx": 2, "base_ejection_time": ejection, "max_ejection_percent": 100}, **more))


@case("a failing endpoint is avoided by every process, and comes back")
def _():
    dead, one = Backend("dead", "closed"), Backend("one")
    m = Mesh(eager(dead.at, one.at, ejection="2s"))
    c = Client(m)
    same([c.ask() for _ in range(6)], ["one"] * 6)
    assert (m.stat(dead.at) or {}).get("failures", 0) >= 2, m.ctl("stats")
    d = Client(m)
    same([d.ask() for _ in range(4)], ["one"] * 4)
    same({l["attempts"] for l in d.trace.find("connected")}, {"1"})
    back = Backend("back", port=dead.port)
    eventually("the endpoint comes back", lambda: d.ask() == "back")
    assert back.taken


@case("by default two failures in a row eject, and the last healthy endpoint is never ejected")
def _():
    dead, one = Backend("dead", "closed"), Backend("one")
    m = Mesh(service(dead, one))
    c = Client(m)
    same([c.ask() for _ in range(8)], ["one"] * 8)
    same(m.stat(dead.at)["failures"], 2)
    one.stop()
    for _ in range(4):
        same(c.ask(), "ECONNREFUSED")
    assert m.stat(one.at)["failures"] >= 3, "the only one left was avoided"


@case("connects and live connections are counted across processes, and given back at close and at kill -9")
def _():
    one = Backend("one")
    m = Mesh(service(one))
    a, b = Client(m), Client(m)
    a("A = [conn() for _ in range(3)]; ret = [say(s) for s in A]")
    b("A = [conn() for _ in range(2)]; ret = [say(s) for s in A]")
    s = m.stat(one.at)
    same((s["in_flight"], s["connects"]), (5, 5))
    a("[s.close() for s in A]")
    eventually(lambda: "in flight 2: %s" % m.stat(one.at), lambda: m.stat(one.at)["in_flight"] == 2)
    b.p.kill()
    b.p.wait()
    c = Client(m)
    same(c.ask(), "one")
    eventually(lambda: "in flight 0: %s" % m.stat(one.at), lambda: m.stat(one.at)["in_flight"] == 0)


@case("least request sees the connections of other processes")
def _():
    one, two = Backend("one"), Backend("two")
    m = Mesh(service(one, two, policy="least_request"))
    a = Client(m)
    a("A = [conn() for _ in range(8)]; ret = [say(s) for s in A]")
    a("[s.close() for s in A if say(s) == 'two:hi']")
    eventually("two is idle", lambda: m.stat(two.at)["in_flight"] == 0)
    busy = m.stat(one.at)["in_flight"]
    assert busy >= 2, busy
    b = Client(m)
    same([b.ask() for _ in range(12)].count("one") < 6, True)


# ---- policies ----
@case("round robin takes turns, over processes' own connections")
def _():
    bs = [Backend(n) for n in ("one", "two", "three")]
    c = Client(Mesh(service(*bs, policy="round_robin")))
    got = [c.ask() for _ in range(9)]
    same({n: got.count(n) for n in set(got)}, {"one": 3, "two": 3, "three": 3})


@case("random reaches all")
def _():
    bs = [Backend(n) for n in ("one", "two", "three")]
    c = Client(Mesh(service(*bs, policy="random")))
    eventually("all three were reached", lambda: (c.ask(), all(b.taken for b in bs))[1])


@case("weighted clusters of a tcp_proxy are reached by their weights; a weight of nought never")
def _():
    one, two, none = Backend("one"), Backend("two"), Backend("none")
    c = Client(Mesh(resources(
        cluster("a", one.at), cluster("b", two.at), cluster("z", none.at),
        listener("reviews.shop.mesh:9080", {"weighted_clusters": {"clusters": [
            {"name": "a", "weight": 3}, {"name": "b", "weight": 1}]}}))))
    got = [c.ask() for _ in range(60)]
    assert 4 <= got.count("two") < got.count("one"), got
    has({l["cluster"] for l in c.trace.find("connected")}, "a", "b")


@case("endpoint weights are kept")
def _():
    one, two = Backend("one"), Backend("two")
    la = {"cluster_name": "reviews.shop.mesh", "endpoints": [{"lb_endpoints": [
        endpoint(one.at, load_balancing_weight=3), endpoint(two.at, load_balancing_weight=1)]}]}
    c = Client(Mesh(resources(cluster("reviews.shop.mesh", load_assignment=la))))
    got = [c.ask() for _ in range(16)]
    same((got.count("one"), got.count("two")), (12, 4))


@case("a lower priority is used only when the higher one is not healthy")
def _():
    one, two = Backend("one"), Backend("two")
    def view(health):
        return resources(cluster("reviews.shop.mesh", load_assignment={"cluster_name": "reviews.shop.mesh", "endpoints": [
            {"priority": 0, "lb_endpoints": [endpoint(one.at, health_status=health)]}, {"priority": 1, "lb_endpoints": [endpoint(two.at)]}]}))
    m = Mesh(view("HEALTHY"))
    c = Client(m)
    same([c.ask() for _ in range(5)], ["one"] * 5)
    m.put(view("UNHEALTHY"))
    eventually("the other priority is used", lambda: c.ask() == "two")
    same([c.ask() for _ in range(5)], ["two"] * 5)


@case("consistent hashing: MESH_HASH_KEY keeps a key at one endpoint, in every process")
def _():
    bs = [Backend(n) for n in ("one", "two", "three", "four")]
    m = Mesh(service(*bs, policy="ring_hash"))
    seen = set()
    for key in ("=alice", "=bob", "=carol", "=dave", "=erin", "=frank"):
        a, b = Client(m, MESH_HASH_KEY=key), Client(m, MESH_HASH_KEY=key)
        got = {a.ask(), a.ask(), b.ask()}
        same(len(got), 1)
        seen |= got
    assert len(seen) > 1, "all keys at one endpoint"


@case("a circuit breaker that is full is ECONNREFUSED, why=overload, and opens again")
def _():
    one = Backend("one")
    m = Mesh(resources(cluster("reviews.shop.mesh", one.at, circuit_breakers={"thresholds": [{"max_connections": 2}]})))
    a, b = Client(m), Client(m)
    a("A = [conn(), conn()]; ret = [say(s) for s in A]")
    same(b.ask(), "ECONNREFUSED")
    b.trace.wait("refused", why="overload")
    a("[s.close() for s in A]")
    eventually("it opens", lambda: b.ask() == "one")


main()
