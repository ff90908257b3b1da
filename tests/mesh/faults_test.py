# SPDX-License-Identifier: Apache-2.0
"""Twenty backends, each a process under the library, of which most go wrong in one way or another while several processes
call them; and the limits of a cluster."""
import os, shutil, signal
from mesh import *

# What one caller does until it is told to stop: connections one after the other. A failed connect is never right; a
# conversation may break when its backend is killed or stalls.
LOAD = """
import os
def load(stop):
    done, connects, broken = 0, [], []
    while not os.path.exists(stop):
        try:
            s = conn()
        except OSError as e:
            connects.append(errno.errorcode.get(e.errno, str(e)))
            time.sleep(0.05)
            continue
        try:
            s.settimeout(15)
            got = say(s)
            done += got == "served:hi"
            if got != "served:hi":
                broken.append(got)
        except OSError as e:
            broken.append(str(e))
        s.close()
        time.sleep(0.005)
    return [done, connects, broken]
"""


class Node:
    """One backend: its own identity files, its own list of faults."""

    def __init__(self, m, i):
        self.m, self.dir = m, m.dir / ("node%d" % i)
        self.dir.mkdir()
        self.fault("ok")
        self.become("reviews")
        self.start("127.0.0.1:0")

    def start(self, at, **more):
        d = self.dir
        self.s = Server(self.m, how="faulty:%s" % (d / "fault"), at=at, identity=None, MESH_CERT=d / "cert", MESH_KEY=d / "key",
                        MESH_CA="%s/ca.pem" % PKI, MESH_INBOUND="strict", **more)
        self.at = self.s.at

    def kill(self):
        os.killpg(self.s.pid, signal.SIGKILL)
        self.s.p.wait()

    def fault(self, what):
        (self.dir / "fault.new").write_text(what)
        (self.dir / "fault.new").rename(self.dir / "fault")

    def become(self, identity):
        for kind, file in (("key", "%s.key"), ("cert", "%s-chain.pem")):
            shutil.copy("%s/%s" % (PKI, file % identity), self.dir / "new")
            (self.dir / "new").rename(self.dir / kind)


def balanced(*ats, attempts=20, **more):
    """A cluster behind a listener whose dials try as many endpoints as there are."""
    return resources(cluster("c", *ats, connect_timeout="1s", lb_policy="LEAST_REQUEST",
                             transport_socket=upstream_tls(common_tls_context={"validation_context": {
                                 "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": REVIEWS}}]}}), **more),
                     listener("reviews.shop.mesh:9080", {"cluster": "c", "max_connect_attempts": attempts}))


@case("20 backends die, stall, reset, show a wrong certificate, slow down: no connect fails, ejection and return are seen")
def _():
    m = Mesh()
    nodes = [Node(m, i) for i in range(20)]
    killed, stalled, resetting, wrong, slow = nodes[:3], nodes[3:5], nodes[5:8], nodes[8:11], nodes[11:14]
    m.put(balanced(*[n.at for n in nodes], outlier_detection={
        "consecutive_5xx": 2, "base_ejection_time": "2s", "max_ejection_time": "2s", "interval": "1s", "max_ejection_percent": 100}))
    stop = m.dir / "stop"
    callers = [Client(m, identity=w) for w in ("web", "web", "web", "web")]
    for c in callers:
        c(LOAD)
        c.send("load(%r)" % str(stop))
    stats = lambda ns: [m.stat(n.at) for n in ns]
    eventually("all backends serve", lambda: all(e["connects"] > 5 for e in stats(nodes)))
    for n in killed + resetting:
        n.kill()
    for n in stalled:
        os.kill(n.s.pid, signal.SIGSTOP)
    for n in resetting: # without the library nobody shakes hands before the reset
        n.fault("reset")
        n.start(n.at, LD_PRELOAD=None)
    for n in wrong:
        n.become("stranger")
    for n in slow:
        n.fault("slow")
    for what, ns in (("dead", killed), ("stalled", stalled), ("resetting", resetting), ("wrong", wrong)):
        eventually("%s backends are ejected: %s" % (what, stats(ns)), lambda: all(e["ejections"] > 0 for e in stats(ns)))
    eventually("ejected is a word of the cluster", lambda: m.ctl("stats")["clusters"][0]["ejected"] > 0)
    for n in resetting:
        n.kill()
    for n in resetting + slow:
        n.fault("ok")
    for n in killed + resetting:
        n.start(n.at)
    for n in stalled:
        os.kill(n.s.pid, signal.SIGCONT)
    for n in wrong:
        n.become("reviews")
    before = {n.at: m.stat(n.at)["connects"] for n in nodes}
    eventually("all come back", lambda: all(m.stat(n.at)["connects"] > before[n.at] + 2 and m.stat(n.at)["ejected_ms"] == 0 for n in nodes))
    stop.touch()
    for c in callers:
        done, connects, broken = c.result()
        same(connects, [])
        assert done > 50, done
        assert len(broken) <= len(killed) + len(resetting) + len(stalled), broken
    for c in callers:
        c.stop()
    eventually("nothing is left counted", lambda: m.ctl("stats")["clusters"][0]["in_flight"] == 0 and m.ctl("stats")["clusters"][0]["pending"] == 0)


@case("a dial counts as pending until its peer is authenticated, and max_pending_requests refuses the next")
def _():
    late = Backend("late", how="late")
    m = Mesh(resources(cluster("reviews.shop.mesh", late.at, circuit_breakers={"thresholds": [{"max_pending_requests": 2}]})))
    a, b = Client(m), Client(m)
    a("A = [conn(), conn()]")
    same(m.ctl("stats")["clusters"][0]["pending"], 2)
    same(b.ask(), "ECONNREFUSED")
    b.trace.wait("refused", why="overload", detail="max_pending_requests")
    same(m.ctl("stats")["clusters"][0]["overflow"], 1)
    late.go.set()
    same(a("[say(s) for s in A]"), ["late:hi", "late:hi"])
    same(m.ctl("stats")["clusters"][0]["pending"], 0)
    same(b.ask(), "late")


@case("what a killed process was dialling is pending no more")
def _():
    late = Backend("late", how="late")
    m = Mesh(resources(cluster("reviews.shop.mesh", late.at, circuit_breakers={"thresholds": [{"max_pending_requests": 2}]})))
    a = Client(m)
    a("A = [conn(), conn()]")
    a.p.kill()
    a.p.wait()
    eventually("it is settled", lambda: m.ctl("stats")["clusters"][0]["pending"] == 0)
    same(m.ctl("stats")["clusters"][0]["in_flight"], 0)


@case("max_retries ends a dial with ECONNREFUSED instead of a second attempt")
def _():
    bad = [Backend("x", how="closed") for _ in range(3)]
    m = Mesh(resources(cluster("reviews.shop.mesh", *[b.at for b in bad], circuit_breakers={"thresholds": [{"max_retries": 0}]})))
    c = Client(m)
    same(c.ask(), "ECONNREFUSED")
    c.trace.wait("refused", why="overload", detail="max_retries")
    same(len(c.trace.find("attempt")), 1)


@case("per_host_thresholds: the next host is taken, and when all are full the dial is refused")
def _():
    one, two = Backend("one"), Backend("two")
    m = Mesh(resources(cluster("reviews.shop.mesh", one.at, two.at, circuit_breakers={"per_host_thresholds": [{"max_connections": 2}]})))
    a, b = Client(m), Client(m)
    same(sorted(a("A = [conn() for _ in range(4)]; ret = [say(s) for s in A]")), ["one:hi"] * 2 + ["two:hi"] * 2)
    same(b.ask(), "ECONNREFUSED")
    b.trace.wait("refused", why="overload", detail="per_host_thresholds.max_connections")


@case("drop_overload: all of it is dropped, with its reason; none of it is not")
def _():
    one = Backend("one")
    def view(percent):
        return resources(cluster("reviews.shop.mesh", load_assignment={"cluster_name": "reviews.shop.mesh",
            "endpoints": [{"lb_endpoints": [endpoint(one.at)]}],
            "policy": {"drop_overloads": [{"category": "throttle", "drop_percentage": {"numerator": percent}}]}}))
    m = Mesh(view(100))
    c = Client(m)
    same([c.ask() for _ in range(3)], ["ECONNREFUSED"] * 3)
    c.trace.wait("refused", why="overload", detail="drop_overload")
    m.put(view(0))
    eventually("nothing is dropped", lambda: c.ask() == "one")


@case("metadata_match of a listener leads to the endpoints of that subset")
def _():
    one, two = Backend("one"), Backend("two")
    ends = [endpoint(b.at, metadata={"filter_metadata": {"envoy.lb": {"version": v}}}) for b, v in ((one, "v1"), (two, "v2"))]
    proxy = lambda v: {"cluster": "c", "metadata_match": {"filter_metadata": {"envoy.lb": {"version": v}}}}
    m = Mesh(resources(cluster("c", load_assignment={"cluster_name": "c", "endpoints": [{"lb_endpoints": ends}]},
                               lb_subset_config={"subset_selectors": [{"keys": ["version"]}]}),
                       listener("v1.mesh:80", proxy("v1")), listener("v2.mesh:80", proxy("v2")), listener("v3.mesh:80", proxy("v3"))))
    c = Client(m)
    same([c.ask("v1.mesh", 80) for _ in range(4)], ["one"] * 4)
    same([c.ask("v2.mesh", 80) for _ in range(4)], ["two"] * 4)
    same(c.ask("v3.mesh", 80), "EHOSTUNREACH")
    same(sum(e["connects"] for e in m.ctl("stats")["clusters"][0]["endpoints"]), 8)
    has(m.ctl("pick", "v1.mesh:80", "--explain")["picks"][0]["cluster"], "c{version=v1}")


main()
