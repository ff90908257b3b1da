# SPDX-License-Identifier: Apache-2.0
"""Publishers killed at random moments while programs look up a name that is known, and its endpoints change."""
import random

from mesh import *

READERS = 4
READER = """
def reader(log):
    '''Looks the name up until it is killed; a line for what goes wrong, and one for the first that went right.'''
    pid = os.fork()
    if pid:
        return pid
    told, n = False, 0
    while True:
        try:
            if n % 50 == 0:
                ask()
            socket.getaddrinfo('reviews.shop.mesh', 9080, 0, socket.SOCK_STREAM)
            if not told:
                told = os.write(log, b'ready %d\\n' % os.getpid()) > 0
        except BaseException as e:
            os.write(log, b'failed: %s\\n' % repr(e).encode())
        n += 1
        time.sleep(0.002)
LOG = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
signal = __import__('signal')
"""


def publisher(m):
    """Whose it is now, 0: nobody's."""
    r = m.ctl("status")
    return r["publisher"].get("pid", 0) if isinstance(r, dict) else 0


def kills(m, n, change):
    """Kills the publisher n times; change(i) changes the view, before each. Not one look-up fails. Readers are forks of a
    program that has looked nothing up itself."""
    log = m.dir / "readers"
    nursery = Client(m)
    nursery(READER.replace("{log!r}", repr(str(log))))
    readers = {nursery("reader(LOG)")}
    ready = lambda: set(log.read_text().split()) >= {str(p) for p in readers} if log.exists() else False  # noqa: E731
    eventually("the first has its answer", ready)
    readers |= {nursery("reader(LOG)") for _ in range(READERS - 1)}
    eventually("all are ready", ready)
    signal.alarm(3 * WAIT + 3 * n)
    for i in range(n):
        pid = eventually("one of them publishes", lambda: (lambda p: p in readers and p)(publisher(m)))
        change(i)
        time.sleep(random.random() * 0.03)
        nursery("os.kill(%d, signal.SIGKILL); os.waitpid(%d, 0)" % (pid, pid))
        readers.remove(pid)
        readers.add(nursery("reader(LOG)"))
    eventually("all are ready", ready)
    wrong = [line for line in log.read_text().splitlines() if line.startswith("failed")]
    for pid in readers:
        nursery("os.kill(%d, signal.SIGKILL); os.waitpid(%d, 0)" % (pid, pid))
    same(wrong, [])
    same(m.ctl("view")["error"], None)
    return nursery
