# SPDX-License-Identifier: Apache-2.0
"""balance.py config FILE | compare CTL FILE: the endpoints that Envoy and `meshctl pick --hash` choose for the same keys.

config writes a bootstrap with a cluster for each policy, weighted or not, with and without one endpoint, each behind a path
of one listener that hashes the header x-key. compare reads the same file as a view, plays the backends, asks Envoy and
meshctl for each of 1,000 keys, and prints a line of TAP a cluster."""
import concurrent.futures, http.client, json, os, socketserver, subprocess, sys, threading

PORT, FIRST, HOSTS, KEYS, GONE = 22000, 22100, 12, 1000, 5
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
POLICIES = {
    "ring": {"lb_policy": "RING_HASH"},
    "murmur": {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"hash_function": "MURMUR_HASH_2", "minimum_ring_size": 4096}},
    "maglev": {"lb_policy": "MAGLEV"},
    "small": {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 1009}},
}


def name_of(policy, weighted, removed):
    return "%s-%s-%s.mesh" % (policy, "weighted" if weighted else "even", "after" if removed else "before")


NAMES = [name_of(p, w, r) for p in POLICIES for w in (0, 1) for r in (0, 1)]


def cluster(name):
    policy, weighted, removed = name.removesuffix(".mesh").split("-")
    hosts = [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": FIRST + i}}},
              **({"load_balancing_weight": 1 + i * i % 7} if weighted == "weighted" else {})}
             for i in range(HOSTS) if removed == "before" or i != GONE]
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", **POLICIES[policy],
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]}}


def config():
    routes = [{"match": {"prefix": "/" + n}, "route": {"cluster": n, "hash_policy": [{"header": {"header_name": "x-key"}}]}} for n in NAMES]
    hcm = {"@type": HCM, "stat_prefix": "x", "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
           "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}}
    return {"static_resources": {"clusters": [cluster(n) for n in NAMES], "listeners": [
        {"name": "in", "address": {"socket_address": {"address": "127.0.0.1", "port_value": PORT}},
         "filter_chains": [{"filters": [{"name": "http", "typed_config": hcm}]}]}]}}


class Backend(socketserver.StreamRequestHandler):
    """Answers each request with its own port."""

    def handle(self):
        body = b"%d" % self.server.server_address[1]
        while True:
            line = self.rfile.readline()
            if not line:
                return
            if line == b"\r\n":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


class Threads(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128


def envoy(name, keys):
    c, got = http.client.HTTPConnection("127.0.0.1", PORT), []
    for k in keys:
        c.request("GET", "/" + name, headers={"x-key": k})
        got.append("127.0.0.1:" + c.getresponse().read().decode())
    return got


def ours(ctl, view, name, keys):
    def one(key):
        r = subprocess.run([ctl, "pick", name + ":80", "--hash", key], env={**os.environ, "MESH_VIEW": view}, capture_output=True, text=True)
        return r.stdout.strip() or r.stderr.strip()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, keys))


def compare(ctl, view):
    for i in range(HOSTS):
        threading.Thread(target=Threads(("127.0.0.1", FIRST + i), Backend).serve_forever, daemon=True).start()
    keys, bad = ["key-%d" % i for i in range(KEYS)], 0
    for name in NAMES:
        theirs, mine = envoy(name, keys), ours(ctl, view, name, keys)
        wrong = [(k, a, b) for k, a, b in zip(keys, theirs, mine) if a != b]
        used = len(set(theirs))
        bad += bool(wrong)
        print("%s - %s: the same endpoint for %d of %d keys (%d endpoints)" % ("not ok" if wrong else "ok", name, KEYS - len(wrong), KEYS, used))
        for k, a, b in wrong[:3]:
            print("#   %s: Envoy %s, ours %s" % (k, a, b))
    sys.exit(1 if bad else 0)


if sys.argv[1] == "config":
    with open(sys.argv[2], "w") as f:
        json.dump(config(), f)
else:
    compare(*sys.argv[2:])
