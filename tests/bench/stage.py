# SPDX-License-Identifier: Apache-2.0
"""The servers and clients of the rows: nginx, redis, peer, each in plain TCP, with TLS of its own, or in the mesh, and pairs of
sidecars. Runs in a network namespace of its own, where ports clash with nobody."""
import os
import re
import signal
import subprocess
import time

from harness import Broken, environment, numbers, run

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
BUILD = os.environ["BUILD"]
LIB = os.path.join(BUILD, "libmeshshim.so")
PROGRAMS = os.path.join(BUILD, "tests/bench")
SUITE = "TLS_AES_128_GCM_SHA256"  # what the mesh prefers: ciphers are not what is compared


class Stage:
    def __init__(self, work, pki):
        self.work, self.pki, self.started, self.ports = work, pki, {}, 20000

    # ---- who is who ----

    def port(self):
        self.ports += 1
        return self.ports

    def mesh(self, name, **more):
        """The variables of a program in the mesh: every loopback connection is mutual TLS."""
        env = {
            "LD_PRELOAD": LIB,
            "MESH_CERT": f"{self.pki}/{name}-chain.pem",
            "MESH_KEY": f"{self.pki}/{name}.key",
            "MESH_CA": f"{self.pki}/ca.pem",
            "MESH_RUN_DIR": f"{self.work}/mesh-{name}",
        }
        env.update(more)
        return env

    def caller(self, **more):
        return self.mesh("web", MESH_CAPTURE="127.0.0.0/8", **more)

    def called(self, **more):
        return self.mesh("reviews", MESH_INBOUND="strict", **more)

    # ---- processes ----

    def serve(self, name, port, argv, env=None):
        """Starts a server and waits until it listens; its pid."""
        with open(f"{self.work}/{name}.log", "w") as log:
            p = subprocess.Popen(argv, env=environment(env), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.started[p.pid] = p
        for _ in range(200):
            if listening(port):
                time.sleep(0.05)
                return p.pid
            if p.poll() is not None:
                break
            time.sleep(0.05)
        with open(f"{self.work}/{name}.log") as log:
            raise Broken(f"{name} does not start: {log.read().strip()[-200:]}")

    def waits(self, argv, env, word):
        """Starts a program that prints `word` and then idles."""
        p = subprocess.Popen(argv, env=environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.started[p.pid] = p
        line = p.stdout.readline()
        if word not in line:
            raise Broken(f"{os.path.basename(argv[0])}: {line.strip()}")
        return p.pid

    def stop(self, *pids):
        for pid in pids:
            p = self.started.pop(pid)
            p.send_signal(signal.SIGTERM)
            try:
                p.wait(5)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()

    def stop_all(self):
        self.stop(*list(self.started))

    # ---- servers; each gives (pids, port) ----

    def nginx(self, kind):
        port, name = self.port(), f"nginx-{kind}"
        tls = f"""ssl_certificate {self.pki}/reviews-chain.pem; ssl_certificate_key {self.pki}/reviews.key; ssl_protocols TLSv1.3;
            ssl_conf_command Ciphersuites {SUITE};""" if kind == "own" else ""
        with open(f"{self.work}/{name}.conf", "w") as f:
            f.write(f"""daemon off; worker_processes 1; pid {self.work}/{name}.pid; error_log {self.work}/{name}.err; {user()}
            events {{ worker_connections 512; }}
            http {{ access_log off; keepalive_requests 100000000; default_type text/plain;
              client_body_temp_path {self.work}/b; proxy_temp_path {self.work}/p; fastcgi_temp_path {self.work}/f;
              uwsgi_temp_path {self.work}/u; scgi_temp_path {self.work}/s;
              server {{ listen 127.0.0.1:{port} {"ssl" if tls else ""}; {tls} location / {{ return 200 "{"x" * 1024}"; }} }} }}""")
        return [self.serve(name, port, ["nginx", "-c", f"{self.work}/{name}.conf"], self.called() if kind == "shim" else None)], port

    def redis(self, kind):
        port, name = self.port(), f"redis-{kind}"
        argv = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--dir", self.work, "--protected-mode", "no"]
        if kind == "own":
            argv += ["--port", "0", "--tls-port", str(port), "--tls-cert-file", f"{self.pki}/reviews-chain.pem", "--tls-key-file",
                     f"{self.pki}/reviews.key", "--tls-ca-cert-file", f"{self.pki}/ca.pem", "--tls-protocols", "TLSv1.3",
                     "--tls-ciphersuites", SUITE]
        else:
            argv += ["--port", str(port)]
        pid = self.serve(name, port, argv, self.called() if kind == "shim" else None)
        run(["redis-cli", *self.redis_tls(kind), "-p", str(port), "set", "key:__rand_int__", "x" * 64], self.caller() if kind == "shim" else None)
        return [pid], port

    def redis_tls(self, kind):
        return ["--tls", "--cert", f"{self.pki}/web-chain.pem", "--key", f"{self.pki}/web.key", "--cacert", f"{self.pki}/ca.pem"] if kind == "own" else []

    def peer_tls(self, kind, name):
        return ["-t", f"{self.pki}/{name},{self.pki}/ca.pem"] if kind == "own" else []

    def peer(self, kind):
        port = self.port()
        argv = [f"{PROGRAMS}/peer", *self.peer_tls(kind, "reviews"), "serve", str(port)]
        return [self.serve(f"peer-{kind}", port, argv, self.called() if kind == "shim" else None)], port

    # ---- sidecar pairs in front of a plain backend: mutual TLS 1.3 between the two of them, one worker each ----

    def haproxy_pair(self, backend):
        front, back, pids = self.port(), self.port(), []
        who = {"in": ("reviews", f"bind 127.0.0.1:{back} ssl crt {self.work}/reviews.both ca-file {self.pki}/ca.pem verify required",
                      f"server s 127.0.0.1:{backend}", back),
               "out": ("web", f"bind 127.0.0.1:{front}",
                       f"server s 127.0.0.1:{back} ssl crt {self.work}/web.both ca-file {self.pki}/ca.pem verify required", front)}
        for side, (name, bind, server, port) in who.items():
            with open(f"{self.work}/{name}.both", "w") as f:
                for part in ("-chain.pem", ".key"):
                    with open(f"{self.pki}/{name}{part}") as source:
                        f.write(source.read())
            tls = f"ssl-default-{'bind' if side == 'in' else 'server'}"
            with open(f"{self.work}/haproxy-{side}.cfg", "w") as f:
                f.write(f"""global
  nbthread 1
  {tls}-options ssl-min-ver TLSv1.3
  {tls}-ciphersuites {SUITE}
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen l
  {bind}
  {server}
""")
            pids.append(self.serve(f"haproxy-{side}", port, ["haproxy", "-db", "-f", f"{self.work}/haproxy-{side}.cfg"]))
        return pids, front

    def stream_pair(self, backend):
        front, back, pids = self.port(), self.port(), []
        ssl = f"ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites {SUITE};"
        who = {"in": (back, f"""listen 127.0.0.1:{back} ssl; ssl_certificate {self.pki}/reviews-chain.pem; {ssl}
                 ssl_certificate_key {self.pki}/reviews.key; ssl_client_certificate {self.pki}/ca.pem; ssl_verify_client on;
                 proxy_pass 127.0.0.1:{backend};"""),
               "out": (front, f"""listen 127.0.0.1:{front}; proxy_pass 127.0.0.1:{back}; proxy_ssl on; {ssl.replace("ssl_", "proxy_ssl_")}
                 proxy_ssl_certificate {self.pki}/web-chain.pem; proxy_ssl_certificate_key {self.pki}/web.key;""")}
        for side, (port, server) in who.items():
            name = f"stream-{side}"
            with open(f"{self.work}/{name}.conf", "w") as f:
                f.write(f"""load_module {stream_module()}; daemon off; worker_processes 1; pid {self.work}/{name}.pid;
                error_log {self.work}/{name}.err; {user()} events {{ worker_connections 512; }}
                stream {{ tcp_nodelay on; proxy_timeout 1h; server {{ {server} }} }}""")
            pids.append(self.serve(name, port, ["nginx", "-c", f"{self.work}/{name}.conf"]))
        return pids, front

    # ---- clients: what one run of them cost ----

    def wrk(self, kind, servers, port, connections, seconds):
        scheme = "https" if kind == "own" else "http"
        text, ours, theirs = run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"{scheme}://127.0.0.1:{port}/"],
                                 self.caller() if kind == "shim" else None, servers)
        done = re.search(r"(\d+) requests in ([\d.]+)s", text)
        if not done or int(done[1]) == 0 or "Non-2xx" in text or "Socket errors" in text:
            raise Broken(f"wrk, {kind}: {text.strip()[-200:]}")
        n = int(done[1])
        return {"cpu_us": (ours + theirs) / n / 1e3, "client_us": ours / n / 1e3, "server_us": theirs / n / 1e3,
                "rps": n / float(done[2]), "p50_us": quantile(text, "50"), "p99_us": quantile(text, "99")}

    def redis_benchmark(self, kind, servers, port, connections, requests):
        text, ours, theirs = run(["redis-benchmark", *self.redis_tls(kind), "-p", str(port), "-t", "get", "-d", "64", "-c", str(connections),
                                  "-n", str(requests), "--csv"], self.caller() if kind == "shim" else None, servers)
        rate = re.search(r'"GET","([\d.]+)"', text)
        if not rate:
            raise Broken(f"redis-benchmark, {kind}: {text.strip()[-200:]}")
        return {"cpu_us": (ours + theirs) / requests / 1e3, "client_us": ours / requests / 1e3, "server_us": theirs / requests / 1e3,
                "rps": float(rate[1])}

    def peer_client(self, kind, servers, *words):
        text, ours, theirs = run([f"{PROGRAMS}/peer", *self.peer_tls(kind, "web"), *map(str, words)], self.caller() if kind == "shim" else None, servers)
        return numbers(text) | {"client_all_ns": ours, "server_all_ns": theirs}


def user():
    return "user www-data;" if os.getuid() == 0 else ""


def stream_module():
    return "/usr/lib/nginx/modules/ngx_stream_module.so"


def quantile(text, q):
    m = re.search(rf"^\s+{q}%\s+([\d.]+)(us|ms|s)$", text, re.M)
    return float(m[1]) * {"us": 1, "ms": 1e3, "s": 1e6}[m[2]] if m else 0.0


def listening(port):
    want = f":{port:04X}"
    with open("/proc/net/tcp") as f:
        return any(w[3] == "0A" and w[1].endswith(want) for w in (line.split() for line in f) if len(w) > 3)


def memory(pid, key):
    """A field of smaps_rollup, in bytes."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        for line in f:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    raise Broken(f"no {key} of process {pid}")
