# SPDX-License-Identifier: Apache-2.0
"""Identity: files that are replaced while they are used, roots that change, sessions that are resumed."""
from mesh import *


class Files:
    """An identity of one's own files, replaced as a rotation does."""

    def __init__(self, m, name="web", ca="ca"):
        self.dir = m.dir / ("id.%s.%d" % (name, m.n))
        self.dir.mkdir()
        self.put(name, ca)
        self.env = {"MESH_CERT": self.dir / "chain.pem", "MESH_KEY": self.dir / "key.pem", "MESH_CA": self.dir / "ca.pem"}

    def put(self, cert=None, ca=None, key=None):
        if cert:
            self.one("chain.pem", (PKI / (cert + "-chain.pem")).read_text())
            self.one("key.pem", (PKI / ((key or cert) + ".key")).read_text())
        if ca:
            self.one("ca.pem", (PKI / (ca + ".pem")).read_text())

    def one(self, name, text):
        (self.dir / "new").write_text(text)
        (self.dir / "new").rename(self.dir / name)


def serial(at, identity="web"):
    """The certificate that a server shows, by openssl s_client."""
    p = subprocess.run(["openssl", "s_client", "-connect", at, "-cert", PKI / (identity + ".pem"), "-key", PKI / (identity + ".key")],
                       input="", capture_output=True, text=True, timeout=WAIT)
    q = subprocess.run(["openssl", "x509", "-noout", "-serial"], input=p.stdout, capture_output=True, text=True)
    return q.stdout.strip()


def serial_of(name):
    return subprocess.run(["openssl", "x509", "-noout", "-serial", "-in", PKI / (name + ".pem")], capture_output=True, text=True).stdout.strip()


@case("a server's new certificate is shown to new callers while old connections live on")
def _():
    m = Mesh()
    f = Files(m, "reviews")
    s = Server(m, MESH_INBOUND="strict", **f.env)
    same(serial(s.at), serial_of("reviews"))
    with socket.create_connection(("127.0.0.1", s.port), timeout=WAIT) as raw, tls(False, "web").wrap_socket(raw) as old:
        old.sendall(b"a\n")
        same(old.recv(100), b"served:a\n")
        f.put("reviews-rsa")
        eventually("the new certificate is shown", lambda: serial(s.at) == serial_of("reviews-rsa"))
        old.sendall(b"b\n")
        same(old.recv(100), b"served:b\n")
    assert len(s.trace.find("config", identity="loaded")) >= 2


@case("a client's new certificate is shown on new connections while old ones live on")
def _():
    one = Backend("one")
    shown = []
    m = Mesh(service(one))
    f = Files(m, "web")
    c = Client(m, **f.env)
    c("OLD = conn()")
    same(c("say(OLD)"), "one:hi")
    f.put("stranger")
    one.ctx.set_ciphers("DEFAULT")
    c.trace.wait("config", identity="loaded", id=WEB)
    eventually("the new identity is loaded", lambda: (c.ask(), c.trace.find("config", identity="loaded", id="spiffe://shop/ns/prod/sa/stranger"))[1])
    same(c("say(OLD, 'still')"), "one:still")
    same(c.ask(), "one")
    mine = [s.getpeercert()["subjectAltName"][0][1] for s in one.socks if isinstance(s, ssl.SSLSocket) and s.fileno() >= 0]
    has(mine, WEB)


for bad, what, detail in (("key", "a key that does not fit", ""), ("expired", "an expired certificate", ""), ("junk", "an unreadable certificate", ""), ("gone", "a file that is gone", "")):
    def kept(bad=bad):
        m = Mesh()
        f = Files(m, "reviews")
        s = Server(m, MESH_INBOUND="strict", **f.env)
        same(serial(s.at), serial_of("reviews"))
        if bad == "key":
            f.put("reviews-rsa", key="reviews-new")
        elif bad == "expired":
            f.put("expired")
        elif bad == "junk":
            f.one("chain.pem", "no certificate\n")
        else:
            (f.dir / "chain.pem").unlink()
        eventually("the trace says so", lambda: (call(s.at), s.trace.find("config", identity="kept"))[1])
        for _ in range(3):
            time.sleep(0.6)
            same(call(s.at), "served:hi")
        same(serial(s.at), serial_of("reviews"))
        same(len(s.trace.find("config", identity="kept")), 1)
        assert s.trace.find("config", identity="kept")[0]["detail"]
        f.put("reviews-rsa")
        eventually("a good one is taken after all", lambda: serial(s.at) == serial_of("reviews-rsa"))
    case("%s keeps the old identity, with one trace line; a good one is taken after it" % what)(kept)


@case("files that were never good keep nothing: identity=none, and the connection is refused")
def _():
    c = Client(Mesh(service(Backend("one"))), MESH_CERT="/nonexistent/chain.pem")
    same(c.ask(), "EACCES")
    has(c.trace.wait("config", identity="none")["detail"], "/nonexistent/chain.pem")
    c.trace.none("config", identity="kept")


@case("a root is rotated: both roots, then new leaves, then the new root alone; no connect fails")
def _():
    m = Mesh()
    fs, fc = Files(m, "reviews"), Files(m, "web")
    s = Server(m, MESH_INBOUND="strict", **fs.env)
    m.put(service(s.at))
    c = Client(m, **fc.env)
    same(c.ask(), "served")

    def settle(f, t):
        n = len(t.find("config", identity="loaded"))
        return lambda: eventually("it is loaded", lambda: (same(c.ask(), "served"), len(t.find("config", identity="loaded")) > n)[1])
    for step in (dict(ca="bundle"), dict(new=True), dict(ca="ca2")):
        for f, t, leaf in ((fs, s.trace, "reviews-new"), (fc, c.trace, "web-new")):
            done = settle(f, t)
            f.put(leaf if "new" in step else None, step.get("ca"))
            done()
    same(call(s.at, identity="web"), "refused")
    same(call(s.at, identity="web-new", ca="ca2"), "served:hi")


@case("connections to one server resume, and the trace says so")
def _():
    m = Mesh()
    s = Server(m, MESH_INBOUND="strict")
    m.put(service(s.at, peers=[REVIEWS]))
    c = Client(m)
    same(c.ask(), "served")
    c.trace.wait("connected", resumed="no")
    eventually("a connection is resumed", lambda: (same(c.ask(), "served"), c.trace.find("connected", resumed="yes"))[1])
    s.trace.wait("accepted", resumed="yes", peer=WEB)


@case("a session is not resumed past a change of the accepted peers")
def _():
    m = Mesh()
    s = Server(m, MESH_INBOUND="strict")
    m.put(service(s.at, peers=[REVIEWS]))
    c = Client(m, MESH_PATIENCE="20s")
    eventually("a connection is resumed", lambda: (same(c.ask(), "served"), c.trace.find("connected", resumed="yes"))[1])
    m.put(service(s.at, peers=["spiffe://shop/ns/prod/sa/ratings"]))
    eventually("the peer is refused", lambda: c.ask() == "EACCES")
    c.trace.wait("refused", why="peer")


@case("a session is not resumed past a change of our own roots, on either side")
def _():
    m = Mesh()
    fs, fc = Files(m, "reviews"), Files(m, "web")
    s = Server(m, MESH_INBOUND="strict", **fs.env)
    m.put(service(s.at, peers=[REVIEWS]))
    c = Client(m, MESH_PATIENCE="20s", **fc.env)
    eventually("a connection is resumed", lambda: (same(c.ask(), "served"), c.trace.find("connected", resumed="yes"))[1])
    fs.put(ca="ca2")
    eventually("the server's new roots refuse us", lambda: c.ask() in ("EACCES", "ECONNRESET", "EPIPE"))
    fs.put(ca="ca")
    eventually("and take us back", lambda: c.ask() == "served")
    fc.put(ca="ca2")
    eventually("our new roots refuse the server", lambda: c.ask() == "EACCES")


@case("a wrong value of MESH_KEY refuses mesh connections; the program starts")
def _():
    one = Backend("one")
    m = Mesh(service(one), MESH_PATIENCE="20s")
    for value in ("", "/nonexistent", str(PKI / "ratings.key")):
        c = Client(m, MESH_KEY=value)
        same((value, c.ask()), (value, "EACCES"))
        c.trace.wait("refused", why="identity")
    same(one.seen, b"")


main()
