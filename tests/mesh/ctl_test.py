# SPDX-License-Identifier: Apache-2.0
"""meshctl: its answers' shapes and exit statuses, against live processes."""
from mesh import *


def live():
    one, two = Backend("one"), Backend("two")
    m = Mesh(service(one, two, peers=[REVIEWS]))
    c = Client(m)
    c("A = [conn() for _ in range(4)]; ret = [say(s) for s in A]")
    return m, c, one, two


@case("resolve: name, addresses, route, clusters and endpoints; status 1 for no such name")
def _():
    m, c, one, two = live()
    r = m.ctl("resolve", "reviews.shop.mesh:9080", rc=0)
    same(r["name"], "reviews.shop.mesh:9080")
    same([r["address4"]], c("[a[4][0] for a in socket.getaddrinfo('reviews.shop.mesh', 1, socket.AF_INET, socket.SOCK_STREAM)]"))
    assert ":" in r["address6"] and r["route"], r
    same(sorted(e["address"] for e in r["clusters"][0]["endpoints"]), sorted([one.at, two.at]))
    has(r["clusters"][0], "name", "weight")
    has(r["clusters"][0]["endpoints"][0], "health", "weight")
    m.ctl("resolve", "nobody.shop.mesh", rc=1)
    m.ctl("resolve", rc=2)


@case("pick: n picks with their reasons, without counting them; --hash is stable")
def _():
    m, c, one, two = live()
    before = m.ctl("stats")
    r = m.ctl("pick", "reviews.shop.mesh:9080", "-n", "6", "--explain", rc=0)
    same(len(r["picks"]), 6)
    same({p["endpoint"] for p in r["picks"]} <= {one.at, two.at}, True)
    assert all(p["why"] for p in r["picks"])
    same({p["endpoint"] for _ in range(3) for p in m.ctl("pick", "reviews.shop.mesh:9080", "--hash", "alice")["picks"]} <= {one.at, two.at}, True)
    same([e["connects"] for e in before["clusters"][0]["endpoints"]], [e["connects"] for e in m.ctl("stats")["clusters"][0]["endpoints"]])
    m.ctl("pick", "nobody.shop.mesh:9080", rc=1)
    m.ctl("pick", rc=2)


@case("status: the process, its identity, and each live connection with peer and cipher")
def _():
    m, c, one, two = live()
    r = m.ctl("status", rc=0)
    mine = [p for p in r["processes"] if p["pid"] == c.pid]
    same(len(mine), 1)
    same(mine[0]["identity"], WEB)
    conns = [x for x in json.loads(json.dumps(r)).get("connections", []) or mine[0].get("connections", [])]
    same(len(conns), 4)
    for x in conns:
        same(x["peer"], REVIEWS)
        has(x["cipher"], "AES")
        has((one.at, two.at), x["endpoint"])
        same(x["name"], "reviews.shop.mesh:9080")
    c("[s.close() for s in A]")
    eventually("they are gone", lambda: REVIEWS not in json.dumps(m.ctl("status")))
    c.stop()
    eventually("the process is gone", lambda: '"pid": %d,' % c.pid not in json.dumps(m.ctl("status")))


@case("stats: in flight, connects, failures, ejection and latency of each endpoint")
def _():
    m, c, one, two = live()
    e = m.ctl("stats", rc=0)["clusters"][0]["endpoints"]
    same(sum(x["connects"] for x in e), 4)
    same(sum(x["in_flight"] for x in e), 4)
    same(sum(x["failures"] for x in e), 0)
    has(" ".join(e[0]), "eject", "latency")


@case("why: refusals with every field of the trace line, by name, after the process is gone")
def _():
    m = Mesh(service(Backend("a", identity="stranger"), peers=[REVIEWS]), MESH_PATIENCE="20s")
    c = Client(m)
    same(c.ask(), "EACCES")
    same(c.ask(port=1), "ECONNREFUSED")
    l = c.trace.wait("refused", why="peer")
    c.stop()
    r = json.dumps(m.ctl("why", rc=0))
    has(r, "peer", "no-route", l["endpoint"])
    has(json.dumps(m.ctl("why", "reviews.shop.mesh")), l["endpoint"])
    assert l["endpoint"] not in json.dumps(m.ctl("why", "other.shop.mesh"))
    peer = [x for x in m.ctl("why")["refusals"] if x["why"] == "peer"][0]
    same((peer["errno"], peer["attempt"], type(peer["fd"])), (13, 1, int))


@case("why -f follows a live refusal")
def _():
    m = Mesh(service(Backend("a")))
    c = Client(m)
    same(c.ask(), "a")
    e = m.env()
    del e["LD_PRELOAD"]
    p = subprocess.Popen([CTL, "-o", "json", "why", "-f"], env=e, stdout=subprocess.PIPE, text=True)
    opened.append(lambda: (p.kill(), p.wait()))
    got = []
    threading.Thread(target=lambda: got.extend(p.stdout), daemon=True).start()
    eventually("it is told", lambda: (c.ask(port=1), "no-route" in "".join(got))[1])


@case("trace: switches a live process on and off")
def _():
    one = Backend("one")
    m = Mesh(service(one))
    c = Client(m, MESH_TRACE=None)
    same(c.ask(), "one")
    t = m.trace_file()
    m.ctl("-p", str(c.pid), "trace", "info:%s" % t, rc=0)
    eventually("it traces", lambda: (same(c.ask(), "one"), "connected" in t.read_text())[1])
    m.ctl("-p", str(c.pid), "trace", "off", rc=0)

    def quiet():
        n = t.stat().st_size
        time.sleep(0.3)
        same(c.ask(), "one")
        return t.stat().st_size == n
    eventually("it stops", quiet)
    m.ctl("-p", str(c.pid), "trace", "loud", rc=2)
    m.ctl("-p", "999999", "trace", "info", rc=1)


@case("-p PID reads that process's variables; a process that is none of the mesh is no")
def _():
    m, c, one, two = live()
    e = {k: v for k, v in os.environ.items() if not k.startswith("MESH_")}
    p = subprocess.run([CTL, "-o", "json", "-p", str(c.pid), "resolve", "reviews.shop.mesh"], env=e, capture_output=True, text=True)
    same(p.returncode, 0)
    same(json.loads(p.stdout)["name"], "reviews.shop.mesh")
    same(subprocess.run([CTL, "-p", str(os.getpid()), "status"], env=e, capture_output=True).returncode, 1)
    same(subprocess.run([CTL, "-p", "999999", "status"], env=e, capture_output=True).returncode, 1)


@case("check: a wrong value that harms nothing is a warning; one that protects, an expired certificate, a missing view are status 1")
def _():
    one = Backend("one")
    m = Mesh(service(one, peers=[REVIEWS]))
    has(json.dumps(m.ctl("check", rc=0, MESH_PATIENCE="a while")), "MESH_PATIENCE")
    for vars, word in (({"MESH_PEERS": "http://x"}, "MESH_PEERS"), ({"MESH_VIEW": "/nonexistent"}, "/nonexistent"),
                       ({**m.identity("expired")}, "expired"), ({"MESH_KEY": str(PKI / "ratings.key")}, "key")):
        has(json.dumps(m.ctl("check", rc=1, **vars)), word)


@case("check: an environment that is right is status 0, with and without a library")
def _():
    m = Mesh(service(Backend("one"), peers=[REVIEWS]))
    e = m.env()
    p = subprocess.run([CTL, "-o", "json", "check"], env=e, capture_output=True, text=True)
    same((p.returncode, p.stdout if p.returncode else ""), (0, ""))


@case("check names what nothing pins to an identity")
def _():
    m = Mesh(service(Backend("one")))
    has(json.dumps(m.ctl("check")), "reviews.shop.mesh")


@case("check -f judges a view: status 0, or 1 with the path of what is refused")
def _():
    m = Mesh()
    good, bad = m.dir / "good.yaml", m.dir / "bad.yaml"
    good.write_text(json.dumps(service("127.0.0.1:1")))
    bad.write_text("services:\n  a.mesh:\n    endpoints: [127.0.0.1:1]\n    colour: red\n")
    m.ctl("check", "-f", str(good), rc=0)
    has(json.dumps(m.ctl("check", "-f", str(bad))), "colour")
    bad.write_text("services: [")
    m.ctl("check", "-f", str(bad), rc=1)
    m.ctl("check", "-f", "/nonexistent", rc=1)


@case("check --procs names a process with an internet socket that has not the library, and not one that has")
def _():
    m, c, one, two = live()
    p = subprocess.Popen([sys.executable, "-c", "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); sys.stdin.read()"], stdin=subprocess.PIPE)
    opened.append(lambda: (p.stdin.close(), p.wait()))
    eventually("it is named", lambda: '"pid": %d,' % p.pid in json.dumps(m.ctl("check", "--procs")))
    assert '"pid": %d,' % c.pid not in json.dumps(m.ctl("check", "--procs"))


@case("wrong use is status 2, in every form of output")
def _():
    m = Mesh(service("127.0.0.1:1"))
    for a in (["nonsense"], ["-o", "xml", "view"], ["resolve", "a", "b"], ["-p", "x", "status"], ["trace", "info"]):
        m.ctl(*a, rc=2)


@case("text and yaml say the same as json")
def _():
    m, c, one, two = live()
    e = m.env()
    del e["LD_PRELOAD"]
    for command in (["resolve", "reviews.shop.mesh:9080"], ["status"], ["stats"], ["view"], ["view", "reviews.shop.mesh"]):
        for form in ("text", "yaml"):
            p = subprocess.run([CTL, "-o", form, *command], env=e, capture_output=True, text=True)
            same((command, form, p.returncode, p.stderr), (command, form, 0, ""))
            has(p.stdout, one.at.split(":")[1])


main()
