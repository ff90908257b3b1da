# SPDX-License-Identifier: Apache-2.0
"""Names on demand: asked for, denied, not answered; whom it holds up (nobody else), and how many streams programs open (few)."""
from world import *


def mesh(address, domains="shop.mesh,maybe.mesh?", features=(), **vars):
    return Mesh(GRPC_XDS_BOOTSTRAP_CONFIG=bootstrap(address, node=NODE, features=features), MESH_DOMAINS=domains, MESH_TLS="view", **vars)


def hosts(*lines):
    """Names that libc knows; /etc/hosts is the test's own in its namespace."""
    if os.environ.get("IN_NETNS") != "1":
        return False
    with open("/etc/hosts", "a") as f:
        f.writelines(line + "\n" for line in lines)
    return True


def bare(name, backend):
    """A name that is a cluster alone."""
    return clusters(**{name: [backend]})


@case("a name is asked for when it is looked up, by every name that may lead there; no other name is told to the control plane")
def _():
    one = Plain("one")
    cp = server()
    cp.set(bare(AT, one))
    c = Client(mesh(cp.address), identity=None)
    same(c("ask('www.example.com', 80)") in ("EAI_NONAME", "EAI_AGAIN", "EAI_FAIL", "EAI_NODATA"), True)
    same(cp.find("open"), [])
    same(c.ask(), "one")
    asked = {n for e in cp.find("request") for n in e["names"]}
    has(asked, AT)
    assert not [n for n in asked if NAME not in n], asked


@case("denied: EAI_NONAME, at once and remembered; libc where the domain says so")
def _():
    one = Plain("one")
    cp = server(ScriptedServer)
    cp.set([api_listener(), route("a"), *clusters(a=[one])])
    c = Client(mesh(cp.address, features=["delta"], MESH_RESOLVE_TIMEOUT="60s"), identity=None)
    same(c.ask(), "one")
    same(c.ask("nobody.shop.mesh", 80), "EAI_NONAME")
    before = cp.mark()
    same(c("[ask('nobody.shop.mesh', 80) for _ in range(20)] == ['EAI_NONAME'] * 20") or c.ask("nobody.shop.mesh", 80), "EAI_NONAME")
    same([e for e in cp.find("request", before) if "nobody" in json.dumps(e.get("subscribe"))], [])
    if hosts("127.0.0.9 known.maybe.mesh"):
        same(c("socket.getaddrinfo('known.maybe.mesh', 80, 0, socket.SOCK_STREAM)[0][4][0]"), "127.0.0.9")
    same(c.ask("unknown.maybe.mesh", 80) in ("EAI_NONAME", "EAI_AGAIN", "EAI_NODATA", "EAI_FAIL"), True)
    cp.put(*bare("nobody.shop.mesh:80", one))
    eventually("it is there when the control plane has it", lambda: c.ask("nobody.shop.mesh", 80) == "one", wait=2 * WAIT)


@case("no answer: EAI_AGAIN; of a domain with ? libc answers; what is known and what is not mesh is never held up")
def _():
    one = Plain("one")
    cp = server(ScriptedServer)
    cp.set([api_listener(), route("a"), *clusters(a=[one])])
    m = mesh(cp.address, MESH_RESOLVE_TIMEOUT="2s")
    c, other = Client(m, identity=None), Client(m, identity=None)
    same(c.ask(), "one")
    same(other.ask(), "one")
    cp.do("auto", on=False)
    hosts("127.0.0.10 silent.maybe.mesh", "127.0.0.11 other.example")
    c.send("ask('silent.shop.mesh', 80)")
    for _ in range(20):
        same(other.ask(), "one")
        same(other("socket.getaddrinfo('localhost', 80)[0][4][1]"), 80)
    same(c.result(), "EAI_AGAIN")
    if os.environ.get("IN_NETNS") == "1":
        same(c("socket.getaddrinfo('silent.maybe.mesh', 80, 0, socket.SOCK_STREAM)[0][4][0]"), "127.0.0.10")
        same(other("socket.getaddrinfo('other.example', 80, 0, socket.SOCK_STREAM)[0][4][0]"), "127.0.0.11")
    cp.do("wire", mode="stall")
    same(c.ask("stalled.shop.mesh", 80), "EAI_AGAIN")
    same((c.ask(), other.ask()), ("one", "one"))
    asked = {n for e in cp.find("request") for n in e["names"]}
    assert not [n for n in asked if "example" in n or "localhost" in n], asked


@case("the control plane that is not there at all: EAI_AGAIN, and found when it comes")
def _():
    one = Plain("one")
    cp = server()
    cp.set(bare(AT, one))
    cp.stop()
    c = Client(mesh(cp.address, MESH_RESOLVE_TIMEOUT="300ms"), identity=None)
    same(c.ask(), "EAI_AGAIN")
    cp.start()
    eventually("it is found", lambda: c.ask() == "one", wait=2 * WAIT)


@case("short programs, many of them: all are answered, and a handful of streams is opened")
def _():
    one = Plain("one")
    cp = server()
    cp.set(bare(AT, one))
    m = mesh(cp.address)
    n = int(os.environ.get("CURLS", "1000"))
    e = m.env(None)
    curl = "seq %d | xargs -P 4 -n 1 curl -s -m 60 -o /dev/null -w '%%{http_code}\\n' http://%s/" % (n, AT)
    curl = curl.replace("-n 1 curl", "-I{} env LD_PRELOAD='%s' curl" % e.pop("LD_PRELOAD")).replace("%s/" % AT, "%s/{}" % AT)
    said = subprocess.run(["bash", "-c", curl], env=e, capture_output=True, text=True, timeout=600).stdout.split()
    same((len(said), set(said)), (n, {"200"}))
    streams = len(cp.find("open"))
    assert 1 <= streams <= 4 + n // 50, "%d streams for %d programs" % (streams, n)
    print("# %d streams for %d programs" % (streams, n), flush=True)


@case("a file beside the control plane: the file's names win, the others are the control plane's; a seed until it answers")
def _():
    one, two, three = Plain("one"), Plain("two"), Plain("three")
    cp = server()
    cp.set(bare(AT, one) + bare("other.shop.mesh:80", two))
    cp.stop()
    m = mesh(cp.address)
    m.put(service(three, tls="off"))
    seed = m.dir / "seed.yaml"
    seed.write_text(json.dumps(service(three, name="other.shop.mesh:80", tls="off")))
    c = Client(m, identity=None, MESH_VIEW_SEED=seed)
    same((c.ask(), c.ask("other.shop.mesh", 80)), ("three", "three"))
    cp.start()
    eventually("the control plane's", lambda: c.ask("other.shop.mesh", 80) == "two", wait=2 * WAIT)
    same(c.ask(), "three")


@case("meshctl agent on a real control plane: it publishes, programs open no stream")
def _():
    one, two = Plain("one"), Plain("two")
    cp = server()
    cp.set(bare(AT, one))
    m = mesh(cp.address)
    e = m.env(None)
    del e["LD_PRELOAD"]
    a = subprocess.Popen([CTL, "agent"], env=e)
    opened.append(lambda: (a.kill(), a.wait()))
    eventually("the agent publishes", lambda: m.ctl("status", identity=None)["publisher"].get("pid") == a.pid)
    cs = [Client(m, identity=None) for _ in range(4)]
    same([c.ask() for c in cs], ["one"] * 4)
    cp.put(load(AT, two))
    eventually("and hears of changes", lambda: {c.ask() for c in cs} == {"two"})
    same(len(cp.find("open")), 1)
    eventually("it says so", lambda: (lambda s: (s["agent"], s["servers"][0]["state"]) == (True, "up"))(m.ctl("status", identity=None)["publisher"]))


main()
