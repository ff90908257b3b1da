# SPDX-License-Identifier: Apache-2.0
"""What the scenario tests share. A test file holds functions marked @case and ends with main().

This process is never under the library: it is the mesh's other side, with Python's own ssl. Programs under the library are
Client (an interpreter that does what it is told and says what came of it) and Server (serve.py)."""
import contextlib, json, os, pathlib, shutil, signal, socket, ssl, subprocess, sys, tempfile, threading, time, traceback

HERE = pathlib.Path(__file__).parent
LIB, CTL, PKI = os.environ["LIB"], os.environ["CTL"], pathlib.Path(os.environ["PKI"])
PRELOAD = os.environ.get("PRELOAD", "") + LIB
WAIT = 30 * int(os.environ.get("MESH_SLOW", "1"))
REVIEWS, WEB = "spiffe://shop/ns/prod/sa/reviews", "spiffe://shop/ns/prod/sa/web"
cases, opened = [], []


def case(what):
    def mark(f):
        cases.append((what, f))
        return f
    return mark


def eventually(what, test, wait=WAIT):
    """Waits until test() is true and returns what it gave."""
    end = time.monotonic() + wait
    while True:
        r = test()
        if r:
            return r
        if time.monotonic() > end:
            raise AssertionError("not within %d s: %s" % (wait, what() if callable(what) else what))
        time.sleep(0.05)


class Skip(Exception):
    """What a case needs is not to be had here; the text says what."""


def same(got, want):
    assert got == want, "got %r, not %r" % (got, want)


def has(got, *want):
    for w in want:
        assert w in got, "%r has no %r" % (got, w)


# ---- a mesh of one's own ----
class Mesh:
    """A directory with a view, a run directory and traces."""

    def __init__(self, view=None, **vars):
        self.dir = pathlib.Path(tempfile.mkdtemp(dir=os.environ["RUN"]))
        self.dir.chmod(0o755)
        self.view = self.dir / "view.yaml"
        self.vars = vars
        self.n = 0
        if view is not None:
            self.put(view)

    def put(self, view):
        """Replaces the view file, as one that deploys does: by rename."""
        text = view if isinstance(view, str) else json.dumps(view)
        new = self.dir / "view.new"
        new.write_text(text)
        new.rename(self.view)

    def identity(self, name):
        return {"MESH_CERT": "%s/%s-chain.pem" % (PKI, name), "MESH_KEY": "%s/%s.key" % (PKI, name), "MESH_CA": "%s/ca.pem" % PKI}

    def env(self, identity="web", trace=None, **vars):
        e = {k: v for k, v in os.environ.items() if not k.startswith(("MESH_", "LD_", "GRPC_XDS"))}
        e.update(LD_PRELOAD=PRELOAD, MESH_RUN_DIR=str(self.dir / "run"), PYTHONUNBUFFERED="1")
        if identity:
            e.update(self.identity(identity))
        if self.view.exists():
            e["MESH_VIEW"] = str(self.view)
        if trace:
            e["MESH_TRACE"] = "debug:%s" % trace
        e.update({k: str(v) for k, v in {**self.vars, **vars}.items() if v is not None})
        for k, v in {**self.vars, **vars}.items():
            if v is None:
                e.pop(k, None)
        return e

    def trace_file(self):
        self.n += 1
        f = self.dir / ("trace.%d" % self.n)
        f.touch()
        f.chmod(0o666)
        return f

    def ctl(self, *args, identity="web", rc=None, **vars):
        """meshctl -o json: what it printed, parsed (its text where that is no JSON), with the exit status in .rc."""
        e = self.env(identity, **vars)
        del e["LD_PRELOAD"]
        e["ASAN_OPTIONS"] = "detect_leaks=1"
        p = subprocess.run([CTL, "-o", "json", *args], env=e, capture_output=True, text=True, timeout=WAIT)
        if rc is not None:
            assert p.returncode == rc, "meshctl %s: status %d, not %d: %s%s" % (" ".join(args), p.returncode, rc, p.stdout, p.stderr)
        try:
            return json.loads(p.stdout)
        except ValueError:
            return p.stdout + p.stderr

    def stat(self, at):
        """What meshctl stats says of endpoint `at`."""
        for c in self.ctl("stats")["clusters"]:
            for e in c["endpoints"]:
                if e["address"] == at or e.get("endpoint") == at:
                    return e
        return None


class Trace:
    def __init__(self, file):
        self.file = file

    def lines(self):
        import shlex
        out = []
        for line in pathlib.Path(self.file).read_text(errors="replace").splitlines():
            w = shlex.split(line)
            if len(w) < 3:
                continue
            d = dict(x.split("=", 1) for x in w[3:] if "=" in x)
            d.update(level=w[1], event=w[2], line=line)
            out.append(d)
        return out

    def find(self, event, **fields):
        return [l for l in self.lines() if l["event"] == event and all(str(v) in l.get(k, "") if k == "detail" else l.get(k) == str(v)
                                                                      for k, v in fields.items())]

    def wait(self, event, **fields):
        return eventually(lambda: "%s %s in\n%s" % (event, fields, self.file.read_text()), lambda: self.find(event, **fields))[-1]

    def none(self, event, **fields):
        found = self.find(event, **fields)
        assert not found, "there is " + found[0]["line"]


class Client:
    """A Python under the library that runs what it is sent; see client.py for the words it has."""

    def __init__(self, mesh, identity="web", argv=None, **vars):
        self.trace = Trace(mesh.trace_file())
        self.p = subprocess.Popen(argv or [sys.executable, str(HERE / "client.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                  bufsize=1, env=mesh.env(identity, trace=self.trace.file, **vars))
        self.pid = self.p.pid
        opened.append(self.stop)

    def __call__(self, code):
        self.send(code)
        return self.result()

    def send(self, code):
        self.p.stdin.write(json.dumps(code) + "\n")
        self.p.stdin.flush()

    def result(self):
        line = self.p.stdout.readline()
        assert line, "the client died: %s" % self.p.wait()
        r = json.loads(line)
        if r[0] == "bug":
            raise AssertionError(r[1])
        return r[1]

    def ask(self, name="reviews.shop.mesh", port=9080, text="hi"):
        """Connects, sends a line and gives the answer, or the name of the error."""
        return self("ask(%r, %r, %r)" % (name, port, text))

    def stop(self):
        if self.p.poll() is None:
            self.p.stdin.close()
            try:
                self.p.wait(10)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait()
        self.p.stdout.close()


class Server:
    """serve.py under the library: `at` is where it listens."""

    def __init__(self, mesh, identity="reviews", how="threads", argv=None, at="127.0.0.1:0", **vars):
        self.trace = Trace(mesh.trace_file())
        self.at_file = mesh.dir / ("at.%d" % mesh.n)
        self.p = subprocess.Popen(argv or [sys.executable, str(HERE / "serve.py"), how, at, str(self.at_file)],
                                  env=mesh.env(identity, trace=self.trace.file, **vars), stdin=subprocess.DEVNULL, start_new_session=True)
        self.pid = self.p.pid
        opened.append(self.stop)
        self.at = eventually("the server listens", lambda: self.at_file.exists() and self.at_file.read_text()).strip()
        self.port = int(self.at.rsplit(":", 1)[1])

    def stop(self):
        if self.p.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.p.pid, signal.SIGKILL)
            self.p.wait()


# ---- the other side, in this process ----
def tls(server, identity, ca="ca", version=None):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_REQUIRED
    c.load_verify_locations("%s/%s.pem" % (PKI, ca))
    if identity:
        c.load_cert_chain("%s/%s-chain.pem" % (PKI, identity), "%s/%s.key" % (PKI, identity))
    if not server:
        c.set_alpn_protocols(["istio"])  # what tells a mesh caller from others on a permissive port
    if version:
        c.maximum_version = version
    return c


class Backend:
    """Answers each line with "NAME:line" in mutual TLS. how: tls, plain, silent (accepts and says nothing), late (only after
    .go is set), closed (nobody listens), reset."""

    def __init__(self, name, how="tls", identity="reviews", host="127.0.0.1", ca="ca", port=0, version=None):
        self.name, self.how, self.taken, self.seen, self.socks = name, how, 0, b"", []
        self.go = threading.Event()
        self.ctx = tls(True, identity, ca, version) if how in ("tls", "late") else None
        self.s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.s.bind((host, port))
        self.port = self.s.getsockname()[1]
        self.at = "[%s]:%d" % (host, self.port) if ":" in host else "%s:%d" % (host, self.port)
        opened.append(self.stop)
        if how != "closed":
            self.s.listen(64)
            threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                if self.how == "late":
                    self.go.wait()
                s, _ = self.s.accept()
            except OSError:
                return
            self.taken += 1
            self.socks.append(s)
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        with contextlib.suppress(OSError, ValueError):
            if self.how == "silent":
                while True:
                    d = s.recv(4096)
                    if not d:
                        return
                    self.seen += d
            if self.how == "reset":
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                s.close()
                return
            if self.ctx:
                s = self.ctx.wrap_socket(s, server_side=True)
                self.socks.append(s)
            while True:
                d = s.recv(65536)
                if not d:
                    break
                self.seen += d
                s.sendall(self.name.encode() + b":" + d)
            s.close()

    def stop(self):
        self.go.set()
        with contextlib.suppress(OSError):
            self.s.shutdown(socket.SHUT_RDWR)
        self.s.close()
        for s in self.socks:
            with contextlib.suppress(OSError):
                s.close()


def call(at, identity="web", text=b"hi\n", ca="ca", plain=False, version=None, delay=0, session=None):
    """A caller's one question: the answer, or "refused"."""
    host, port = at.rsplit(":", 1)
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=WAIT) as s:
            if not plain:
                s = tls(False, identity, ca, version).wrap_socket(s)
            s.sendall(text)
            got = b""
            while not got.endswith(b"\n"):
                d = s.recv(4096)
                if not d:
                    break
                got += d
            s.close()
            return got.decode().strip() or "refused"
    except (ConnectionError, ssl.SSLError):
        return "refused"


class Slow:
    """A wire with delay: forwards to `to`, each piece `delay` seconds late, both ways."""

    def __init__(self, to, delay=0.05):
        self.to, self.delay = to, delay
        self.s = socket.create_server(("127.0.0.1", 0))
        self.at = "127.0.0.1:%d" % self.s.getsockname()[1]
        opened.append(self.s.close)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                a, _ = self.s.accept()
            except OSError:
                return
            host, port = self.to.rsplit(":", 1)
            b = socket.create_connection((host, int(port)))
            for x, y in ((a, b), (b, a)):
                threading.Thread(target=self.pump, args=(x, y), daemon=True).start()

    def pump(self, x, y):
        with contextlib.suppress(OSError):
            while True:
                d = x.recv(65536)
                time.sleep(self.delay)
                if not d:
                    y.shutdown(socket.SHUT_WR)
                    return
                y.sendall(d)


def service(*backends, name="reviews.shop.mesh:9080", **more):
    return {"services": {name: {"endpoints": [b if isinstance(b, str) else b.at for b in backends], **more}}}


# ---- Envoy's form ----
def endpoint(at, **more):
    host, port = at.rsplit(":", 1)
    return {"endpoint": {"address": {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}}, **more}


def cluster(name, *ats, load=None, **more):
    c = {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": name, "type": "STATIC", **more}
    if ats:
        c["load_assignment"] = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint(a) for a in ats]}]}
    return c


def upstream_tls(**common):
    return {"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", **common}}


RAW = {"name": "envoy.transport_sockets.raw_buffer", "typed_config": {
    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}


def listener(name, proxy, **more):
    """A listener whose only filter is a tcp_proxy."""
    return {"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": name, "filter_chains": [{"filters": [{
        "name": "envoy.filters.network.tcp_proxy", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "x", **proxy}}]}], **more}


def resources(*r):
    return {"resources": list(r)}


def main():
    wanted, bad = sys.argv[1:], 0
    run = [c for c in cases if not wanted or any(w in c[0] for w in wanted)]
    print("1..%d" % len(run), flush=True)

    def out_of_time(*_):
        raise AssertionError("out of time")
    signal.signal(signal.SIGALRM, out_of_time)
    for what, f in run:
        began = time.monotonic()
        signal.alarm(3 * WAIT)
        try:
            f()
            word, why, skip = "ok", "", ""
        except Skip as e:
            word, why, skip = "ok", "", " # SKIP %s" % e
        except BaseException as e:
            frames = ["%s:%d" % (os.path.basename(t.filename), t.lineno) for t in traceback.extract_tb(e.__traceback__)]
            word, skip, why, bad = "not ok", "", "# %s: %s %s" % (" ".join(frames), type(e).__name__, e), bad + 1
        signal.alarm(0)
        while opened:
            with contextlib.suppress(Exception):
                opened.pop()()
        print("%s - %s" % (word, what) + skip + ("  # %.1f s" % (time.monotonic() - began) if os.environ.get("MESH_TIMES") else ""), flush=True)
        if why:
            print(why.replace("\n", "\n# "), flush=True)
    os._exit(1 if bad else 0)
