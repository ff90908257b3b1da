# SPDX-License-Identifier: Apache-2.0
"""What happens to a control plane, to its publisher and to the run directory changes nothing for programs that know their
names: no look-up fails, nobody crashes, no thread and no descriptor is left over, and the next change is heard of."""
import base64

from world import *
from kills import kills, publisher  # noqa: E402


def mesh(address, features=(), **vars):
    return Mesh(GRPC_XDS_BOOTSTRAP_CONFIG=bootstrap(address, node=NODE, features=features, creds=vars.pop("creds", None)),
                MESH_DOMAINS="shop.mesh", MESH_TLS="view", MESH_RESOLVE_TIMEOUT="2s", **vars)


def world_of(*backends):
    return [api_listener(), route("a"), *clusters(a=backends)]


ASKER = """
WRONG, STOP, DONE = [], threading.Event(), []
def asker():
    while not STOP.is_set():
        try:
            ask()
            DONE.append(1)
        except BaseException as e:
            WRONG.append(repr(e))
        time.sleep(0.005)
    return
T = threading.Thread(target=asker); T.start()
"""
HELD = "[len(os.listdir('/proc/self/task')), len(os.listdir('/proc/self/fd'))]"


class Watched:
    """Two programs that look the name up and connect all the time."""

    def __init__(self, m, **vars):
        self.m = m
        self.clients = [Client(m, identity=None, **vars) for _ in range(2)]
        for c in self.clients:
            eventually("there is a first answer", lambda c=c: c.ask() in ("one", "two"))
        self.held = {c.pid: c(HELD) for c in self.clients}
        for c in self.clients:
            c(ASKER)

    def lookups(self):
        return [c("len(DONE)") for c in self.clients]

    def goes_on(self):
        """A good many look-ups later."""
        want = [n + 20 for n in self.lookups()]
        eventually("look-ups go on", lambda: all(n >= w for n, w in zip(self.lookups(), want)))

    def heard(self, name):
        eventually("the change is heard of", lambda: {c.ask() for c in self.clients} == {name}, wait=4 * WAIT)

    def done(self):
        for c in self.clients:
            same(c("STOP.set(); T.join(); ret = WRONG[:5]"), [])
        # The publisher has one thread; whose it is may have changed.
        spare = sum(h[0] for h in self.held.values()) + 1
        eventually("no thread is left over", lambda: sum(c(HELD)[0] for c in self.clients) <= spare)
        for c in self.clients:
            eventually(lambda: "no descriptor is left over: %s, at first %s" % (c(HELD), self.held[c.pid]), lambda: c(HELD)[1] <= self.held[c.pid][1])
        same([c.p.poll() for c in self.clients], [None] * len(self.clients))


def hurt(delta):
    one, two = Plain("one"), Plain("two")
    cp = server(ScriptedServer)
    cp.set(world_of(one))
    w = Watched(mesh(cp.address, features=["delta"] if delta else []))
    which = [two, one]

    def change():
        cp.put(load("a", which[0]))
        w.heard(which[0].name)
        which.reverse()
    garbage = base64.b64encode(bytes(range(256)) * 4).decode()
    for what in ({"mode": "garbage", "raw": garbage}, {"mode": "stall"}, {"mode": "trickle", "bytes": 1, "every": 5}, {"mode": "refuse"}):
        cp.do("wire", **what)
        w.goes_on()
        if what["mode"] in ("stall", "refuse"):
            cp.do("cut")
            w.goes_on()
        cp.do("wire", mode="pass")
        change()
    for do in (("cut",), ("goaway",), ("stop", "start")):
        for op in do:
            cp.do(op)
            w.goes_on()
        change()
    cp.do("end", code=8, message="too much")
    w.goes_on()
    change()
    # What is no message at all, what holds rubbish, what nobody asked for, what has no names
    cp.do("auto", on=False)
    for raw in ("AAAAAA==", "/////w==", base64.b64encode(os.urandom(300)).decode()):
        cp.do("send", raw=raw)
        w.goes_on()
    bad = {"@type": EDS, "cluster_name": "a", "endpoints": [{"lb_endpoints": [endpoint("256.1.1.1:70000"[:9] + ":1")]}]}
    if not delta:
        cp.do("send", response={"type_url": EDS, "version_info": "x", "resources": [bad]})
        cp.do("send", response={"type_url": CDS, "version_info": "x", "resources": []})
        cp.do("send", response={"type_url": LDS, "version_info": "x", "resources": []})
        cp.do("send", response={"type_url": "type.googleapis.com/no.such.Type", "version_info": "1", "resources": []})
    else:
        for url, name in ((LDS, AT), (CDS, "a"), (EDS, "a")):
            cp.do("send", delta=True, response={"type_url": url, "removed_resources": [name]})
    w.goes_on()
    cp.do("auto", on=True)
    cp.do("cut")
    change()
    w.done()


for delta in False, True:
    case("%s: garbage, stalls, trickles, resets, GOAWAY, ends, broken messages, deletions" %
         ("incremental" if delta else "state of the world"))(lambda delta=delta: hurt(delta))


@case("the control plane comes back with a certificate of somebody else, and then with its own")
def _():
    one, two = Plain("one"), Plain("two")
    good = {"cert": f"{PKI}/reviews-dns-chain.pem", "key": f"{PKI}/reviews-dns.key"}
    cp = server(**good)
    cp.set(world_of(one))
    w = Watched(mesh(cp.address, creds={"type": "tls", "config": {"ca_certificate_file": f"{PKI}/ca.pem"}}))
    for wrong in ("foreign", "web", "stranger"):
        cp.__exit__()
        other = server(listen=cp.address, cert=f"{PKI}/{wrong}-chain.pem", key=f"{PKI}/{wrong}.key")
        other.set(world_of(two))
        w.goes_on()
        w.goes_on()
        same(other.find("open"), [])
        same({c.ask() for c in w.clients}, {"one"})
        other.__exit__()
        cp = server(listen=cp.address, **good)
    cp.set(world_of(two))
    w.heard("two")
    w.done()


@case("the publisher is stopped, again and again: another takes over, and one stream is left")
def _():
    one, two = Plain("one"), Plain("two")
    cp = server()
    cp.set(world_of(one))
    m = mesh(cp.address)
    cs = [Client(m, identity=None) for _ in range(3)]
    same([c.ask() for c in cs], ["one"] * 3)
    for i in range(5):
        pid = eventually("somebody publishes", lambda: publisher(m))
        os.kill(pid, signal.SIGSTOP)
        rest = [c for c in cs if c.pid != pid]
        same([c.ask() in ("one", "two") for c in rest], [True] * 2)
        eventually("another publishes", lambda: [c.ask() for c in rest] and publisher(m) not in (0, pid))
        now = (two, one)[i % 2]
        cp.put(load("a", now))
        eventually("and hears of changes", lambda: {c.ask() for c in rest} == {now.name})
        os.kill(pid, signal.SIGCONT)
        eventually("all know it", lambda: {c.ask() for c in cs} == {now.name})
    eventually("one stream is left", lambda: len(cp.find("open")) - len(cp.find("close")) == 1)
    same(sorted(c("len(os.listdir('/proc/self/task'))") for c in cs), [1, 1, 2])


for cache, delta in (("snapshot", False), ("linear", True)):
    def killed(cache=cache, delta=delta):
        one, two = Plain("one"), Plain("two")
        cp = server(cache=cache)
        cp.set(world_of(one))
        c = kills(mesh(cp.address, features=["delta"] if delta else []), int(os.environ.get("KILLS", "1000")) // 2,
                  lambda i: cp.put(load("a", (one, two)[i % 2]), *clusters(**{"n%d.shop.mesh:80" % i: [one]})))
        cp.put(load("a", two))
        eventually("the last change", lambda: c.ask() == "two")
    case("the publisher is killed at random moments, %s times: no look-up of a known name fails (%s)" % (
        int(os.environ.get("KILLS", "1000")) // 2, "incremental" if delta else "state of the world"))(killed)


@case("the run directory is removed, is another's, is on a full disk: what runs goes on and hears of changes")
def _():
    one, two = Plain("one"), Plain("two")
    for how in "removed", "another's", "full":
        cp = server()
        cp.set(world_of(one))
        m = mesh(cp.address)
        run = m.dir / "run"
        run.mkdir(mode=0o700)
        if how == "full":
            if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "none", str(run)], check=False).returncode:
                continue
            opened.append(lambda run=run: subprocess.run(["umount", "-l", str(run)]))
        w = Watched(m)
        if how == "removed":
            shutil.rmtree(run)
        elif how == "another's":
            os.chown(run, 12345, 12345)
        else:
            with contextlib.suppress(OSError), open(run / "filler", "wb", buffering=0) as f:
                while True:
                    f.write(b"x" * 4096)
        w.goes_on()
        cp.put(load("a", two))
        w.heard("two")
        same(Client(m, identity=None).ask(), "two")
        w.done()


main()
