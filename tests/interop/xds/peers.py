# SPDX-License-Identifier: Apache-2.0
"""Control planes for tests, as context managers:

    with GoServer(cache="snapshot") as cp:                  # go-control-plane
        cp.set([{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "a", ...}])
        text = bootstrap(cp.address)                        # for GRPC_XDS_BOOTSTRAP_CONFIG
        ... cp.wait("request", type=CDS, error=ANY) ...     # the first such event, waited for; see go/main.go for them
    with ScriptedServer() as cp:                            # scripted.py: what a server must not do, too
        cp.do("auto", on=False); cp.do("send", type=CDS, response={...}); cp.do("wire", mode="stall")

Everything that a server says is in `events`, in order; `mark()` and `since=` tell old from new.
Run as a program, `peers.py go|scripted [OPTION]...` starts one on the terminal."""

import json
import os
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.abspath(os.environ.get("BUILD", "build"))
OUT = os.path.join(BUILD, "tests", "interop", "xds")
DEADLINE = 60  # against hangs alone

PREFIX = "type.googleapis.com/"
LDS = PREFIX + "envoy.config.listener.v3.Listener"
RDS = PREFIX + "envoy.config.route.v3.RouteConfiguration"
CDS = PREFIX + "envoy.config.cluster.v3.Cluster"
EDS = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
SDS = PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
NDS = PREFIX + "istio.networking.nds.v1.NameTable"
ANY = object()  # matches a field that is there, whatever it says


def setup():
    """Builds what is missing; before a network namespace is entered."""
    subprocess.run(["sh", os.path.join(HERE, "setup.sh")], check=True, env={**os.environ, "BUILD": BUILD})


def bootstrap(*addresses, node=None, creds=None, features=(), **more):
    """A bootstrap's text; creds: of channel_creds, default insecure."""
    servers = [{"server_uri": a, "channel_creds": [creds or {"type": "insecure"}], "server_features": list(features)}
               for a in addresses]
    where = {"region": "r", "zone": "z", "sub_zone": "s"}  # some clients insist on it
    return json.dumps({"xds_servers": servers, "node": node or {"id": "test", "cluster": "test", "locality": where}, **more})


class Failed(Exception):
    pass


class Server:
    """A server process: JSON lines in and out. `address` is where clients go."""

    def __init__(self, argv):
        self.argv = argv
        self.events, self.address = [], None
        self.more = threading.Condition()
        self.process = None

    def __enter__(self):
        setup()
        self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={k: v for k, v in os.environ.items()
                                             if k != "LD_PRELOAD" and not k.startswith("MESH_")})
        threading.Thread(target=self._read, daemon=True).start()
        self.address = self.wait("listening")["address"]
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def _read(self):
        for line in self.process.stdout:
            if not line.endswith("\n"):
                break  # it was killed in the middle of a word
            with self.more:
                self.events.append(json.loads(line))
                self.more.notify_all()
        with self.more:
            self.events.append({"event": "gone"})
            self.more.notify_all()

    def mark(self):
        """How many events there have been."""
        with self.more:
            return len(self.events)

    def find(self, event, since=0, **fields):
        """All events so far of this kind whose fields are these."""
        with self.more:
            return [e for e in self.events[since:] if e["event"] == event and all(
                k in e and (v is ANY or e[k] == v) for k, v in fields.items())]

    def wait(self, event, since=0, count=1, **fields):
        """The count-th such event, waited for."""
        end = time.monotonic() + DEADLINE
        with self.more:
            while True:
                hits = self.find(event, since, **fields)
                if len(hits) >= count:
                    return hits[count - 1]
                if self.events and self.events[-1]["event"] == "gone":
                    raise Failed(f"the server has ended; it said {self.events[-8:]}")
                if time.monotonic() > end:
                    raise Failed(f"no {event} {fields} in {DEADLINE} s; the last were {self.events[-8:]}")
                self.more.wait(1)

    def do(self, op, **fields):
        """One command; raises Failed when the server says that it could not."""
        since = self.mark()
        self.process.stdin.write(json.dumps({"op": op, **fields}) + "\n")
        self.process.stdin.flush()
        done = self.wait("done", since, op=op)
        if "error" in done:
            raise Failed(f"{op}: {done['error']}")

    def set(self, resources, version=""):
        self.do("set", resources=resources, version=version)

    def put(self, *resources, version=""):
        self.do("put", resources=list(resources), version=version)

    def remove(self, type, *names):
        self.do("remove", type=type, names=list(names))

    def stop(self):
        self.do("stop")

    def start(self):
        self.do("start")


def _options(pairs):
    return [x for name, value in pairs.items() if value is not None for x in ("-" + name.replace("_", "-"), str(value))]


class GoServer(Server):
    """go/main.go. cache: snapshot, ads, linear, mux; listen, cert, key, client_ca, heartbeat, types."""

    def __init__(self, **options):
        super().__init__([os.path.join(OUT, "controlplane"), *_options(options)])

    def forget(self):
        """As if it had been started anew on the same port: no resources, versions from the beginning."""
        self.do("forget")


class ScriptedServer(Server):
    """scripted.py. listen, cert, key, client_ca, age (ms after which a connection gets GOAWAY)."""

    def __init__(self, **options):
        super().__init__([os.path.join(OUT, "venv", "bin", "python"), os.path.join(HERE, "scripted.py"), *_options(options)])


if __name__ == "__main__":
    setup()
    kind = {"go": GoServer, "scripted": ScriptedServer}[sys.argv[1]]()
    os.execv(kind.argv[0], kind.argv + sys.argv[2:])
