# SPDX-License-Identifier: Apache-2.0
"""A good guest: beside other preloads, where much is missing, under tools that look at the host program."""
import glob, os, pathlib, shutil, subprocess, sys
from mesh import *  # noqa

BEFORE = os.environ.get("PRELOAD", "")
SOURCE = r"""
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *a;
    char b[64] = "";
    for (int i = 0; i < 3; i++) {
        if (getaddrinfo("reviews.shop.mesh", "9080", &hints, &a))
            return 1;
        int fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
        if (connect(fd, a->ai_addr, a->ai_addrlen) || write(fd, "hi\n", 3) != 3 || read(fd, b, sizeof b) <= 0)
            return 2;
        freeaddrinfo(a);
        close(fd);
    }
    printf("%s", b);
    return strcmp(b, "served:hi\n") != 0;
}
"""


def server(m, pre=(), **v):
    at = m.dir / ("at.%d" % (m.n + 1))
    s = Server(m, argv=[*pre, sys.executable, str(HERE / "serve.py"), "threads", "127.0.0.1:0", str(at)], MESH_INBOUND="strict", **v)
    m.put(service(s.at))
    return s


def client(m, pre=(), **v):
    return Client(m, argv=[*pre, sys.executable, str(HERE / "client.py")], **v)


def talk(pre=(), m=None, **v):
    """Server and client in the same strange place: three questions, three answers. Gives both and the mesh."""
    m = m or Mesh()
    s, c = server(m, pre, **v), None
    c = client(m, pre, **v)
    for _ in range(3):
        same(c.ask(), "served")
    return m, s, c


def inside(script):
    """What to put in front of a program that is to live in a mount namespace that `script` has furnished."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        raise Skip("no right to make a mount namespace")
    return ["unshare", "-m", "sh", "-c", "set -e; " + script + '; exec "$@"', "sh"]


def library(pattern):
    found = sorted(glob.glob("/usr/lib/*/" + pattern))
    if not found:
        raise Skip("there is no " + pattern)
    return found[0]


def wrapper(pattern):
    """A library that wraps what a sanitizer's runtime wraps as well: the two call each other without end, with no library of ours."""
    if BEFORE:
        raise Skip("not beside a sanitizer's runtime")
    return library(pattern)


def both_orders(other, **v):
    for order in ("%s:%s" % (other, LIB), "%s:%s" % (LIB, other)):
        talk(LD_PRELOAD=BEFORE + order, **v)


@case("jemalloc before and after us")
def _():
    both_orders(library("libjemalloc.so.2"))


@case("libfaketime before and after us: the program's day is not ours")
def _():
    f = wrapper("faketime/libfaketime.so.1")
    for order in ("%s:%s" % (f, LIB), "%s:%s" % (LIB, f)):
        m, _, c = talk(LD_PRELOAD=BEFORE + order, FAKETIME="+1d")
        assert c("time.time()") > time.time() + 80000


@case("socket_wrapper before and after us: its sockets are its own")
def _():
    w = wrapper("libsocket_wrapper.so*")
    for order in ("%s:%s" % (w, LIB), "%s:%s" % (LIB, w)):
        m = Mesh()
        m.put(service("127.0.0.1:9"))
        (m.dir / "swrap").mkdir()
        c = client(m, LD_PRELOAD=BEFORE + order, SOCKET_WRAPPER_DIR=str(m.dir / "swrap"), SOCKET_WRAPPER_DEFAULT_IFACE="9")
        c("l = socket.create_server(('127.0.0.9', 7777)); a = socket.create_connection(('127.0.0.9', 7777)); b = l.accept()[0]")
        same(c("ret = (a.send(b'there'), b.recv(9).decode(), b.send(b'back'), a.recv(9).decode())"), [5, "there", 4, "back"])
        assert os.listdir(m.dir / "swrap"), "nothing was wrapped"


@case("/proc is not mounted")
def _():
    talk(inside("umount -l /proc"))


@case("a root that is read-only")
def _():
    m = Mesh()
    talk(inside("mount --bind %s %s; mount -o remount,bind,ro /" % (m.dir, m.dir)), m)


@case("a root that is read-only, and no place for the run directory")
def _():
    m = Mesh()
    talk(inside("mount --bind %s %s; mount -o remount,bind,ro /" % (m.dir, m.dir)), m, MESH_RUN_DIR="/no/such/place", HOME=None)


@case("nothing that may be written to may be executed")
def _():
    m = Mesh()
    talk(inside("mount --bind %s %s; mount -o remount,bind,noexec,nosuid,nodev %s" % (m.dir, m.dir, m.dir)), m)


@case("a run directory without room")
def _():
    for size in ("4k", "16k", "64k"):
        m = Mesh()
        (m.dir / "run").mkdir(mode=0o700)
        talk(inside("mount -t tmpfs -o mode=700,size=%s tmpfs %s/run" % (size, m.dir)), m)


@case("a run directory that fills up under way")
def _():
    m = Mesh()
    (m.dir / "run").mkdir(mode=0o700)
    pre = inside("mount -t tmpfs -o mode=700,size=64m tmpfs %s/run" % m.dir)
    s = server(m, pre)
    c = client(m, pre)
    same(c.ask(), "served")
    c("os.system('dd if=/dev/zero of=%s/run/big bs=64k 2>/dev/null')" % m.dir)
    for _ in range(3):
        same(c.ask(), "served")
    m.put(service(s.at, name="reviews.shop.mesh:9081"))
    eventually("the new view or the old one", lambda: "served" in (c.ask(port=9081), c.ask(port=9080)))


@case("a read-only run directory")
def _():
    m = Mesh()
    (m.dir / "run").mkdir(mode=0o700)
    talk(inside("mount --bind %s/run %s/run; mount -o remount,bind,ro %s/run" % ((m.dir,) * 3)), m)


@case("an arbitrary user that nobody knows, without a home")
def _():
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        raise Skip("not root")
    m = Mesh()
    m.dir.chmod(0o777)
    talk(["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"], m, HOME=None, MESH_RUN_DIR=None, XDG_RUNTIME_DIR=None)


def own_library():
    m = Mesh()
    lib = m.dir / "libmeshshim.so"
    shutil.copy(LIB, lib)
    s = server(m)
    c = client(m, LD_PRELOAD=BEFORE + str(lib))
    c("1")
    return m, lib, c


@case("the library's file is replaced before it is used")
def _():
    m, lib, c = own_library()
    (m.dir / "new").write_bytes(b"something else")
    (m.dir / "new").rename(lib)
    same(c.ask(), "served")
    same(c("os.system('exit 3') >> 8"), 3)


@case("the library's file is deleted before it is used")
def _():
    m, lib, c = own_library()
    lib.unlink()
    same(c.ask(), "served")
    same(c("os.system('exit 3') >> 8"), 3)


@case("locale, time zone and environment are the program's")
def _():
    m = Mesh()
    server(m)
    c = client(m, TZ="Asia/Tokyo", LC_ALL="C.UTF-8")
    look = "import locale; ret = (locale.setlocale(locale.LC_ALL), time.tzname, time.localtime(0).tm_hour, " \
           "sorted(k for k in os.environ if k.startswith('MESHSHIM')), os.umask(0o22), os.getcwd())"
    before = c(look)
    same(c.ask(), "served")
    same(c(look), before)


def program():
    m = Mesh()
    server(m)
    if not shutil.which("cc"):
        raise Skip("no compiler")
    subprocess.run(["cc", "-w", "-g", "-x", "c", "-o", str(m.dir / "ask"), "-"], input=SOURCE, text=True, check=True)
    return m, str(m.dir / "ask")


def plain_env(m):
    e = m.env("web", trace=m.trace_file())
    preload = e.pop("LD_PRELOAD")
    return e, preload


@case("valgrind finds nothing in the host program")
def _():
    if not shutil.which("valgrind") or BEFORE:
        raise Skip("no valgrind, or a sanitizer's build")
    m, ask = program()
    e, preload = plain_env(m)
    e.update(LD_PRELOAD=preload)
    p = subprocess.run(["valgrind", "-q", "--error-exitcode=9", "--leak-check=no", ask], env=e, capture_output=True, text=True, timeout=3 * WAIT)
    same((p.returncode, p.stdout), (0, "served:hi\n"))


@case("gdb stops in the host program and goes on")
def _():
    if not shutil.which("gdb") or BEFORE:
        raise Skip("no gdb, or a sanitizer's build")
    m, ask = program()
    e, preload = plain_env(m)
    p = subprocess.run(["gdb", "-q", "-batch", "-nx", "-iex", "set debuginfod enabled off", "-ex", "set env LD_PRELOAD " + preload,
                        "-ex", "break write", "-ex", "run", "-ex", "bt 3", "-ex", "delete", "-ex", "continue", ask],
                       env=e, capture_output=True, text=True, timeout=3 * WAIT)
    has(p.stdout, "main", "served:hi", "exited normally")


main()
