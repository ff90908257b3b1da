# SPDX-License-Identifier: Apache-2.0
"""A connection at rest: records without data (KeyUpdate) are no event of any wait, and what comes behind them is."""
from mesh import *

# Waits with the way's own call until data comes; answers "N:data" with the number of waits that ended without any.
WAITER = """
import select, socket, sys, os
way, file = sys.argv[1:]
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(5)
open(file + ".new", "w").write("127.0.0.1:%d" % s.getsockname()[1]); os.rename(file + ".new", file)
c = s.accept()[0]
if way.startswith("blocking-"): way = way[9:]
else: c.setblocking(False)
e = select.epoll()
flags = {"et": select.EPOLLET, "oneshot": select.EPOLLONESHOT}.get(way, 0)
if way in ("lt", "et", "oneshot"): e.register(c, select.EPOLLIN | flags)
p = select.poll(); p.register(c, select.POLLIN)
while True:
    empty = 0
    while True:
        if way == "oneshot": e.modify(c, select.EPOLLIN | flags)
        if way == "poll": got = p.poll(20000)
        elif way == "select": got = select.select([c], [], [], 20)[0]
        elif way == "zero":
            import time
            time.sleep(0.3); got = p.poll(0)
            if not got: continue
        else: got = e.poll(20)
        assert got, "out of time"
        try: d = c.recv(100, socket.MSG_DONTWAIT)
        except BlockingIOError: empty += 1; continue
        break
    if not d: break
    c.send(b"%d:" % empty + d)
"""


def openssl(at):
    """A caller that can be told to update its keys."""
    p = subprocess.Popen(["openssl", "s_client", "-connect", at, "-cert", str(PKI / "web.pem"), "-key", str(PKI / "web.key"), "-CAfile",
                          str(PKI / "ca.pem"), "-alpn", "istio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    opened.append(lambda: (p.kill(), p.wait()))
    return p


def answer(p, text):
    p.stdin.write(text + b"\n")
    p.stdin.flush()
    while True:
        line = p.stdout.readline()
        assert line, "the caller ended"
        if line.rstrip().endswith(b":" + text):
            return line.decode().strip()


for way in ("poll", "select", "lt", "et", "oneshot", "zero", "blocking-poll", "blocking-lt"):
    def swallowed(way=way):
        m = Mesh(MESH_INBOUND="strict")
        file = m.dir / "at"
        w = subprocess.Popen([sys.executable, "-c", WAITER, way, str(file)], env=m.env("reviews"))
        opened.append(lambda: (w.kill(), w.wait()))
        p = openssl(eventually("the server listens", lambda: file.exists() and file.read_text()))
        has(answer(p, b"one"), ":one")
        time.sleep(1.5)
        for round in range(3):
            p.stdin.write(b"K\n" if round % 2 else b"k\n")
            p.stdin.flush()
            time.sleep(0.7)
        same(answer(p, b"two"), "0:two")
    case("a KeyUpdate on a connection at rest ends no wait: %s" % way)(swallowed)


main()
