# SPDX-License-Identifier: Apache-2.0
"""Clusters whose endpoints are host names, with a name server of our own."""
import struct
from mesh import *

NAME = "reviews.shop.mesh"


class NameServer:
    """Answers A and AAAA on 127.0.0.1:53. zone: {"name": ["127.0.0.2", "::1"]}; .ttl; .how: serve, silent, fail."""

    def __init__(self, zone):
        if os.environ.get("IN_NETNS") != "1":
            raise Skip("needs a network of its own")
        self.zone, self.ttl, self.how, self.asked = zone, 1, "serve", []
        conf = pathlib.Path(tempfile.mkstemp(dir=os.environ["RUN"])[1])
        conf.write_text("nameserver 127.0.0.1\n")
        conf.chmod(0o644)
        subprocess.run(["mount", "--bind", str(conf), "/etc/resolv.conf"], check=True)
        opened.append(lambda: subprocess.run(["umount", "/etc/resolv.conf"]))
        self.s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.s.bind(("127.0.0.1", 53))
        self.s.settimeout(0.1)
        self.ended = False
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        opened.append(self.stop)

    def stop(self):
        self.ended = True
        self.thread.join()
        self.s.close()

    def serve(self):
        while not self.ended:
            try:
                q, who = self.s.recvfrom(4096)
            except TimeoutError:
                continue
            labels, at = [], 12
            while q[at]:
                labels.append(q[at + 1:at + 1 + q[at]].decode())
                at += 1 + q[at]
            end = at + 5
            name, kind = ".".join(labels).lower(), struct.unpack(">H", q[at + 1:at + 3])[0]
            self.asked.append((name, kind))
            if self.how == "silent":
                continue
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            found = [a for a in self.zone.get(name, []) if (":" in a) == (kind == 28) and kind in (1, 28)]
            rcode = 2 if self.how == "fail" else 0 if name in self.zone else 3
            found = found if self.how == "serve" else []
            rr = b"".join(struct.pack(">HHHIH", 0xc00c, kind, 1, self.ttl, size) + socket.inet_pton(family, a) for a in found)
            with contextlib.suppress(OSError):
                self.s.sendto(q[:2] + struct.pack(">HHHHH", 0x8180 | rcode, 1, len(found), 0, 0) + q[12:end] + rr, who)


def view(port, how="STRICT_DNS", host="db.test", **more):
    return resources(cluster(NAME, "%s:%d" % (host, port), transport_socket=RAW, type=how, connect_timeout="5s", **more))


def plain(name, host="127.0.0.1", port=0):
    return Backend(name, how="plain", host=host, port=port)


def pair():
    one = plain("one", "127.0.0.2")
    return one, plain("two", "127.0.0.3", one.port)


def answers(c, n=8):
    return {c.ask() for _ in range(n)}


@case("STRICT_DNS: each address is an endpoint; dns_refresh_rate says when to ask again")
def _():
    one, two = pair()
    ns = NameServer({"db.test": ["127.0.0.2", "127.0.0.3"]})
    ns.ttl = 3600
    c = Client(Mesh(view(one.port, dns_refresh_rate="1s")))
    eventually("both are used", lambda: answers(c) == {"one", "two"})
    ns.zone = {"db.test": ["127.0.0.3"]}
    eventually("one has left", lambda: answers(c) == {"two"})


@case("respect_dns_ttl: the records' TTL, not dns_refresh_rate")
def _():
    one, two = pair()
    ns = NameServer({"db.test": ["127.0.0.2"]})
    c = Client(Mesh(view(one.port, dns_refresh_rate="3600s", respect_dns_ttl=True)))
    same(c.ask(), "one")
    ns.zone = {"db.test": ["127.0.0.3"]}
    eventually("it was asked again", lambda: answers(c) == {"two"})


@case("LOGICAL_DNS: one address at a time")
def _():
    one, two = pair()
    ns = NameServer({"db.test": ["127.0.0.2", "127.0.0.3"]})
    m = Mesh(view(one.port, how="LOGICAL_DNS", dns_refresh_rate="1s"))
    c = Client(m)
    same(len(answers(c)), 1)
    eventually("one endpoint", lambda: m.ctl("view")["endpoints"] == 1)
    ns.zone = {"db.test": ["127.0.0.3"]}
    eventually("the new one", lambda: answers(c) == {"two"})


@case("dns_lookup_family: V4_ONLY and V6_ONLY take their own of what is there")
def _():
    four = plain("four")
    plain("six", "::1", four.port)
    NameServer({"db.test": ["127.0.0.1", "::1"]})
    for family, name in ("V4_ONLY", "four"), ("V6_ONLY", "six"):
        c = Client(Mesh(view(four.port, dns_lookup_family=family)))
        eventually(family, lambda: answers(c) == {name})


@case("a server that fails or says nothing changes nothing")
def _():
    one, _ = pair()
    ns = NameServer({"db.test": ["127.0.0.2"]})
    c = Client(Mesh(view(one.port, dns_refresh_rate="1s")))
    same(c.ask(), "one")
    for how in "fail", "silent":
        ns.how = how
        n = len(ns.asked)
        eventually("it is asked several times", lambda: len(ns.asked) > n + 4)
        same(answers(c), {"one"})


@case("another publisher takes over while the name server is silent: the last answers serve on")
def _():
    one, two = pair()
    ns = NameServer({"db.test": ["127.0.0.2"]})
    m = Mesh(view(one.port, dns_refresh_rate="1s"))
    a, b = Client(m), Client(m)
    same(a.ask(), "one")
    same(b.ask(), "one")
    ns.how = "silent"
    built = m.ctl("view")["version"]
    os.kill(a.pid, signal.SIGKILL)
    eventually("it has published", lambda: b.ask() == "one" and m.ctl("view")["version"] > built)
    same(answers(b), {"one"})
    ns.how, ns.zone = "serve", {"db.test": ["127.0.0.3"]}
    eventually("the answer", lambda: answers(b) == {"two"})


main()
