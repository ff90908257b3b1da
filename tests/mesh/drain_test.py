# SPDX-License-Identifier: Apache-2.0
"""Connections that end because they are old, or because their endpoint is not to be used any more."""
from mesh import *

# Reads until the end, however long that takes; says something now and then, so that the library is asked.
UNTIL_END = """
def until_end(s, quiet=False):
    s.settimeout(0.05)
    while True:
        try:
            d = s.recv(100)
            if not d:
                return "EOF"
        except TimeoutError:
            pass
        except OSError as e:
            return errno.errorcode[e.errno]
def write_after(s):
    for _ in range(100):
        try:
            s.sendall(b"x")
        except OSError as e:
            return errno.errorcode[e.errno]
        time.sleep(0.02)
"""


def view(*bs, proxy={}, health=None, tls=True, **more):
    ends = [endpoint(b.at, **({"health_status": health[b.name]} if health else {})) for b in bs]
    return resources(cluster("c", load_assignment={"cluster_name": "c", "endpoints": [{"lb_endpoints": ends}]},
                             **({} if tls else {"transport_socket": RAW}), **more),
                     listener("reviews.shop.mesh:9080", {"cluster": "c", **proxy}))


def caller(m):
    c = Client(m)
    c(UNTIL_END)
    return c


for tls in (True, False):
    @case("max_downstream_connection_duration ends a connection with EOF and close_notify, tls=%s" % ("mutual" if tls else "none"))
    def _(tls=tls):
        one = Backend("one", how="tls" if tls else "plain")
        m = Mesh(view(one, tls=tls, proxy={"max_downstream_connection_duration": "0.3s"}))
        c = caller(m)
        same(c("S = conn(); ret = say(S)"), "one:hi")
        same(c("until_end(S)"), "EOF")
        same(c("write_after(S)"), "EPIPE")
        c("S.close()")
        c.trace.wait("closed", why="max-age")
        same(c.ask(), "one")


@case("a connection that is old ends for the thread that waits in poll")
def _():
    one = Backend("one")
    m = Mesh(view(one, proxy={"max_downstream_connection_duration": "0.3s", "max_downstream_connection_duration_jitter_percentage": {"value": 50}}))
    c = caller(m)
    same(c("S = conn(); ret = say(S)"), "one:hi")
    same(c("""
P = select.poll(); P.register(S, select.POLLIN)
ret = None
while not ret:
    ret = [S.recv(10).decode() for _ in P.poll(50)]"""), [""])


@case("close_connections_on_host_health_failure: the endpoint's connections end, others' stay")
def _():
    one, two = Backend("one"), Backend("two")
    more = {"close_connections_on_host_health_failure": True}
    m = Mesh(view(one, two, health={"one": "HEALTHY", "two": "HEALTHY"}, **more))
    c = caller(m)
    c("A = {}; ret = None")
    c("for _ in range(2):\n  s = conn(); A[say(s)] = s")
    m.put(view(one, two, health={"one": "UNHEALTHY", "two": "HEALTHY"}, **more))
    same(c("until_end(A['one:hi'])"), "EOF")
    same(c("A['two:hi'].settimeout(None); ret = say(A['two:hi'])"), "two:hi")


@case("close_connections_on_host_set_change: connections to removed endpoints end, others' stay")
def _():
    one, two = Backend("one"), Backend("two")
    more = {"common_lb_config": {"close_connections_on_host_set_change": True}}
    m = Mesh(view(one, two, **more))
    c = caller(m)
    c("A = {}")
    c("for _ in range(2):\n  s = conn(); A[say(s)] = s")
    m.put(view(two, **more))
    same(c("until_end(A['one:hi'])"), "EOF")
    same(c("A['two:hi'].settimeout(None); ret = say(A['two:hi'])"), "two:hi")


@case("a cluster that says nothing keeps connections to endpoints that are removed or unhealthy")
def _():
    one, two = Backend("one"), Backend("two")
    m = Mesh(view(one, two))
    c = caller(m)
    c("A = {}")
    c("for _ in range(2):\n  s = conn(); A[say(s)] = s")
    m.put(view(two, health={"two": "UNHEALTHY"}))
    eventually("the view is new", lambda: c.ask() == "EHOSTUNREACH")
    same(c("[say(A[k]) for k in sorted(A)]"), ["one:hi", "two:hi"])


main()
