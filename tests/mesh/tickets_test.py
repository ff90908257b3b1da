# SPDX-License-Identifier: Apache-2.0
"""Tickets of the run directory: shared by processes and restarts, useless to strangers, robust against damage."""
from mesh import *


def setup(**vars):
    m = Mesh(**vars)
    s = Server(m, MESH_INBOUND="strict", MESH_RUN_DIR=m.dir / "server-run")
    m.put(service(s.at, peers=[REVIEWS]))
    return m, s


def resumes(c):
    """Connects once: was it a resumed session?"""
    before = len(c.trace.find("connected"))
    same(c.ask(), "served")
    eventually("the trace says connected", lambda: len(c.trace.find("connected")) > before)
    return c.trace.find("connected")[before]["resumed"] == "yes"


def first(m, **vars):
    """A client that leaves a ticket behind."""
    c = Client(m, **vars)
    eventually("a connection is resumed", lambda: resumes(c))
    c.stop()


@case("a second process resumes what the first began; the file is 0600 and shows nothing")
def _():
    m, s = setup()
    first(m)
    assert resumes(Client(m))
    f = m.dir / "run" / "tickets"
    same(f.stat().st_mode & 0o777, 0o600)
    assert b"spiffe:" not in f.read_bytes()
    same([p.name for p in (m.dir / "run").iterdir() if p.name.startswith("tickets.")], [])


@case("a restarted server takes the tickets of the one before")
def _():
    m, s = setup()
    first(m)
    s.stop()
    again = Server(m, MESH_INBOUND="strict", MESH_RUN_DIR=m.dir / "server-run", at=s.at)
    assert resumes(Client(m))
    again.trace.wait("accepted", resumed="yes", peer=WEB)
    again.stop()
    Server(m, MESH_INBOUND="strict", MESH_RUN_DIR=m.dir / "other-run", at=s.at)  # no salt, no key
    assert not resumes(Client(m))


@case("prefork servers take each other's tickets")
def _():
    m, s = setup()
    s.stop()
    Server(m, how="fork", MESH_INBOUND="strict", MESH_RUN_DIR=m.dir / "server-run", at=s.at)
    first(m)
    assert resumes(Client(m))


@case("another identity on the same run directory has its own tickets")
def _():
    m, s = setup()
    first(m)
    assert not resumes(Client(m, identity="ratings"))
    assert resumes(Client(m))


@case("other accepted peers, another name: no resumption")
def _():
    m, s = setup()
    first(m)
    m.put(service(s.at, peers=["spiffe://shop/ns/prod/sa/*"]))
    assert not resumes(Client(m))
    m.put(service(s.at, peers=[REVIEWS]))
    assert resumes(Client(m))


@case("damaged, cut, foreign or too open: a new file takes its place")
def _():
    m, s = setup()
    f = m.dir / "run" / "tickets"

    def cut():
        size = f.stat().st_size
        f.unlink()
        f.write_bytes(b"\0" * (size // 2))

    def link():
        f.rename(m.dir / "elsewhere")
        f.symlink_to(m.dir / "elsewhere")

    for harm in (lambda: f.write_bytes(os.urandom(f.stat().st_size)), cut, lambda: f.chmod(0o644), link):
        first(m)
        ino = f.stat().st_ino
        harm()
        c = Client(m)
        assert not resumes(c)
        eventually("it resumes on the new file", lambda: resumes(c))
        c.stop()
        same(f.lstat().st_mode & 0o170777, 0o100600)
        assert resumes(Client(m))


@case("noise in the slots costs the tickets, nothing else")
def _():
    m, s = setup()
    first(m)
    f = m.dir / "run" / "tickets"
    with f.open("r+b") as out:
        out.seek(4096 + 512)
        out.write(os.urandom(f.stat().st_size - 4096 - 512))
    c = Client(m)
    for _ in range(5):
        same(c.ask(), "served")
    eventually("it resumes again", lambda: resumes(c))


@case("clients killed at any moment leave the store usable")
def _():
    m, s = setup()
    first(m)
    for i in range(12):
        c = Client(m)
        c.send("[ask() for _ in range(1000)]")
        time.sleep(0.05 * (i % 4))
        c.p.kill()
        c.p.wait()
    eventually("a new process resumes", lambda: resumes(Client(m)))


main()
