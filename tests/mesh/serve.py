# SPDX-License-Identifier: Apache-2.0
"""serve.py HOW HOST:PORT FILE: answers lines with "served:line"; writes where it listens into FILE.

HOW: threads; select (one thread, one loop); first (says "220 hello" before anything else); prefork; fork (a child a
connection); exec:PROGRAM... (listens without the library and execs itself with it, descriptor 3 is the listener);
ssl:CERT:KEY (its own TLS); faulty:FILE (FILE says at each connection: ok, reset, slow)."""
import os, select, signal, socket, struct, sys, threading, time

how, at, file = sys.argv[1:4]
host, port = at.rsplit(":", 1)
if how == "inherited":
    s = socket.socket(fileno=3)
else:
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host.strip("[]"), int(port)))
    s.listen(64)


def told():
    n = s.getsockname()
    with open(file + ".new", "w") as f:
        f.write("%s:%d" % ("[%s]" % n[0] if ":" in n[0] else n[0], n[1]))
    os.rename(file + ".new", file)


def serve(c):
    try:
        if how == "first":
            c.sendall(b"220 hello\n")
        if how.startswith("ssl:"):
            import ssl
            x = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            x.load_cert_chain(*how.split(":")[1:])
            c = x.wrap_socket(c, server_side=True)
        fault = open(how[7:]).read() if how.startswith("faulty:") else "ok"
        if fault == "reset":
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.close()
            return
        while True:
            d = c.recv(65536)
            if not d:
                break
            if fault == "slow":
                time.sleep(0.2)
            c.sendall(b"served:" + d)
    except OSError:
        pass
    c.close()


if how == "activate":  # what systemd does: the parent, without the library, listens; the child is under it
    told()
    os.dup2(s.fileno(), 3)
    os.set_inheritable(3, True)
    env = dict(os.environ, LD_PRELOAD=os.environ["ACTIVATE_PRELOAD"])
    os.execve(sys.executable, [sys.executable, __file__, "inherited", at, file], env)
if how == "prefork":
    for _ in range(3):
        if os.fork() == 0:
            while True:
                serve(s.accept()[0])
    told()
    signal.pause()
if how == "fork":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    told()
    while True:
        c = s.accept()[0]
        if os.fork() == 0:
            serve(c)
            os._exit(0)
        c.close()
if how == "select":
    told()
    s.setblocking(False)
    live = [s]
    while True:
        for x in select.select(live, [], [])[0]:
            try:
                if x is s:
                    c = s.accept()[0]
                    c.setblocking(False)
                    live.append(c)
                    continue
                d = x.recv(65536)
                if d:
                    x.sendall(b"served:" + d)
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            if x is not s:
                live.remove(x)
                x.close()
if how != "inherited":
    told()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
