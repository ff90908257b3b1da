# SPDX-License-Identifier: Apache-2.0
"""channel_test.py [CASE]...: the channel (through probe.c) against whole control planes, and its names against a DNS server.

In namespaces of its own (run.sh): resolv.conf and port 53 are the test's. PKI names the certificates of tests/lib/pki.sh."""

import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from peers import ANY, CDS, DEADLINE, OUT, Failed, GoServer, ScriptedServer, Server, bootstrap  # noqa: E402

PKI = os.environ.get("PKI", "")
CLUSTER = {"@type": CDS, "name": "a"}


class Probe(Server):
    """The program under test, told and heard as the servers are."""

    def __init__(self, address, token=None, **more):
        self.file = tempfile.NamedTemporaryFile("w", suffix=".json")
        text = json.loads(bootstrap(address, **more))
        if token:
            text["xds_servers"][0]["call_creds"] = [{"type": "jwt_token_file", "config": {"jwt_token_file": token}}]
        json.dump(text, self.file)
        self.file.flush()
        super().__init__([os.path.join(OUT, "probe"), self.file.name])

    def __enter__(self):
        self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self):
        self.process.stdin.close()
        return self.process.wait(DEADLINE)


def tls(ca="ca.pem", cert=None):
    config = {"ca_certificate_file": f"{PKI}/{ca}"}
    if cert:
        config.update(certificate_file=f"{PKI}/{cert}-chain.pem", private_key_file=f"{PKI}/{cert}.key")
    return {"type": "tls", "config": config}


SERVER_TLS = {"cert": f"{PKI}/reviews-dns-chain.pem", "key": f"{PKI}/reviews-dns.key"}


def answered(server, probe):
    """A request goes there, an answer comes back."""
    since, before = server.mark(), probe.mark()
    probe.say("ask " + CDS)
    server.wait("request", since, type=CDS, node=ANY)
    return probe.wait("message", before)


def check(what, text=""):
    if not what:
        raise Failed(text or "that is not so")


# ---- cases ----
def an_answer_comes_and_a_restart_is_survived():
    for make in (GoServer, ScriptedServer):
        with make() as cp, Probe(cp.address) as probe:
            cp.set([CLUSTER])
            probe.wait("up")
            check(answered(cp, probe)["bytes"] > 20)
            cp.stop()
            down = probe.wait("down", answered=True)
            check(down["wait_ms"] <= 1000, down)
            probe.wait("down", answered=False)
            since = probe.mark()
            cp.start()
            probe.wait("up", since)
            answered(cp, probe)
            check(probe.end() == 0, "a descriptor was not given back")


def the_node_is_sent():
    with GoServer() as cp, Probe(cp.address, node={"id": "me", "cluster": "c", "metadata": {"A": {"b": [1, True]}}}) as probe:
        cp.set([CLUSTER])
        probe.wait("up")
        answered(cp, probe)
        node = cp.wait("request", node=ANY)["node"]
        check(node["id"] == "me" and node["metadata"] == {"A": {"b": [1, True]}}, node)
        check(node["user_agent_name"] == "meshshim" and "envoy.lb.does_not_support_overprovisioning" not in node["client_features"], node)


def tls_with_the_right_name():
    for host in ("127.0.0.1", "localhost"):
        with GoServer(**SERVER_TLS) as cp, Probe(f"{host}:{cp.address.rsplit(':', 1)[1]}", creds=tls()) as probe:
            cp.set([CLUSTER])
            probe.wait("up")
            answered(cp, probe)


def tls_with_a_wrong_name_or_root_is_refused():
    for cert, ca, why in (("web", "ca.pem", "IP address mismatch"), ("reviews-dns", "foreign-ca.pem", "certificate")):
        with GoServer(cert=f"{PKI}/{cert}-chain.pem", key=f"{PKI}/{cert}.key") as cp, Probe(cp.address, creds=tls(ca)) as probe:
            down = probe.wait("down", count=2)
            check(why in down["why"], down)
            check(not probe.find("up") and not cp.find("open"))


def mutual_tls():
    with GoServer(client_ca=f"{PKI}/ca.pem", **SERVER_TLS) as cp:
        cp.set([CLUSTER])
        with Probe(cp.address, creds=tls(cert="web")) as probe:
            probe.wait("up")
            answered(cp, probe)
        with Probe(cp.address, creds=tls()) as probe:
            down = probe.wait("down", count=2)
            # A reset by the server may overtake its alert.
            check(any(x in down["why"] for x in ("certificate required", "bad certificate", "closed", "reset", "Broken pipe")), down)
            check(not probe.find("message"))


def the_two_ends_disagree_about_tls():
    with GoServer() as cp, Probe(cp.address, creds=tls()) as probe:
        check("TLS" in probe.wait("down")["why"])
    with GoServer(**SERVER_TLS) as cp, Probe(cp.address) as probe:
        probe.wait("down")
        check(not probe.find("up"))


def a_token_goes_along():
    with tempfile.NamedTemporaryFile("w") as file, ScriptedServer(**SERVER_TLS) as cp:
        file.write("abc.def\n")
        file.flush()
        with Probe(cp.address, creds=tls(), token=file.name) as probe:
            probe.wait("up")
            headers = cp.wait("open")["headers"]
            check(headers["authorization"] == "Bearer abc.def" and "meshshim" in headers["user-agent"], headers)


def a_unix_socket():
    with tempfile.TemporaryDirectory() as folder:
        for make in (GoServer, ScriptedServer):
            with make(listen=f"unix:{folder}/xds") as cp, Probe(f"unix:{folder}/xds") as probe:
                cp.set([CLUSTER])
                probe.wait("up")
                answered(cp, probe)


def a_refusing_port_is_tried_later_each_time():
    with socket.create_server(("127.0.0.1", 0)) as s:
        address = "127.0.0.1:%d" % s.getsockname()[1]
    with Probe(address) as probe:
        for i, want in enumerate((1000, 1600, 2560)):
            wait = probe.wait("down", count=i + 1)["wait_ms"]
            check(want * 0.75 <= wait <= want * 1.25, f"{i}: {wait} ms")


def statuses_come_through():
    with ScriptedServer() as cp, Probe(cp.address) as probe:
        probe.wait("up")
        cp.wait("open")
        cp.do("end", code=7, message="not ü, 50 %")
        check("not ü, 50 %" in probe.wait("down", status=7)["why"])
        probe.say("path /no.such/Method")
        probe.wait("up", count=2)
        probe.say("restart")
        probe.wait("down", status=12)


def large_messages():
    with ScriptedServer() as cp, Probe(cp.address) as probe:
        probe.wait("up")
        cp.wait("open")
        cp.do("send", type="CDS", pad=40 << 20)
        check(probe.wait("message")["bytes"] > 40 << 20)
        probe.say("pad 3000000")
        cp.wait("request", type="")
        cp.do("send", type="CDS", pad=65 << 20)
        check("64 MiB" in probe.wait("down", status=8)["why"])


def goaway_leads_to_another_connection():
    with ScriptedServer(age=1500) as cp, Probe(cp.address) as probe:
        for i in range(2):
            probe.wait("up", count=i + 1)
            probe.say("ask " + CDS)
            check(probe.wait("down", count=i + 1)["answered"])
    with ScriptedServer() as cp, Probe(cp.address) as probe:
        probe.wait("up")
        cp.do("goaway")
        probe.wait("up", count=2)


def hurt_bytes():
    with ScriptedServer() as cp:
        cp.set([CLUSTER])
        with Probe(cp.address) as probe:
            probe.wait("up")
            cp.do("wire", mode="trickle", bytes=1, every=0.1)
            answered(cp, probe)
            cp.do("wire", mode="garbage", raw="/////////////////////w==")
            probe.say("ask " + CDS)
            probe.wait("down")
            probe.wait("up", count=2)
            cp.do("cut")
            probe.wait("down", count=2)
            cp.do("wire", mode="refuse")
            probe.wait("down", count=4)
            cp.do("wire", mode="pass")
            probe.wait("up", count=3)
    with ScriptedServer() as cp:
        cp.do("wire", mode="garbage", raw="SFRUUC8xLjEgNDAwIEJhZCBSZXF1ZXN0DQoNCg==")
        with Probe(cp.address) as probe:
            check("HTTP/2" in probe.wait("down")["why"])
            probe.wait("up")


def descriptors_do_not_grow():
    with ScriptedServer() as cp, Probe(cp.address) as probe:
        for i in range(5):
            probe.wait("up", count=i + 1)
            probe.say("ask " + CDS)
            probe.wait("message", count=i + 1)
            probe.say("fds")
            cp.do("cut")
        counts = {probe.wait("open", count=i + 1)["fds"] for i in range(5)}
        check(len(counts) == 1, counts)
        check(probe.end() == 0)


# ---- names ----
class Names(threading.Thread):
    """A DNS server on 127.0.0.53; 127.0.0.54 takes questions and says nothing."""
    records = {"one.test": [(1, "127.0.0.1", 30)], "both.test": [(1, "127.0.0.1", 300), (28, "::1", 60)],
               "two.test": [(1, "127.0.0.9", 5), (1, "127.0.0.1", 5)], "alias.test": [(5, "one.test", 7)],
               "svc.search.test": [(1, "127.0.0.7", 9)]}

    def __init__(self):
        super().__init__(daemon=True)
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for i, s in enumerate(self.sockets):
            s.bind((f"127.0.0.{53 + i}", 53))
        self.start()

    @staticmethod
    def servers(*addresses, rest=""):
        with open("/etc/resolv.conf", "w") as f:
            f.write("".join(f"nameserver {a}\n" for a in addresses) + rest)

    @staticmethod
    def name(text):
        return b"".join(bytes([len(x)]) + x.encode() for x in text.split(".")) + b"\0"

    def answers(self, name, kind):
        for typ, value, ttl in self.records.get(name, ()):
            if typ == kind or typ == 5:
                data = self.name(value) if typ == 5 else socket.inet_pton(socket.AF_INET if typ == 1 else socket.AF_INET6, value)
                yield self.name(name) + struct.pack("!HHIH", typ, 1, ttl, len(data)) + data
            if typ == 5:
                yield from self.answers(value, kind)

    def run(self):
        while True:
            data, who = self.sockets[0].recvfrom(4096)
            end, labels = 12, []
            while data[end]:
                labels.append(data[end + 1:end + 1 + data[end]].decode())
                end += 1 + data[end]
            name, kind = ".".join(labels).lower(), struct.unpack("!H", data[end + 1:end + 3])[0]
            list_ = list(self.answers(name, kind))
            code = 0 if name in self.records else 3
            head = data[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(list_), 0, 0)
            self.sockets[0].sendto(head + data[12:end + 5] + b"".join(list_), who)


def looked_up(probe, name, families=3):
    before = probe.mark()
    probe.say(f"dns {name} {families}")
    e = probe.wait("dns", before)
    return e["err"], sorted(e["addresses"]), e["ttl"]


def names_are_looked_up():
    Names.servers("127.0.0.53", rest="search search.test\noptions ndots:1\n")
    with Probe("127.0.0.1:9") as probe:
        for name, families, want in (
                ("127.0.0.3", 3, ("", ["127.0.0.3"], 0)), ("::3", 3, ("", ["::3"], 0)), ("::3", 1, ("no such name", [], 0)),
                ("one.test", 3, ("", ["127.0.0.1"], 30)), ("both.test", 3, ("", ["127.0.0.1", "::1"], 60)),
                ("both.test", 1, ("", ["127.0.0.1"], 300)), ("both.test", 2, ("", ["::1"], 60)),
                ("one.test", 2, ("no such name", [], 0)), ("alias.test", 1, ("", ["127.0.0.1"], 7)),
                ("none.test", 3, ("no such name", [], 0)), ("svc", 1, ("", ["127.0.0.7"], 9)),
                ("localhost", 3, ("", ["127.0.0.1", "::1"], 0)), ("a..b", 3, ("no such name", [], 0))):
            got = looked_up(probe, name, families)
            check(got == want, f"{name} {families}: {got}")
        check(probe.end() == 0)


def a_silent_dns_server_times_out_and_a_new_one_is_seen():
    Names.servers("127.0.0.54")
    with Probe("127.0.0.1:9") as probe:
        check(looked_up(probe, "one.test", 1)[0] == "timed out")
        Names.servers("127.0.0.53")
        check(looked_up(probe, "one.test", 1)[1] == ["127.0.0.1"])
        Names.servers("127.0.0.54", "127.0.0.53")
        check(looked_up(probe, "one.test", 1)[1] == ["127.0.0.1"], "the second server")


def every_address_is_tried():
    Names.servers("127.0.0.53")
    with ScriptedServer() as cp:
        port = cp.address.rsplit(":", 1)[1]
        for name in ("two.test", "both.test", "dns:///one.test"):
            with Probe(f"{name}:{port}") as probe:
                probe.wait("up")
        with Probe(f"none.test:{port}") as probe:
            check("none.test: no such name" in probe.wait("down")["why"])
    with ScriptedServer(listen="[::1]:0") as cp, Probe("both.test:" + cp.address.rsplit(":", 1)[1]) as probe:
        probe.wait("up")


def main():
    if os.environ.get("IN_NETNS") == "1":
        resolv = tempfile.NamedTemporaryFile("w", delete=False)
        os.chmod(resolv.name, 0o644)
        subprocess.run(["mount", "--bind", resolv.name, "/etc/resolv.conf"], check=True)
        Names()
    else:
        print("# no namespaces here: names are not tested")
    cases = {n: f for n, f in globals().items()
             if callable(f) and getattr(f, "__code__", None) and not f.__code__.co_argcount and f.__module__ == "__main__"
             and n not in ("main", "tls")}
    if os.environ.get("IN_NETNS") != "1":
        cases = {n: f for n, f in cases.items() if "Names" not in f.__code__.co_names}
    chosen = sys.argv[1:] or list(cases)
    failed = 0
    for name in chosen:
        begun = time.monotonic()
        try:
            cases[name]()
            print(f"  ok     xds/channel {name} ({time.monotonic() - begun:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"  FAILED xds/channel {name}", flush=True)
            traceback.print_exc()
    print(f"xds/channel: {len(chosen) - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
