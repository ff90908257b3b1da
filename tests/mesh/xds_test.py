# SPDX-License-Identifier: Apache-2.0
"""The view from a control plane: names on demand, who publishes, and what its absence changes (nothing)."""
from adsd import ControlPlane
from kills import kills, publisher
from mesh import *

NAME = "reviews.shop.mesh:9080"


def control(clusters):
    cp = ControlPlane(clusters)
    opened.append(cp.stop)
    return cp


def mesh(cp, **vars):
    return Mesh(GRPC_XDS_BOOTSTRAP_CONFIG=cp.bootstrap, **{"MESH_DOMAINS": "shop.mesh,maybe.mesh?", **vars})


@case("a name is asked for when it is looked up, and its endpoints are followed")
def _():
    one, two = Backend("one"), Backend("two")
    cp = control({NAME: [one.at]})
    m = mesh(cp)
    c = Client(m)
    same(c.ask(), "one")
    cp.put({NAME: [two.at]})
    eventually("the new endpoint is used", lambda: c.ask() == "two")
    assert "www.example.com" not in cp.asked, cp.asked
    same(c("ask('www.example.com')") in ("EAI_NONAME", "EAI_AGAIN", "EAI_FAIL", "EAI_NODATA"), True)
    assert not [n for n in cp.asked if "example" in n], cp.asked


@case("a name that it is silent about is EAI_AGAIN in time; where the domain says ? libc is asked")
def _():
    cp = control({})
    c = Client(mesh(cp, MESH_RESOLVE_TIMEOUT="300ms"))
    same(c("ask('nobody.shop.mesh', 80)"), "EAI_AGAIN")
    l = c.trace.wait("refused", why="no-answer")
    same(l["name"], "nobody.shop.mesh")
    same(c("ask('nobody.maybe.mesh', 80)") != "ok", True)
    c.trace.none("refused", name="nobody.maybe.mesh")


@case("a look-up without a port answers, and connect asks for the port")
def _():
    one = Backend("one")
    cp = control({NAME: [one.at]})
    c = Client(mesh(cp))
    same(c("A = socket.getaddrinfo('reviews.shop.mesh', None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]; S = socket.create_connection((A, 9080)); ret = say(S)"),
         "one:hi")
    same(c("S = socket.socket(); ret = S.connect((A, 9081))"), "ECONNREFUSED")


@case("one process of several holds the only stream; when it is killed another takes over, and no look-up fails")
def _():
    one, two = Backend("one"), Backend("two")
    cp = control({NAME: [one.at]})
    m = mesh(cp)
    cs = [Client(m) for _ in range(3)]
    for c in cs:
        same(c.ask(), "one")
    same(len(cp.streams), 1)
    for _ in range(2):
        pid = publisher(m)
        dead = next(c for c in cs if c.pid == pid)
        os.kill(pid, signal.SIGKILL)
        cs.remove(dead)
        for c in cs:
            same(c.ask(), "one")
        eventually("another publishes", lambda: [c.ask() for c in cs] and publisher(m) not in (0, pid))
    eventually("it has a stream", lambda: len(cp.streams) == 1)
    cp.put({NAME: [two.at]})
    eventually("and hears of changes", lambda: cs[0].ask() == "two")


@case("one that is stopped is replaced, and steps back when it goes on")
def _():
    one, two = Backend("one"), Backend("two")
    cp = control({NAME: [one.at]})
    m = mesh(cp)
    a, b = Client(m), Client(m)
    same(a.ask(), "one")
    same(b.ask(), "one")
    same(publisher(m), a.pid)
    os.kill(a.pid, signal.SIGSTOP)
    eventually("the other publishes", lambda: b.ask() == "one" and publisher(m) == b.pid)
    cp.put({NAME: [two.at]})
    eventually("and hears of changes", lambda: b.ask() == "two")
    os.kill(a.pid, signal.SIGCONT)
    eventually("one stream is left", lambda: len(cp.streams) == 1)
    same(publisher(m), b.pid)
    same(a.ask(), "two")


@case("the publisher execs: another program of the container takes over")
def _():
    one, two = Backend("one"), Backend("two")
    cp = control({NAME: [one.at]})
    m = mesh(cp)
    a, b = Client(m), Client(m)
    same(a.ask(), "one")
    same(publisher(m), a.pid)
    a.send("os.execv('/bin/sleep', ['sleep', '60'])")
    eventually("the other publishes", lambda: b.ask() == "one" and publisher(m) == b.pid)
    cp.put({NAME: [two.at]})
    eventually("and hears of changes", lambda: b.ask() == "two")
    a.p.kill()
    a.p.wait()


@case("a child of fork has no thread and no descriptor of it, and publishes when the parent is gone")
def _():
    one = Backend("one")
    cp = control({NAME: [one.at]})
    m = mesh(cp)
    c = Client(m)
    same(c.ask(), "one")
    r, w = os.pipe()
    seen = c("R, W = os.pipe(); P = os.fork()\n"
             "if P == 0:\n    n = len(os.listdir('/proc/self/task')); fds = [os.readlink('/proc/self/fd/' + f) for f in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + f)]\n"
             "    os.write(W, json.dumps([n, fds, ask()]).encode()); os._exit(0)\n"
             "os.waitpid(P, 0); ret = json.loads(os.read(R, 65536))")
    same(seen[0], 1)
    assert not [f for f in seen[1] if "socket" in f], seen
    same(seen[2], "one")
    os.close(r), os.close(w)


@case("without a mesh name there is no thread and no descriptor; the publisher's are nobody else's")
def _():
    one = Backend("one")
    cp = control({NAME: [one.at]})
    m = mesh(cp)
    c = Client(m)
    look = "[len(os.listdir('/proc/self/task')), sorted(os.readlink('/proc/self/fd/' + f) for f in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + f))]"
    before = c(look)
    same(before[0], 1)
    same(cp.opened, 0)
    c("socket.getaddrinfo('127.0.0.1', 80)")
    same(c(look), before)
    same(c("ret = socket.getaddrinfo('reviews.shop.mesh', 9080)[0][4][1]"), 9080)
    after = c(look)
    same(after[0], 2)
    same([f for f in after[1] if "socket" in f], [])
    c("os.closerange(3, 4096)")
    two = Backend("two")
    cp.put({NAME: [two.at]})
    eventually("close loops do not reach the stream", lambda: c.ask() == "two")


@case("the control plane is killed, refuses, is silent, talks rubbish: what is known goes on, and it is heard again afterwards")
def _():
    one, two = Backend("one"), Backend("two")
    cp = control({NAME: [one.at]})
    m = mesh(cp, MESH_RESOLVE_TIMEOUT="300ms")
    c = Client(m)
    same(c.ask(), "one")
    c("S = conn()")
    cp.stop()
    for how in "refuse", "rubbish", "silent":
        same(c.ask(), "one")
        cp.how = how
        cp.start()
        for _ in range(5):
            same(c.ask(), "one")
            time.sleep(0.1)
        cp.stop()
    same(c("ask('new.shop.mesh', 80)"), "EAI_AGAIN")
    same(c("say(S)"), "one:hi")
    cp.how = "serve"
    cp.start()
    cp.put({NAME: [two.at]})
    eventually("it is heard again", lambda: c.ask() == "two", wait=2 * WAIT)


@case("the control plane's certificate is somebody else's for a while: it is not spoken to, what is known goes on, nothing is left over")
def _():
    def shown(who):
        x = tls(True, who)
        x.verify_mode = ssl.CERT_NONE
        x.set_alpn_protocols(["h2"])
        return x
    one, two = Backend("one"), Backend("two")
    cp = ControlPlane({NAME: [one.at]}, tls=shown("reviews-dns"))
    opened.append(cp.stop)
    text = json.loads(cp.bootstrap)
    text["xds_servers"][0]["channel_creds"] = [{"type": "tls", "config": {"ca_certificate_file": "%s/ca.pem" % PKI}}]
    c = Client(Mesh(GRPC_XDS_BOOTSTRAP_CONFIG=json.dumps(text), MESH_DOMAINS="shop.mesh"))
    same(c.ask(), "one")
    held = "[len(os.listdir('/proc/self/task')), len(os.listdir('/proc/self/fd'))]"
    before = c(held)
    for who in "foreign", "web":
        cp.stop()
        cp.tls, n = shown(who), cp.opened
        cp.start()
        cp.put({NAME: [two.at]})
        for _ in range(20):
            same(c.ask(), "one")
            time.sleep(0.1)
        same(cp.opened, n)
    cp.stop()
    cp.tls = shown("reviews-dns")
    cp.start()
    eventually("it is heard again", lambda: c.ask() == "two", wait=2 * WAIT)
    eventually("nothing is left over", lambda: c(held) == before)


@case("a server that says nothing of a name for 15 s has denied it: EAI_NONAME, then at once")
def _():
    c = Client(mesh(control({}), MESH_RESOLVE_TIMEOUT="60s"))
    same(c("ask('nobody.shop.mesh', 80)"), "EAI_NONAME")
    same(c("ask('nobody.shop.mesh', 80)"), "EAI_NONAME")
    same(c.trace.wait("refused", why="denied")["name"], "nobody.shop.mesh")


@case("a program that starts while there is no control plane uses the view on disk, unless it is too old")
def _():
    one = Backend("one")
    cp = control({NAME: [one.at]})
    m = mesh(cp)
    c = Client(m)
    same(c.ask(), "one")
    eventually("it is confirmed", lambda: m.ctl("view")["confirmed"])
    c.stop()
    cp.stop()
    same(Client(m).ask(), "one")
    time.sleep(2)
    same(Client(m, MESH_VIEW_MAX_AGE="1s", MESH_RESOLVE_TIMEOUT="200ms").ask(), "EAI_AGAIN")
    same(Client(m, MESH_VIEW_MAX_AGE="1h").ask(), "one")


@case("a short-lived program with a fresh view opens no stream; a name that it lacks is asked for at once")
def _():
    one = Backend("one")
    cp = control({NAME: [one.at], "other.shop.mesh:80": [one.at]})
    m = mesh(cp)
    c = Client(m)
    same(c.ask(), "one")
    eventually("it is confirmed", lambda: m.ctl("view")["confirmed"])
    c.stop()
    n = cp.opened
    for _ in range(5):
        s = Client(m)
        same(s.ask(), "one")
        s.stop()
    same(cp.opened, n)
    s = Client(m)
    same(s("ask('other.shop.mesh', 80)"), "one")
    same(cp.opened, n + 1)


@case("seed and file: the seed serves until the control plane has answered, the file's names win")
def _():
    one, two, three = Backend("one"), Backend("two"), Backend("three")
    cp = control({NAME: [two.at]})
    cp.stop()
    m = mesh(cp)
    seed = m.dir / "seed.yaml"
    seed.write_text(json.dumps(service(one)))
    m.put(service(three, name="file.shop.mesh:80"))
    c = Client(m, MESH_VIEW_SEED=seed)
    same(c.ask(), "one")
    same(c("ask('file.shop.mesh', 80)"), "three")
    cp.start()
    eventually("the control plane's", lambda: c.ask() == "two", wait=2 * WAIT)
    same(c("ask('file.shop.mesh', 80)"), "three")


@case("a wrong bootstrap is named, names of the mesh are refused at once, the rest goes on")
def _():
    m = Mesh(GRPC_XDS_BOOTSTRAP_CONFIG='{"xds_servers": 7}', MESH_DOMAINS="shop.mesh")
    c = Client(m)
    same(c.ask(), "EAI_AGAIN")
    has(c.trace.wait("view", state="attached")["detail"], "xds_servers")
    same(c("socket.getaddrinfo('localhost', 80)[0][4][1]"), 80)
    r = m.ctl("check", rc=1)
    has(json.dumps(r), "xds_servers")


@case("MESH_INBOUND=view: nobody is served until the control plane has said who may be")
def _():
    cp = control({})
    b = json.loads(cp.bootstrap)
    m = Mesh(GRPC_XDS_BOOTSTRAP_CONFIG=json.dumps(b), MESH_DOMAINS="shop.mesh", MESH_INBOUND="view")
    s = Server(m)
    has(s.trace.wait("config", variable="MESH_INBOUND")["detail"], "server_listener_resource_name_template")
    same(call(s.at, plain=True), "refused")
    has(call(s.at), "hi")  # what cannot be asked for is strict
    b["server_listener_resource_name_template"] = "server/%s"
    m = Mesh(GRPC_XDS_BOOTSTRAP_CONFIG=json.dumps(b), MESH_DOMAINS="shop.mesh", MESH_INBOUND="view")
    s = Server(m)
    eventually("it is asked for", lambda: "server/" + s.at in cp.asked)
    answers = [threading.Thread(target=lambda p=p: got.append(call(s.at, plain=p))) for p in (True, False)]
    got = []
    for t in answers:
        t.start()
    for t in answers:
        t.join()
    same(got, ["refused", "refused"])
    has(s.trace.wait("refused", why="inbound")["detail"], "has not said who may call port")
    m = Mesh(GRPC_XDS_BOOTSTRAP_CONFIG='{"xds_servers": 7}', MESH_INBOUND="view")
    same(call(Server(m).at, plain=True), "refused")


@case("MESH_INBOUND=view: who calls before the control plane has answered is served once it has")
def _():
    cp = control({})
    b = json.loads(cp.bootstrap)
    b["node"]["id"] = "sidecar~10.0.0.1~app.shop~shop.svc.cluster.local"  # everything is subscribed to
    cp.stop()
    s = Server(Mesh(GRPC_XDS_BOOTSTRAP_CONFIG=json.dumps(b), MESH_INBOUND="view"))
    got = []
    t = threading.Thread(target=lambda: got.append(call(s.at, plain=True)))
    t.start()
    time.sleep(0.5)
    same(got, [])
    cp.start()
    t.join()
    has(got[0], "hi")  # it says nothing of this port


@case("meshctl agent publishes in the programs' place until it is told to end")
def _():
    one, two = Backend("one"), Backend("two")
    cp = control({NAME: [one.at]})
    m = mesh(cp)
    c = Client(m)
    same(c.ask(), "one")
    e = m.env()
    del e["LD_PRELOAD"]
    a = subprocess.Popen([CTL, "agent"], env=e)
    opened.append(lambda: (a.kill(), a.wait()))
    eventually("the agent publishes", lambda: c.ask() == "one" and publisher(m) == a.pid)
    same(m.ctl("status")["publisher"]["agent"], True)
    eventually("one stream is left", lambda: len(cp.streams) == 1)
    cp.put({NAME: [two.at]})
    eventually("and hears of changes", lambda: c.ask() == "two")
    a.terminate()
    same(a.wait(WAIT), 0)
    eventually("a program publishes again", lambda: c.ask() == "two" and publisher(m) == c.pid)


@case("status, csds, check: server, state, counts, each resource's version and status")
def _():
    one = Backend("one")
    cp = control({NAME: [one.at]})
    m = mesh(cp)
    c = Client(m)
    same(c.ask(), "one")
    s = eventually("it is reported", lambda: (lambda r: r["publisher"].get("servers") and r["publisher"]["servers"][0]["state"] == "up" and
                                              r["publisher"])(m.ctl("status")))
    same(s["pid"], c.pid)
    same(s["servers"][0]["uri"], "127.0.0.1:%d" % cp.port)
    same(s["servers"][0]["nacks"], 0)
    assert s["servers"][0]["acks"] >= 2, s
    acked = eventually("endpoints are reported", lambda: {r["type_url"].rsplit(".", 1)[1]: r for r in m.ctl("csds")["generic_xds_configs"]
                                                          if r["client_status"] == "ACKED" and r["name"] == NAME})
    same(sorted(acked), ["Cluster", "ClusterLoadAssignment"])
    same(acked["Cluster"]["version_info"], "1")
    same(acked["ClusterLoadAssignment"]["xds_config"]["cluster_name"], NAME)
    same(m.ctl("csds")["node"]["id"], "test")
    has(json.dumps(m.ctl("check")), "has a stream open")


@case("the publisher is killed at any moment, KILLS times (50): no look-up of a known name fails, and changes are heard of")
def _():
    one, two = Backend("one"), Backend("two")
    cp = control({NAME: [one.at]})
    m = mesh(cp)
    c = kills(m, int(os.environ.get("KILLS", "50")), lambda i: cp.put({NAME: [(one, two)[i % 2].at], "n%d.shop.mesh:80" % i: [one.at]}))
    cp.put({NAME: [two.at]})
    eventually("the last change", lambda: c.ask() == "two")


@case("host names: a static file's endpoints are looked up, by a thread that is there only then")
def _():
    one = Backend("one")
    m = Mesh({"services": {NAME: {"endpoints": ["localhost:%d" % one.port]}}})
    c = Client(m)
    same(c.ask(), "one")
    same(c("len(os.listdir('/proc/self/task'))"), 2)
    m.put(service(one))
    c = Client(Mesh(service(one)))
    same(c.ask(), "one")
    same(c("len(os.listdir('/proc/self/task'))"), 1)


@case("a changed user never publishes: the thread is gone, another process takes over")
def _():
    one = Backend("one")
    cp = control({NAME: [one.at]})
    m = mesh(cp)
    c, d = Client(m), Client(m)
    same(c.ask(), "one")
    same(d.ask(), "one")
    same(publisher(m), c.pid)
    c("os.setuid(12345)")
    same(c("len(os.listdir('/proc/self/task'))"), 1)
    eventually("another publishes", lambda: d.ask() == "one" and publisher(m) == d.pid)
    same(c.ask(), "one")
    same(c("len(os.listdir('/proc/self/task'))"), 1)


@case("the run directory is removed, or becomes another's, while it is used: what runs goes on, and hears of changes")
def _():
    one, two = Backend("one"), Backend("two")
    cp = control({NAME: [one.at]})
    for how in "removed", "another's":
        cp.put({NAME: [one.at]})
        m = mesh(cp)
        c = Client(m)
        same(c.ask(), "one")
        if how == "removed":
            shutil.rmtree(m.dir / "run")
        else:
            os.chown(m.dir / "run", 12345, 12345)
        cp.put({NAME: [two.at]})
        eventually("the new endpoint is used", lambda: c.ask() == "two")
        same(Client(m).ask(), "two")


@case("a full disk: what is known goes on, a view that no longer fits is said, and taken when there is room")
def _():
    one, two = Backend("one"), Backend("two")
    cp = control({NAME: [one.at]})
    m = mesh(cp, MESH_RESOLVE_TIMEOUT="300ms")
    (m.dir / "run").mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "none", str(m.dir / "run")], check=True)
    opened.append(lambda: subprocess.run(["umount", "-l", str(m.dir / "run")]))
    c = Client(m)
    same(c.ask(), "one")
    filler = m.dir / "run" / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as f:
        while True:
            f.write(b"x" * 4096)
    many = {"n%d.shop.mesh:80" % i: ["127.0.0.%d:%d" % (j % 250 + 1, j // 250 + 1) for j in range(900)] for i in range(6)}
    cp.put({NAME: [one.at], **many})
    for n in many:
        c("ask(%r, 80)" % n.split(":")[0])
        same(c.ask(), "one")
    eventually("it is said", lambda: c.ask() == "one" and m.ctl("view")["error"])
    filler.unlink()
    cp.put({NAME: [two.at], **many})
    eventually("there is room again", lambda: c.ask() == "two")


main()
