# SPDX-License-Identifier: Apache-2.0
# load.py WHAT HOST PORT TEXT [N]
import hashlib
import os
import selectors
import socket
import sys
import threading
import time

what, host, port, text = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4].encode()
n = int(sys.argv[5]) if len(sys.argv) > 5 else 0
block = text * (262144 // len(text))


def child(run):
    pid = os.fork()
    if pid == 0:
        try:
            run()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    return pid


def done(pid):
    assert os.waitpid(pid, 0)[1] == 0


listener = socket.create_server(("127.0.0.1", port), backlog=4096)


def receive(s):
    h, size = hashlib.sha256(), 0
    while data := s.recv(1 << 20):
        h.update(data)
        size += len(data)
    return h.hexdigest(), size


def transmit(s, mib):
    h = hashlib.sha256()
    for _ in range(mib * 4):
        s.sendall(block)
        h.update(block)
    s.shutdown(socket.SHUT_WR)
    return h.hexdigest()


def bulk():  # each way at once, with checksums
    def serve():
        c, _ = listener.accept()
        sent = {}
        t = threading.Thread(target=lambda: sent.update(d=transmit(c, n)))
        t.start()
        got, size = receive(c)
        t.join()
        assert size == n * 4 * len(block) and got == sent["d"], (size, got, sent)

    pid = child(serve)
    s = socket.create_connection((host, port))
    sent = {}
    t = threading.Thread(target=lambda: sent.update(d=transmit(s, n)))
    t.start()
    got, size = receive(s)
    t.join()
    assert size == n * 4 * len(block) and got == sent["d"], (size, got, sent)
    done(pid)


def short():
    def serve():
        for _ in range(n):
            c, _ = listener.accept()
            c.sendall(c.recv(1000).upper())
            c.close()

    pid = child(serve)
    before = len(os.listdir("/proc/self/fd"))
    for i in range(n):
        with socket.create_connection((host, port)) as s:
            s.sendall(text)
            got = b""
            while len(got) < len(text):
                part = s.recv(1000)
                assert part, i
                got += part
            assert got == text.upper() and s.recv(1) == b""
    assert len(os.listdir("/proc/self/fd")) == before
    done(pid)


def memory():
    with open("/proc/self/smaps_rollup") as f:
        kb = {line.split()[0]: int(line.split()[1]) for line in f if line.startswith(("Private", "Pss_Shmem", "Pss:"))}
    return kb["Pss:"]


def at_once():
    go, told = os.pipe(), os.pipe()

    def serve():
        conns = []
        base = 0
        for i in range(n):
            c, _ = listener.accept()
            assert c.recv(100) == text
            c.sendall(b"ok")
            conns.append(c)
            if i == 99:
                base = memory()
        per = (memory() - base) * 1024 / (n - 100)
        print("bytes a connection, Python's own socket object included:", round(per), file=sys.stderr)
        os.write(told[1], b"1")
        for c in conns:
            c.sendall(text)
        for c in conns:
            assert c.recv(1) == b""

    pid = child(serve)
    conns = []
    for i in range(n):
        s = socket.create_connection((host, port))
        s.sendall(text)
        assert s.recv(2) == b"ok"
        conns.append(s)
    os.read(told[0], 1)
    for s in conns:
        got = b""
        while len(got) < len(text):
            got += s.recv(1000)
        assert got == text
        s.close()
    done(pid)


def idle():
    def serve():
        c, _ = listener.accept()
        for _ in range(3):
            assert c.recv(100) == text
            time.sleep(n / 4)
            c.sendall(text)

    pid = child(serve)
    s = socket.create_connection((host, port))
    sel = selectors.DefaultSelector()
    s.setblocking(False)
    sel.register(s, selectors.EVENT_READ)
    for _ in range(3):
        time.sleep(0.5)
        s.send(text)
        assert sel.select(30)
        assert s.recv(1000) == text
    done(pid)


def slow():
    size = 6 << 20

    def serve():
        c, _ = listener.accept()
        c.sendall((block * (size // len(block) + 1))[:size])
        c.close()

    pid = child(serve)
    s = socket.create_connection((host, port))
    got = 0
    want = (block * (size // len(block) + 1))[:size]
    while data := s.recv(30000):
        assert data == want[got:got + len(data)]
        got += len(data)
        time.sleep(0.005)
    assert got == size, got
    done(pid)


{"bulk": bulk, "short": short, "at_once": at_once, "idle": idle, "slow": slow}[what]()
