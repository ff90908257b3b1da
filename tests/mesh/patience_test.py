# SPDX-License-Identifier: Apache-2.0
"""Connected means authenticated, with patience: in every way that a program can wait for it."""
from mesh import *

WAYS = """
def wait_poll(s):
    p = select.poll(); p.register(s, select.POLLOUT)
    return bool(p.poll(PATIENT * 1000))
def wait_select(s):
    return bool(select.select([], [s], [], PATIENT)[1])
def wait_epoll(flags):
    def wait(s):
        e = select.epoll(); e.register(s, select.EPOLLOUT | flags)
        r = e.poll(PATIENT); e.close()
        return bool(r)
    return wait
def wait_nested(s):
    e, f = select.epoll(), select.epoll(); f.register(s, select.EPOLLOUT); e.register(f, select.EPOLLIN)
    r = bool(e.poll(PATIENT)) and bool(f.poll(PATIENT)); e.close(); f.close()
    return r
WAYS = {'poll': wait_poll, 'select': wait_select, 'epoll': wait_epoll(0), 'epoll-et': wait_epoll(select.EPOLLET),
        'epoll-oneshot': wait_epoll(select.EPOLLONESHOT), 'nested': wait_nested}
def nb(way):
    s, sa = sock(); begin(s, sa)
    assert WAYS[way](s), 'out of time'
    e = so_error(s)
    if e: s.close(); return e
    s.setblocking(True); r = say(s).replace(':hi', ''); s.close(); return r
def early(flags):
    s, sa = sock(); s.setblocking(False); e = select.epoll(); e.register(s, select.EPOLLOUT | select.EPOLLIN | flags); begin(s, sa)
    while True:
        got = e.poll(PATIENT)
        assert got, 'out of time'
        if got[0][1] & (select.EPOLLHUP | select.EPOLLERR) == select.EPOLLHUP: continue
        break
    err = so_error(s)
    if err: s.close(); e.close(); return err
    s.send(b'hi\\n')
    if flags & select.EPOLLONESHOT: e.modify(s, select.EPOLLIN | flags)
    else: e.modify(s, select.EPOLLIN | flags)
    got = e.poll(PATIENT)
    assert got and got[0][1] & select.EPOLLIN, got
    r = s.recv(100).decode().strip().replace(':hi', ''); s.close(); e.close(); return r
async def aio():
    r, w = await asyncio.open_connection('reviews.shop.mesh', 9080)
    w.write(b'hi\\n'); await w.drain()
    l = await r.readline(); w.close(); return l.decode().strip().replace(':hi', '')
"""
NAMES = ("poll", "select", "epoll", "epoll-et", "epoll-oneshot", "nested")


def ready(m, **vars):
    c = Client(m, **vars)
    c(WAYS)
    return c


for way in NAMES:
    def works(way=way):
        dead, one = Backend("dead", "closed"), Backend("one")
        c = ready(Mesh(service(dead, one)))
        same([c("nb(%r)" % way) for _ in range(3)], ["one"] * 3)
    case("a non-blocking connect is awaited by %s, past a refused endpoint" % way)(works)

    def fails(way=way):
        c = ready(Mesh(service(Backend("a", identity="stranger"), peers=[REVIEWS])), MESH_PATIENCE="20s")
        same(c("nb(%r)" % way), "EACCES")
        c = ready(Mesh(service(Backend("a", "closed"))))
        same(c("nb(%r)" % way), "ECONNREFUSED")
    case("a non-blocking connect that fails is told by SO_ERROR after %s" % way)(fails)

for flags, name in (("0", "level"), ("select.EPOLLET", "edge"), ("select.EPOLLONESHOT", "oneshot")):
    def before(flags=flags):
        dead, one = Backend("dead", "closed"), Backend("one")
        c = ready(Mesh(service(dead, one)))
        same([c("early(%s)" % flags) for _ in range(3)], ["one"] * 3)
    case("an epoll registration made before connect outlives the retries, %s-triggered" % name)(before)


@case("asyncio connects, past a refused endpoint, and to nobody")
def _():
    dead, one = Backend("dead", "closed"), Backend("one")
    c = ready(Mesh(service(dead, one)))
    same([c("asyncio.run(aio())") for _ in range(3)], ["one"] * 3)
    c = ready(Mesh(service(Backend("a", "closed"))))
    has(c("asyncio.run(aio())"), "onnect")  # asyncio joins the errors of both families in words of its own


@case("a second connect tells EALREADY, then success once, then EISCONN")
def _():
    late = Backend("one", "late")
    c = ready(Mesh(service(late)), MESH_PATIENCE="20s")
    c("S, SA = sock(); ret = begin(S, SA)")
    same(c("S.connect(SA)"), "EALREADY")
    late.go.set()
    same(c("wait_poll(S)"), True)
    same(c("S.connect(SA)"), None)
    same(c("S.connect(SA)"), "EISCONN")


@case("a blocking connect with SO_SNDTIMEO gives up in time with EINPROGRESS, as TCP does")
def _():
    c = ready(Mesh(service(Backend("a", "silent"))), MESH_PATIENCE="30s")
    c("S, SA = sock(); S.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack('ll', 0, 300000))")
    same(c("S.connect(SA)"), "EINPROGRESS")


@case("connect returns after MESH_PATIENCE to a busy server; writes are held, nothing goes out in clear, and data arrives later")
def _():
    late = Backend("one", "late")
    c = ready(Mesh(service(late)), MESH_PATIENCE="100ms")
    c("S, SA = sock(); S.connect(SA); S.sendall(b'the-secret\\n')")
    c.trace.none("connected")
    raw = late.s.dup()
    late.go.set()
    raw.close()
    same(c("line(S)"), "one:the-secret")
    c.trace.wait("connected")


@case("held bytes reach a silent peer never: it sees a ClientHello alone")
def _():
    a = Backend("a", "silent")
    c = ready(Mesh(service(a)), MESH_PATIENCE="100ms")
    c("S, SA = sock(); S.connect(SA); S.sendall(b'the-secret\\n' * 1000)")
    eventually("a ClientHello", lambda: a.seen)
    same(a.seen[0], 22)
    assert b"the-secret" not in a.seen


@case("after connected was told, a peer that is not who it must be is ECONNRESET on recv and send, POLLERR and POLLHUP")
def _():
    late = Backend("one", "late", identity="stranger")
    c = ready(Mesh(service(late, peers=[REVIEWS])), MESH_PATIENCE="50ms")
    c("S, SA = sock(); S.connect(SA); S.sendall(b'hi\\n')")
    late.go.set()
    same(c("S.recv(10)"), "ECONNRESET")
    c("P = select.poll(); P.register(S, select.POLLIN | select.POLLOUT)")
    same(c("P.poll(PATIENT * 1000)[0][1] & (select.POLLERR | select.POLLHUP) == (select.POLLERR | select.POLLHUP)"), True)
    c("import signal; signal.signal(signal.SIGPIPE, signal.SIG_IGN)")
    has(("ECONNRESET", "EPIPE"), c("S.send(b'x')"))
    same(late.seen, b"")


@case("while connected is held back a level-triggered wait does not spin")
def _():
    late = Backend("one", "late")
    c = ready(Mesh(service(late)), MESH_PATIENCE="20s")
    c("""S, SA = sock(); begin(S, SA); e = select.epoll(); e.register(S, select.EPOLLOUT)
t = time.process_time(); got = e.poll(2); used = time.process_time() - t""")
    same(c("got"), [])
    used = c("used")
    assert used < 0.7, "%.2f s of CPU in a wait of 2 s" % used
    late.go.set()
    same(c("len(e.poll(PATIENT))"), 1)
    same(c("so_error(S)"), 0)


@case("a descriptor's own options, bound address and flags outlive the retries")
def _():
    dead, one = Backend("dead", "closed"), Backend("one")
    c = ready(Mesh(service(dead, one)))
    c("""def go():
    s, sa = sock(); s.bind(('127.0.0.9', 0)); s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    was = s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF); port = s.getsockname()[1]; fd = s.fileno()
    s.connect(sa)
    r = [say(s), s.getsockname()[0], s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == was, s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
         s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), s.fileno() == fd, os.get_blocking(fd)]
    s.close(); return r""")
    for _ in range(3):
        same(c("go()"), ["one:hi", "127.0.0.9", True, 1, 1, True, True])
    assert any(l["attempts"] == "2" for l in c.trace.find("connected"))


@case("a descriptor whose connect failed connects again")
def _():
    one, dead = Backend("one"), Backend("dead", "closed")
    m = Mesh({"services": {"reviews.shop.mesh:9080": {"endpoints": [one.at]}, "ratings.shop.mesh:9080": {"endpoints": [dead.at]}}})
    c = ready(m)
    c("S, SA = sock('ratings.shop.mesh'); T, TA = sock()")
    same(c("S.connect(SA)"), "ECONNREFUSED")
    same(c("S.connect(TA); ret = say(S)"), "one:hi")


@case("sendto with MSG_FASTOPEN connects and sends")
def _():
    one = Backend("one")
    c = ready(Mesh(service(one)))
    same(c("S, SA = sock(); S.sendto(b'hi\\n', 0x20000000, SA); ret = line(S)"), "one:hi")
    same(one.seen, b"hi\n")


@case("one thread connects to its own listener through the mesh and then accepts, blocking and not")
def _():
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    c = ready(Mesh(service("127.0.0.1:%d" % port)), identity="reviews", MESH_INBOUND="%d=strict" % port, MESH_PATIENCE="20s")
    c("L = socket.create_server(('127.0.0.1', %d))" % port)
    same(c("S, SA = sock(); S.connect(SA); S.sendall(b'hi\\n'); A, _ = L.accept(); ret = line(A)"), "hi")
    c("A.sendall(b'back\\n')")
    same(c("line(S)"), "back")
    same(c("S, SA = sock(); begin(S, SA); A, _ = L.accept(); ret = wait_poll(S); S.setblocking(True); S.sendall(b'hi\\n'); ret = line(A)"), "hi")


@case("close before the handshake is over keeps what was written: it arrives")
def _():
    late = Backend("one", "late")
    c = ready(Mesh(service(late)), MESH_PATIENCE="50ms")
    c("S, SA = sock(); S.connect(SA); S.sendall(b'parting\\n'); S.close()")
    late.go.set()
    eventually("the bytes arrive", lambda: (c("time.sleep(0.05)"), late.seen == b"parting\n")[1])


@case("exit before the handshake is over waits for what was written")
def _():
    late = Backend("one", "late")
    c = ready(Mesh(service(late)), MESH_PATIENCE="50ms")
    c("S, SA = sock(); S.connect(SA); S.sendall(b'parting\\n')")
    c.send("os._exit(0)")
    time.sleep(0.3)
    late.go.set()
    c.p.wait(WAIT)
    eventually("the bytes arrive", lambda: late.seen == b"parting\n")


main()
