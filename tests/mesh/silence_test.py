# SPDX-License-Identifier: Apache-2.0
"""A strict port waits long for a caller's first word, but not for ever. It takes a minute."""
import errno

from mesh import *


def silent(way):
    """A server whose caller says nothing, and the caller."""
    m = Mesh(MESH_INBOUND="strict")
    file = m.dir / "at"
    w = subprocess.Popen([sys.executable, "-c", SILENCE, way, str(file)], env=m.env("reviews"), stdout=subprocess.PIPE, text=True)
    opened.append(lambda: (w.kill(), w.wait()))
    at = eventually("the server listens", lambda: file.exists() and file.read_text())
    return w, socket.create_connection(at.rsplit(":", 1))


SILENCE = """
import select, socket, sys, os
way, file = sys.argv[1:]
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(5)
open(file + ".new", "w").write("127.0.0.1:%d" % s.getsockname()[1]); os.rename(file + ".new", file)
c = s.accept()[0]
e = select.epoll(); e.register(c, select.EPOLLIN)
p = select.poll(); p.register(c, select.POLLIN)
if way == "epoll": assert e.poll(100)
if way == "poll": assert p.poll(100000)
if way == "select": assert select.select([c], [], [], 100)[0]
try: print("got", c.recv(10))
except OSError as x: print(x.errno)
"""

@case("a caller of a strict port that never says a word is refused in the end")
def refused():
    for way, (w, c) in [(way, silent(way)) for way in ("recv", "poll", "select", "epoll")]:
        same((way, w.stdout.readline().strip()), (way, str(errno.ECONNRESET)))
        same((way, c.recv(10)), (way, b""))


main()
