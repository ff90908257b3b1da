# SPDX-License-Identifier: Apache-2.0
"""Accept: what a protected port demands of its callers."""
from mesh import *

IN = "127.0.0.1"


def refused(s, why, **more):
    return s.trace.wait("refused", why=why, **more)


# ---- strict ----
@case("strict: a caller with a certificate of ours is served and named in the trace")
def _():
    s = Server(Mesh(), MESH_INBOUND="strict")
    same(call(s.at), "served:hi")
    has(s.trace.wait("accepted")["line"], "port=%d" % s.port, "from=127.0.0.1:", "peer=" + WEB, "tls=1.3", "cipher=")
    same(call(s.at, version=ssl.TLSVersion.TLSv1_2), "served:hi")
    s.trace.wait("accepted", tls="1.2")


@case("strict: plaintext is refused, why=plaintext; the program sees none of it")
def _():
    m = Mesh()
    s = Server(m, MESH_INBOUND="strict")
    same(call(s.at, plain=True), "refused")
    refused(s, "plaintext", port=s.port)
    has(json.dumps(m.ctl("-p", str(s.pid), "why", rc=0)), "plaintext", str(s.port))
    same(call(s.at), "served:hi")


for who, ca in ((None, "ca"), ("foreign", "ca"), ("impostor", "ca"), ("smuggled", "ca"), ("expired", "ca"), ("not-yet", "ca"), ("two-ids", "ca"), ("no-id", "ca"), ("self", "ca")):
    def stranger(who=who):
        if who and not (PKI / (who + "-chain.pem")).exists():
            shutil.copy(PKI / (who + ".pem"), PKI / (who + "-chain.pem"))
        s = Server(Mesh(), MESH_INBOUND="strict")
        same(call(s.at, identity=who), "refused")
        s.trace.wait("refused", port=s.port)
        s.trace.none("accepted")
        same(call(s.at), "served:hi")
    case("strict: a caller with %s is refused" % ("no certificate" if not who else "certificate `%s`" % who))(stranger)


@case("strict: a chain with an intermediate passes, in both directions")
def _():
    s = Server(Mesh(), identity="reviews-sub", MESH_INBOUND="strict")
    same(call(s.at, identity="web-sub"), "served:hi")


@case("no identity: a strict port serves nobody, not even plaintext")
def _():
    s = Server(Mesh(), identity=None, MESH_INBOUND="strict")
    same(call(s.at), "refused")
    refused(s, "identity")
    same(call(s.at, plain=True), "refused")


@case("MESH_CALLERS decides who may call")
def _():
    s = Server(Mesh(), MESH_INBOUND="strict", MESH_CALLERS="spiffe://shop/ns/*/sa/web,spiffe://shop/ns/prod/sa/ratings")
    same(call(s.at), "served:hi")
    same(call(s.at, identity="ratings"), "served:hi")
    same(call(s.at, identity="stranger"), "refused")
    has(s.trace.wait("refused")["line"], "sa/stranger")


@case("a wrong MESH_CALLERS serves nobody; it is named in the trace")
def _():
    s = Server(Mesh(), MESH_INBOUND="strict", MESH_CALLERS="http://web")
    same(call(s.at), "refused")
    has(refused(s, "identity")["detail"], "MESH_CALLERS")


@case("a wrong MESH_INBOUND makes every port strict")
def _():
    s = Server(Mesh(), MESH_INBOUND="strikt")
    same(call(s.at, plain=True), "refused")
    same(call(s.at), "served:hi")


@case("MESH_INBOUND off, or not said: the port is the program's own")
def _():
    same(call(Server(Mesh(), MESH_INBOUND="off").at, plain=True), "served:hi")
    same(call(Server(Mesh()).at, plain=True), "served:hi")


@case("MESH_INBOUND by port: the named one, and all others")
def _():
    m = Mesh()
    with socket.create_server((IN, 0)) as a, socket.create_server((IN, 0)) as b:
        pa, pb = a.getsockname()[1], b.getsockname()[1]
    modes = "%d=strict,*=off" % pa
    a, b = Server(m, at="%s:%d" % (IN, pa), MESH_INBOUND=modes), Server(m, at="%s:%d" % (IN, pb), MESH_INBOUND=modes)
    same((call(a.at), call(a.at, plain=True)), ("served:hi", "refused"))
    same(call(b.at, plain=True), "served:hi")
    modes = "%d=off,*=strict" % pa
    m = Mesh()
    a.stop()
    b.stop()
    a, b = Server(m, at="%s:%d" % (IN, pa), MESH_INBOUND=modes), Server(m, at="%s:%d" % (IN, pb), MESH_INBOUND=modes)
    same(call(a.at, plain=True), "served:hi")
    same((call(b.at), call(b.at, plain=True)), ("served:hi", "refused"))


@case("MESH_INBOUND_PLAIN: those sources may speak plaintext to a strict port")
def _():
    s = Server(Mesh(), MESH_INBOUND="strict", MESH_INBOUND_PLAIN="127.0.0.1")
    same(call(s.at, plain=True), "served:hi")
    s.trace.wait("accepted", tls="none")


@case("MESH_INBOUND_PLAIN admits mesh callers from there as well")
def _():
    s = Server(Mesh(), MESH_INBOUND="strict", MESH_INBOUND_PLAIN="127.0.0.1")
    same(call(s.at), "served:hi")


@case("MESH_INBOUND_PLAIN by port and range; a source outside stays strict; a wrong value is nobody")
def _():
    with socket.create_server((IN, 0)) as a:
        port = a.getsockname()[1]
    at = "%s:%d" % (IN, port)
    for value, want in (("127.0.0.0/8:%d" % port, "served:hi"), ("127.0.0.0/8:1", "refused"), ("127.0.0.2", "refused"), ("127.0.0.1,nonsense", "refused")):
        s = Server(Mesh(), at=at, MESH_INBOUND="strict", MESH_INBOUND_PLAIN=value)
        same((value, call(s.at, plain=True)), (value, want))
        s.stop()


# ---- permissive ----
@case("permissive: plaintext is served by its first bytes, a mesh caller in mutual TLS")
def _():
    s = Server(Mesh(), MESH_INBOUND="permissive")
    same(call(s.at, plain=True), "served:hi")
    s.trace.wait("accepted", tls="none")
    same(call(s.at), "served:hi")
    s.trace.wait("accepted", tls="1.3", peer=WEB)


@case("permissive: a first byte that comes alone is enough to tell")
def _():
    s = Server(Mesh(), MESH_INBOUND="permissive")
    with socket.create_connection((IN, s.port), timeout=WAIT) as c:
        c.sendall(b"h")
        time.sleep(0.2)
        c.sendall(b"i\n")
        got = b""
        while not got.endswith(b"i\n"):
            got += c.recv(100)
        has(got, b"served:h")


@case("permissive: the program's own TLS passes as it is")
def _():
    s = Server(Mesh(), how="ssl:%s:%s" % (PKI / "reviews-dns-chain.pem", PKI / "reviews-dns.key"), MESH_INBOUND="permissive")
    ctx = ssl.create_default_context(cafile=str(PKI / "ca.pem"))
    with socket.create_connection((IN, s.port), timeout=WAIT) as raw, ctx.wrap_socket(raw, server_hostname="localhost") as c:
        c.sendall(b"hi\n")
        same(c.recv(100), b"served:hi\n")
        same(c.getpeercert()["subject"][-1][0][1], "reviews-dns")
    s.trace.wait("accepted", tls="none")


@case("permissive: a caller whose mesh certificate does not pass is refused, not served in plaintext")
def _():
    with socket.create_server((IN, 0)) as b:
        port = b.getsockname()[1]
    m = Mesh(service("%s:%d" % (IN, port)), MESH_PATIENCE="20s")
    s = Server(m, at="%s:%d" % (IN, port), MESH_INBOUND="permissive", MESH_CALLERS="spiffe://shop/ns/prod/sa/ratings")
    c = Client(m)
    has(("EACCES", "ECONNRESET", "EPIPE"), c.ask())
    s.trace.wait("refused")
    s.trace.none("accepted")
    same(Client(m, identity="ratings").ask(), "served")


@case("permissive: a program that speaks first is heard by plaintext callers after MESH_DETECT, by mesh callers in mutual TLS")
def _():
    s = Server(Mesh(), how="first", MESH_INBOUND="permissive", MESH_DETECT="300ms")
    with socket.create_connection((IN, s.port), timeout=WAIT) as c:
        same(c.recv(100), b"220 hello\n")
    with socket.create_connection((IN, s.port), timeout=WAIT) as raw, tls(False, "web").wrap_socket(raw) as c:
        same(c.recv(100), b"220 hello\n")
    s.trace.wait("accepted", peer=WEB)


@case("permissive: with 50 ms on the wire no mesh caller of a program that speaks first is taken for plaintext")
def _():
    m = Mesh()
    s = Server(m, how="first", MESH_INBOUND="permissive")
    wire = Slow(s.at, 0.05)
    m.put(service(wire.at))
    c = Client(m)
    for _ in range(5):
        same(c("S = conn(); ret = [line(S), say(S)]"), ["220 hello", "served:hi"])
    same(len([l for l in s.trace.find("accepted") if l["tls"] == "none"]), 0)
    same(len(s.trace.find("accepted", peer=WEB)), 5)


@case("a strict program that speaks first is heard only by authenticated callers")
def _():
    s = Server(Mesh(), how="first", MESH_INBOUND="strict")
    with socket.create_connection((IN, s.port)) as c:
        c.settimeout(1)
        try:
            same(c.recv(100), b"")
        except TimeoutError:
            pass
    with socket.create_connection((IN, s.port), timeout=WAIT) as raw, tls(False, "web").wrap_socket(raw) as c:
        same(c.recv(100), b"220 hello\n")


# ---- slow, silent, many ----
@case("probes that connect and close are no refusals; at debug they are traced as such")
def _():
    m = Mesh()
    for mode in ("strict", "permissive"):
        s = Server(m, MESH_INBOUND=mode)
        for _ in range(3):
            socket.create_connection((IN, s.port)).close()
        s.trace.wait("probe")
        same(call(s.at), "served:hi")
        s.trace.none("refused")


for how in ("select", "threads", "prefork", "fork"):
    def silent(how=how):
        s = Server(Mesh(), how=how, MESH_INBOUND="strict")
        idle = [socket.create_connection((IN, s.port)) for _ in range(2)]
        half = socket.create_connection((IN, s.port))
        half.sendall(b"\x16\x03\x01\x02\x00\x01")
        same([call(s.at) for _ in range(3)], ["served:hi"] * 3) if how != "prefork" else None
        if how == "select":
            half.settimeout(WAIT)
            try:
                while half.recv(100):
                    pass
            except ConnectionError:
                pass
            s.trace.wait("refused", why="handshake-timeout")
            before = cpu(s.pid)
            time.sleep(1)
            used = cpu(s.pid) - before
            assert used < 0.5, "%.2f s of CPU in a second with silent callers" % used
            same(call(s.at), "served:hi")
        for x in idle + [half]:
            x.close()
        same(call(s.at), "served:hi")
    case("silent and half-spoken callers do not stop a server that is `%s`%s" % (
        how, "; the half-spoken is dropped in the end and costs nothing" if how == "select" else ""))(silent)


def cpu(pid):
    f = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()
    return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")


@case("an inherited listening socket is protected: the parent without the library listens, the child with it accepts")
def _():
    m = Mesh()
    t, at = m.trace_file(), m.dir / "at"
    e = m.env("reviews", trace=t, MESH_INBOUND="strict")
    e["ACTIVATE_PRELOAD"] = e.pop("LD_PRELOAD")
    p = subprocess.Popen([sys.executable, str(HERE / "serve.py"), "activate", "127.0.0.1:0", str(at)], env=e, stdin=subprocess.DEVNULL)
    opened.append(lambda: (p.kill(), p.wait()))
    where = eventually("it listens", lambda: at.exists() and at.read_text())
    same(call(where, plain=True), "refused")
    same(call(where), "served:hi")
    Trace(t).wait("accepted", peer=WEB)


@case("prefork workers and a child a connection serve mutual TLS, and are counted alive in meshctl status")
def _():
    for how in ("prefork", "fork"):
        m = Mesh()
        s = Server(m, how=how, MESH_INBOUND="strict")
        same([call(s.at) for _ in range(6)], ["served:hi"] * 6)
        same(call(s.at, plain=True), "refused")
        with socket.create_connection((IN, s.port), timeout=WAIT) as raw, tls(False, "web").wrap_socket(raw) as c:
            c.sendall(b"hi\n")
            same(c.recv(100), b"served:hi\n")
            has(json.dumps(m.ctl("-p", str(s.pid), "status", rc=0)), WEB)


@case("IPv6 listeners are protected, and v4-mapped callers of them")
def _():
    s = Server(Mesh(), at="[::]:0", MESH_INBOUND="strict")
    same(call("[::1]:%d" % s.port), "served:hi")
    same(call("127.0.0.1:%d" % s.port), "served:hi")
    same(call("127.0.0.1:%d" % s.port, plain=True), "refused")


# ---- the view's inbound listeners ----
def inbound(port, **chain):
    return resources({"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "inbound", "traffic_direction": "INBOUND",
                      "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                      "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {
                          "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "x", "cluster": "in"}}], **chain}]},
                     cluster("in", "127.0.0.1:%d" % port))


def downstream(require=True, san=None):
    v = {"trusted_ca": {"filename": str(PKI / "ca.pem")}}
    if san:
        v["match_typed_subject_alt_names"] = [{"san_type": "URI", "matcher": {"exact": san}}]
    return {"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", "require_client_certificate": require,
        "common_tls_context": {"validation_context": v}}}


@case("MESH_INBOUND=view: the view's listener says strict, and who may call")
def _():
    with socket.create_server((IN, 0)) as b:
        port = b.getsockname()[1]
    m = Mesh(inbound(port, transport_socket=downstream(san=WEB)))
    s = Server(m, at="%s:%d" % (IN, port), MESH_INBOUND="view")
    same((call(s.at), call(s.at, plain=True), call(s.at, identity="ratings")), ("served:hi", "refused", "refused"))


@case("MESH_INBOUND=view: a port that the view does not have is off")
def _():
    m = Mesh(inbound(1, transport_socket=downstream()))
    same(call(Server(m, MESH_INBOUND="view").at, plain=True), "served:hi")


@case("a server and a client of the mesh: each names the other's SPIFFE ID and the address that was asked for")
def _():
    m = Mesh()
    s = Server(m, MESH_INBOUND="strict")
    m.put(service(s.at, peers=[REVIEWS]))
    c = Client(m)
    same(c.ask(), "served")
    c.trace.wait("connected", peer=REVIEWS)
    s.trace.wait("accepted", peer=WEB)


main()
