# SPDX-License-Identifier: Apache-2.0
"""The rows. A family of rows is measured together; each yields Row objects."""
import os
import re
import statistics
import time

import plot
from harness import PAIRS, STEADY, Broken, measure, numbers, run
from stage import BUILD, LIB, PROGRAMS, TOP, memory

FAMILIES = []


def family(*rows):
    def mark(f):
        FAMILIES.append((rows, f))
        return f
    return mark


class Row:
    """One line of the table. `ratio` of a pair is what the goal speaks of."""

    def __init__(self, row, name, goal, better, values, parts, why=None):
        self.row, self.name, self.goal, self.better = row, name, goal, better
        self.values, self.parts, self.why = values, parts, why

    @classmethod
    def of(cls, row, name, goal, better, series, ratio):
        why = None
        if series.wobble() > STEADY:
            why = f"the plain reference varied by {series.wobble():.0%} between pairs"
        parts = series.medians() | ({"reference_spread": round(series.wobble(), 3), "void_pairs": len(series.void)} if series.reference else {})
        return cls(row, name, goal, better, [ratio(p) for p in series.pairs], parts, why)

    @property
    def ratio(self):
        return statistics.median(self.values)

    def met(self):
        if self.why or not self.values:
            return None
        return self.ratio <= self.goal if self.better == "lower" else self.ratio >= self.goal


CONNECTIONS = 16


def three(stage, server, client):
    """The same server plain, with TLS of its own, and in the mesh; client(kind, pids, port) is one run."""
    sides = {}
    for kind in ("plain", "own", "shim"):
        pids, port = server(kind)
        sides[kind] = lambda kind=kind, pids=pids, port=port: client(kind, pids, port)
        sides[kind]()  # caches, tables, frequency
    return sides


@family("1", "2")
def requests(stage):
    s = measure(three(stage, stage.nginx, lambda k, pids, port: stage.wrk(k, pids, port, CONNECTIONS, 2)), "plain", "cpu_us")
    yield Row.of("1a", "CPU a request, nginx 1 KiB: shim / own TLS", 0.70, "lower", s, lambda p: p["shim"]["cpu_us"] / p["own"]["cpu_us"])
    yield Row.of("2", "requests/s, nginx 1 KiB: shim / plain", 0.85, "higher", s, lambda p: p["shim"]["rps"] / p["plain"]["rps"])
    s = measure(three(stage, stage.redis, lambda k, pids, port: stage.redis_benchmark(k, pids, port, CONNECTIONS, 100000)), "plain", "cpu_us")
    yield Row.of("1b", "CPU a request, redis GET: shim / own TLS", 0.70, "lower", s, lambda p: p["shim"]["cpu_us"] / p["own"]["cpu_us"])


@family("3", "4", "5")
def sidecars(stage):
    plain, port = stage.nginx("plain")
    shim, shim_port = stage.nginx("shim")
    pairs = {"haproxy": stage.haproxy_pair(port), "nginx-stream": stage.stream_pair(port)}

    def sides(connections, seconds):
        found = {"plain": lambda: stage.wrk("plain", plain, port, connections, seconds),
                 "shim": lambda: stage.wrk("shim", shim, shim_port, connections, seconds)}
        for name, (pids, front) in pairs.items():
            found[name] = lambda pids=pids, front=front: stage.wrk("plain", pids + plain, front, connections, seconds)
        return found

    def added(p, value):
        best = min(p[name][value] for name in pairs)
        return (p["shim"][value] - p["plain"][value]) / (best - p["plain"][value])

    s = measure(sides(1, 1), "plain", "cpu_us")
    yield Row.of("5a", "added CPU a request, 1 connection: shim / best pair", 0.08, "lower", s, lambda p: added(p, "cpu_us"))
    yield Row.of("3", "added median latency, 1 connection: shim / best pair", 0.07, "lower", s, lambda p: added(p, "p50_us"))
    s = measure(sides(CONNECTIONS, 1), "plain", "cpu_us")
    yield Row.of("5b", "added CPU a request, 16 connections: shim / best pair", 0.08, "lower", s, lambda p: added(p, "cpu_us"))
    rate = 0.6 * max(statistics.median(s.of(name, "rps")) for name in pairs)
    best = max(pairs, key=lambda name: statistics.median(s.of(name, "rps")))

    def open_loop(kind, to):
        text, _, _ = run([f"{PROGRAMS}/openloop", str(to), str(CONNECTIONS), f"{rate:.0f}", "2"], stage.caller() if kind == "shim" else None)
        return numbers(text)

    s = measure({"plain": lambda: open_loop("plain", port), "shim": lambda: open_loop("shim", shim_port),
                 best: lambda: open_loop(best, pairs[best][1])}, "plain", "p50_us")
    yield Row.of("4", f"p99 at {rate:.0f} requests/s, open loop: shim / best pair", 0.15, "lower", s, lambda p: p["shim"]["p99_us"] / p[best]["p99_us"])


@family("6")
def bulk(stage):
    size = 512 << 20

    def client(kind, pids, port):
        v = stage.peer_client(kind, pids, "bulk", "127.0.0.1", port, size)
        cpu = v["client_ns"] + v["server_ns"]
        return {"gb_cpu_s": size / cpu, "gb_s": size / v["wall_ns"], "sender_ns_kib": v["client_ns"] / size * 1024,
                "receiver_ns_kib": v["server_ns"] / size * 1024}

    s = measure(three(stage, stage.peer, client), "plain", "gb_cpu_s")
    yield Row.of("6a", "bytes a CPU second, one stream: shim / own TLS", 1.30, "higher", s, lambda p: p["shim"]["gb_cpu_s"] / p["own"]["gb_cpu_s"])
    yield Row.of("6b", "bytes a CPU second, one stream: shim / plain", 0.58, "higher", s, lambda p: p["shim"]["gb_cpu_s"] / p["plain"]["gb_cpu_s"])
    s.steady_by = "gb_s"
    yield Row.of("6c", "throughput, one stream: shim / own TLS", 1.30, "higher", s, lambda p: p["shim"]["gb_s"] / p["own"]["gb_s"])
    yield Row.of("6d", "throughput, one stream: shim / plain", 0.58, "higher", s, lambda p: p["shim"]["gb_s"] / p["plain"]["gb_s"])


@family("7")
def handshakes(stage):
    def side(mode):
        def one():
            return numbers(run([f"{PROGRAMS}/handshake_bench", mode, "60"])[0])
        return one

    s = measure({m: side(m) for m in ("openssl", "first", "again")}, "openssl", "handshake_ns")
    for row, mode, goal, name in (("7a", "first", 0.60, "peer never seen"), ("7b", "again", 0.40, "peer seen before")):
        yield Row.of(row, f"CPU of a mutual handshake, both ends: shim / SSL API, {name}", goal, "lower", s,
                     lambda p, mode=mode: p[mode]["handshake_ns"] / p["openssl"]["handshake_ns"])


@family("8")
def resumption(stage):
    n = 150

    def client(kind, pids, port):
        v = stage.peer_client(kind, pids, "connects", "127.0.0.1", port, n)
        return {"cpu_us": (v["client_ns"] + v["server_all_ns"]) / n / 1e3, "per_s": n / v["wall_ns"] * 1e9}

    s = measure(three(stage, stage.peer, client), "plain", "cpu_us")
    yield Row.of("8a", "connects a CPU second: shim resumed, one process / own TLS full", 3.0, "higher", s, lambda p: p["own"]["cpu_us"] / p["shim"]["cpu_us"])
    yield Row.of("8b", "connects/s: shim resumed, one process / own TLS full", 3.0, "higher", s, lambda p: p["shim"]["per_s"] / p["own"]["per_s"])


def view_file(stage, name, services):
    """services: {NAME:PORT: (endpoints, more lines)}"""
    path = f"{stage.work}/{name}.yaml"
    with open(path, "w") as f:
        f.write("services:\n")
        for service, (endpoints, more) in services.items():
            f.write(f"  {service}:\n    endpoints: [{', '.join(endpoints)}]\n" + "".join(f"    {line}\n" for line in more))
    return path


@family("9")
def names(stage):
    view = view_file(stage, "names", {f"service-{i}.shop.mesh:80": ([f"10.0.{i >> 8}.{i & 255}:80"], []) for i in range(1000)})

    def side(host, n, env=None):
        return lambda: numbers(run([f"{PROGRAMS}/peer", "resolve", host, str(n)], env)[0])

    s = measure({"localhost": side("localhost", 20000), "mesh": side("service-7.shop.mesh", 200000, stage.mesh("web", MESH_VIEW=view))},
                "localhost", "lookup_ns")
    yield Row.of("9", "getaddrinfo of a mesh name / localhost from a hosts file", 0.10, "lower", s,
                 lambda p: p["mesh"]["lookup_ns"] / p["localhost"]["lookup_ns"])


@family("10")
def balanced_connect(stage):
    pids, port = stage.peer("plain")
    many = [f"127.1.{i >> 8}.{i & 255}:{port}" for i in range(10000)]
    view = view_file(stage, "many", {f"many.shop.mesh:{port}": (many, ["policy: least_request", "tls: off"])})

    def side(how, host, env=None):
        return lambda: numbers(run([f"{PROGRAMS}/peer", how, host, str(port), "5000"], env)[0])

    mesh = side("dial", "many.shop.mesh", stage.mesh("web", MESH_VIEW=view))
    mesh()
    s = measure({"plain": side("spread", "127.1.0.0"), "mesh": mesh}, "plain", "connect_ns")  # the same 10,000 addresses
    stage.stop(*pids)
    yield Row.of("10", "connect, raw_buffer, P2C over 10,000 endpoints / plain", 1.05, "lower", s,
                 lambda p: p["mesh"]["connect_ns"] / p["plain"]["connect_ns"])


@family("11")
def instructions(stage):
    out = f"{stage.work}/callgrind"

    def count(call, n, env):
        run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", f"{PROGRAMS}/calls", call, str(n)], env)
        with open(out) as f:
            return int(re.search(r"^(?:summary|totals): (\d+)", f.read(), re.M)[1])

    for row, call, calls, name in (("11a", "both", 2, "send or recv"), ("11b", "poll", 1, "poll"), ("11c", "epoll_wait", 1, "epoll_wait")):
        each = [(count(call, 3000, env) - count(call, 1000, env)) / 2000 / calls for env in (None, {"LD_PRELOAD": LIB})]
        yield Row(row, f"instructions added to {name}, not a mesh descriptor", 10, "lower", [each[1] - each[0]],
                  {"bare": each[0], "preloaded": each[1]})


@family("12")
def attaching(stage):
    def once():
        text, _, _ = run([f"{PROGRAMS}/attach", "200", "/bin/true", LIB])
        lines = [float(re.search(r"median\s+([\d.]+)", line)[1]) for line in text.splitlines()]
        return {"bare_us": lines[0], "preloaded_us": lines[1]}

    s = measure({"exec": once}, "exec", "bare_us")
    yield Row.of("12a", "exec /bin/true: preloaded / bare", 1.12, "lower", s, lambda p: p["exec"]["preloaded_us"] / p["exec"]["bare_us"])


@family("12", "15")
def view(stage):
    def once():
        os.makedirs(f"{stage.work}/view", mode=0o700, exist_ok=True)
        text, _, _ = run([f"{PROGRAMS}/view_bench", f"{stage.work}/view"])
        attach = [float(x) for x in re.findall(r"^attach and detach\s+([\d.]+) us", text, re.M)]
        loads = re.findall(r"^load 100,000 endpoints\s+([\d.]+) ns an endpoint.*whole ([\d.]+) ms", text, re.M)
        change = re.search(r"^change of one cluster\s+([\d.]+) ns", text, re.M)
        if len(attach) != 2 or not loads or not change:
            raise Broken(f"view_bench printed: {text[-200:]}")
        return {"attach_small_us": attach[0], "attach_large_us": attach[1], "endpoint_ns": float(loads[-1][0]),
                "load_ms": float(loads[-1][1]), "change_ns": float(change[1])}

    s = measure({"view": once}, pairs=3)
    yield Row.of("12b", "attach at 100,000 / at 1,000 endpoints", 1.1, "lower", s, lambda p: p["view"]["attach_large_us"] / p["view"]["attach_small_us"])
    yield Row.of("15a", "one cluster's change / full load of 100,000", 0.001, "lower", s, lambda p: p["view"]["change_ns"] / p["view"]["load_ms"] / 1e6)
    yield Row.of("15b", "ns an endpoint of a full load", 100, "lower", s, lambda p: p["view"]["endpoint_ns"])


@family("13")
def private_memory(stage):
    view = view_file(stage, "idle", {"reviews.shop.mesh:80": (["10.0.0.1:80"], [])})

    def idle(env):
        pid = stage.waits([f"{PROGRAMS}/peer", "wait", "localhost"], env, "waiting")
        found = memory(pid, "Private_Dirty")
        stage.stop(pid)
        return {"bytes": found}

    sides = {"bare": lambda: idle(None), "unconfigured": lambda: idle({"LD_PRELOAD": LIB}), "mesh": lambda: idle(stage.caller(MESH_VIEW=view, MESH_INBOUND="strict"))}
    s = measure(sides, "bare", "bytes")
    yield Row.of("13a", "private KiB of an idle process in the mesh, over a bare one's", 128, "lower", s, lambda p: (p["mesh"]["bytes"] - p["bare"]["bytes"]) / 1024)

    def held(kind, few=200, many=1800):
        """Private bytes that a connection more costs at each end."""
        found = {}
        for n in (few, many):
            pids, port = stage.peer(kind)
            argv = [f"{PROGRAMS}/peer", *stage.peer_tls(kind, "web"), "hold", "127.0.0.1", str(port), str(n)]
            client = stage.waits(argv, stage.caller() if kind == "shim" else None, "held")
            time.sleep(0.3)
            found[n] = memory(client, "Private_Dirty"), memory(pids[0], "Private_Dirty")
            stage.stop(client, *pids)
        return {end: (found[many][i] - found[few][i]) / (many - few) for i, end in enumerate(("client", "server"))}

    s = measure({k: lambda k=k: held(k) for k in ("plain", "own", "shim")}, pairs=3)
    yield Row.of("13b", "private KiB of an idle mesh connection, the larger end", 2, "lower", s,
                 lambda p: max(p["shim"][e] - p["plain"][e] for e in ("client", "server")) / 1024)


@family("14")
def shared_view(stage):
    each = [f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}:80" for i in range(100000)]
    large = view_file(stage, "large", {f"s{i}.shop.mesh:80": (each[i * 100:i * 100 + 100], []) for i in range(1000)})
    small = view_file(stage, "small", {"s0.shop.mesh:80": (each[:1], [])})

    def pss(file, n):
        env = stage.mesh("web", MESH_VIEW=file)
        pids = [stage.waits([f"{PROGRAMS}/peer", "wait", "s0.shop.mesh"], env, "waiting") for _ in range(n)]
        total = sum(memory(p, "Pss") for p in pids)
        stage.stop(*pids)
        return total

    def once():
        shared = pss(large, 50) - pss(small, 50)
        size = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(f"{stage.work}/mesh-web") for f in files if os.path.getsize(os.path.join(d, f)) > 1 << 20)
        return {"shared_bytes": shared, "copy_bytes": size}

    s = measure({"view": once}, pairs=1)
    yield Row.of("14", "PSS of 50 processes on 100,000 endpoints / 50 copies", 0.03, "lower", s,
                 lambda p: p["view"]["shared_bytes"] / (50 * p["view"]["copy_bytes"]))


@family("17")
def tails(stage):
    text, _, _ = run([f"{PROGRAMS}/lb_bench"], limit=600)
    found = {}
    for name, equal, mixed in re.findall(r"^(random|round robin, .*?|p2c, .*?)\s{2,}([\d.]+)\s+([\d.]+)$", text.partition("p99,")[2], re.M):
        found[name + ", equal"], found[name + ", mixed"] = float(equal), float(mixed)
    try:
        first = found["p2c, shared by host, equal"] / found["round robin, per process, equal"]
        second = found["p2c, shared by host, mixed"] / found["p2c, per process, mixed"]
    except KeyError:
        raise Broken(f"lb_bench printed: {text[-200:]}") from None
    names = [name[:-len(", equal")] for name in found if name.endswith(", equal")]
    plot.tails({n: (found[n + ", equal"], found[n + ", mixed"]) for n in names})
    yield Row("17a", "simulated p99: shared P2C / per-process round robin", 0.60, "lower", [first], found)
    yield Row("17b", "simulated p99, mixed speeds: shared P2C / per-process P2C", 0.30, "lower", [second], found)


@family("18")
def maglev(stage):
    text, _, _ = run([f"{PROGRAMS}/maglev_bench"])
    v = numbers("\n".join(line for line in text.splitlines() if not line.startswith("curve ")))
    plot.distribution({line.split(":")[0][len("curve "):]: [float(x) for x in line.split(":")[1].split()]
                       for line in text.splitlines() if line.startswith("curve ")})
    yield Row("18a", "Maglev, 1,000 endpoints: largest share / mean", 1.01, "lower", [v["max_over_mean"]], v)
    yield Row("18b", "Maglev, one of 1,000 gone: share of other moves", 0.007, "lower", [v["extra_moves"]], v)
