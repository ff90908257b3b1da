# SPDX-License-Identifier: Apache-2.0
"""A control plane in a few lines, for `make check`: state-of-the-world ADS over gRPC over plain HTTP/2, with Python's own
library alone. It knows EDS clusters and their endpoints, answers requests for them by name, and can go away, be silent, or
talk rubbish. Real ones are in tests/interop/xds."""
import contextlib, json, socket, struct, threading

PREFIX = "type.googleapis.com/envoy.config."
CDS, EDS = PREFIX + "cluster.v3.Cluster", PREFIX + "endpoint.v3.ClusterLoadAssignment"


# ---- protobuf ----
def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(p):
    i = 0

    def number():
        nonlocal i
        n = shift = 0
        while True:
            n |= (p[i] & 127) << shift
            shift, i = shift + 7, i + 1
            if p[i - 1] < 128:
                return n

    while i < len(p):
        tag = number()
        if tag & 7 == 2:
            n = number()
            yield tag >> 3, p[i:i + n]
            i += n
        else:
            yield tag >> 3, number() if tag & 7 == 0 else None


def cluster(name):
    return field(1, name) + field(2, 3) + field(3, field(1, field(3, b"")))


def assignment(name, ats):
    def endpoint(at):
        host, port = at.rsplit(":", 1)
        return field(2, field(1, field(1, field(1, field(2, host) + field(3, int(port))))))
    return field(1, name) + field(2, b"".join(endpoint(a) for a in ats))


# ---- HTTP/2 and gRPC ----
def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class ControlPlane:
    """with names and their endpoints: ControlPlane({"a.mesh:80": ["127.0.0.1:8080"]}); put() changes them. how: serve, silent
    (reads and says nothing), rubbish, refuse (connections end at once). tls: an ssl.SSLContext to serve with."""

    def __init__(self, clusters=None, tls=None):
        self.tls = tls
        self.clusters, self.version, self.how = dict(clusters or {}), 1, "serve"
        self.lock, self.streams, self.opened, self.asked = threading.RLock(), [], 0, set()
        self.nonce = 0
        self.s = None
        self.port = 0
        self.start()

    @property
    def bootstrap(self):
        return json.dumps({"xds_servers": [{"server_uri": "127.0.0.1:%d" % self.port, "channel_creds": [{"type": "insecure"}]}],
                           "node": {"id": "test"}})

    def start(self):
        self.s = socket.socket()
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.s.bind(("127.0.0.1", self.port))
        self.s.listen(64)
        self.port = self.s.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.s,), daemon=True).start()

    def stop(self):
        """As if it were killed."""
        with contextlib.suppress(OSError):
            self.s.shutdown(socket.SHUT_RDWR)
        self.s.close()
        self.cut()

    def cut(self):
        with self.lock:
            for s in self.streams:
                with contextlib.suppress(OSError):
                    s["sock"].shutdown(socket.SHUT_RDWR)
            self.streams.clear()

    def put(self, clusters):
        with self.lock:
            self.clusters, self.version = dict(clusters), self.version + 1
            for s in self.streams:
                for url in s["names"]:
                    self.respond(s, url)

    def accept(self, listener):
        while True:
            try:
                c, _ = listener.accept()
            except OSError:
                return
            if self.how == "refuse":
                c.close()
                continue
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        s = {"sock": c, "names": {}, "id": 0, "data": b"", "out": b"", "room": [65535, 65535]}
        with contextlib.suppress(OSError, ValueError, struct.error, IndexError):
            c = s["sock"] = self.tls.wrap_socket(c, server_side=True) if self.tls else c
            f = c.makefile("rb")
            f.read(24)
            c.sendall(frame(4, 0, 0))
            while True:
                head = f.read(9)
                if len(head) < 9:
                    break
                n, kind, flags, stream = int.from_bytes(head[:3], "big"), head[3], head[4], int.from_bytes(head[5:], "big")
                self.take(s, kind, flags, stream, f.read(n))
        with self.lock:
            if s in self.streams:
                self.streams.remove(s)
        c.close()

    def take(self, s, kind, flags, stream, payload):
        with self.lock:
            if kind == 4 and not flags & 1:
                for at in range(0, len(payload), 6):
                    what, value = struct.unpack(">HI", payload[at:at + 6])
                    s["room"][1] += value - 65535 if what == 4 else 0
                s["sock"].sendall(frame(4, 1, 0))
            elif kind == 8:
                s["room"][stream != 0] += int.from_bytes(payload, "big")
                self.flush(s)
            elif kind == 6 and not flags & 1:
                s["sock"].sendall(frame(6, 1, 0, payload))
            elif kind == 1:
                s["id"] = stream
                self.opened += 1
                self.streams.append(s)
                if self.how == "rubbish":
                    s["sock"].sendall(b"\xde\xad\xbe\xef" * 64)
                elif self.how == "serve":
                    s["sock"].sendall(frame(1, 4, stream, b"\x88\x0f\x10\x10application/grpc"))
            elif kind == 0:
                s["data"] += payload
                for at in (0, stream):
                    s["sock"].sendall(frame(8, 0, at, struct.pack(">I", max(len(payload), 1))))
                self.messages(s)

    def flush(self, s):
        while s["out"] and min(s["room"]) > 0:
            n = min(len(s["out"]), 16384, *s["room"])
            s["sock"].sendall(frame(0, 0, s["id"], s["out"][:n]))
            s["out"], s["room"] = s["out"][n:], [r - n for r in s["room"]]

    def messages(self, s):
        while len(s["data"]) >= 5:
            n = int.from_bytes(s["data"][1:5], "big")
            if len(s["data"]) < 5 + n:
                return
            message, s["data"] = s["data"][5:5 + n], s["data"][5 + n:]
            names, url, nonce = [], "", ""
            for number, value in fields(message):
                if number == 3:
                    names.append(value.decode())
                elif number == 4:
                    url = value.decode()
                elif number == 5:
                    nonce = value.decode()
            self.asked.update(names)
            if not nonce or s["names"].get(url) != names:
                s["names"][url] = names
                self.respond(s, url)

    def respond(self, s, url):
        if self.how != "serve":
            return
        made = {CDS: lambda n: cluster(n), EDS: lambda n: assignment(n, self.clusters[n])}.get(url)
        known = [n for n in self.clusters if n in s["names"][url]] if made else []
        self.nonce += 1
        m = field(1, str(self.version)) + b"".join(field(2, field(1, url) + field(2, made(n))) for n in known) + field(4, url) + field(
            5, str(self.nonce))
        with contextlib.suppress(OSError):
            s["out"] += b"\0" + struct.pack(">I", len(m)) + m
            self.flush(s)
