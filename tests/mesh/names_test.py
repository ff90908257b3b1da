# SPDX-License-Identifier: Apache-2.0
"""Names and variables: what a configured program looks up, and what a wrong value does."""
from mesh import *

LOOK = "sorted({a[4][0] for a in socket.getaddrinfo(%s)})"
ONE = {"services": {"reviews.shop.mesh:9080": {"endpoints": ["127.0.0.1:1"]}}}


def look(c, args):
    return c(LOOK % args)


@case("getaddrinfo: families, socket types, flags and canonical name")
def _():
    c = Client(Mesh(ONE))
    n = "'reviews.shop.mesh', 9080, "
    four, six = look(c, n + "socket.AF_INET"), look(c, n + "socket.AF_INET6")
    same((len(four), len(six)), (1, 1))
    has(four[0], "241.")
    same(look(c, n + "socket.AF_UNSPEC, socket.SOCK_STREAM"), sorted(four + six))
    same(look(c, n + "socket.AF_INET6, socket.SOCK_STREAM, 0, socket.AI_V4MAPPED"), six)
    same(c("socket.getaddrinfo('reviews.shop.mesh', 9080, socket.AF_INET, socket.SOCK_STREAM, 0, socket.AI_CANONNAME)[0][3]"), "reviews.shop.mesh")
    same(look(c, n + "0, 0, 0, socket.AI_NUMERICHOST"), "EAI_NONAME")
    same(c("socket.getaddrinfo('reviews.shop.mesh', 'http', socket.AF_INET, socket.SOCK_STREAM)[0][4][1]"), 80)
    same(c("socket.getaddrinfo('reviews.shop.mesh', 'nonsense', socket.AF_INET, socket.SOCK_STREAM)"), "EAI_SERVICE")
    same(look(c, "'REVIEWS.Shop.Mesh.', 9080, socket.AF_INET"), four)


@case("gethostbyname, gethostbyaddr and getnameinfo agree with getaddrinfo")
def _():
    c = Client(Mesh(ONE))
    a = look(c, "'reviews.shop.mesh', 9080, socket.AF_INET")[0]
    same(c("socket.gethostbyname('reviews.shop.mesh')"), a)
    same(c("socket.gethostbyname_ex('reviews.shop.mesh')")[2], [a])
    same(c("socket.gethostbyaddr(%r)[0]" % a), "reviews.shop.mesh")
    same(c("socket.getnameinfo((%r, 9080), socket.NI_NUMERICSERV)[0]" % a), "reviews.shop.mesh")
    same(c("socket.getnameinfo((%r, 9080), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]" % a), a)


@case("other names are libc's: localhost, addresses, and names that nobody has")
def _():
    c = Client(Mesh(ONE))
    has(look(c, "'localhost', 80"), "127.0.0.1")
    same(look(c, "'127.0.0.5', 80"), ["127.0.0.5"])
    has(("EAI_AGAIN", "EAI_NONAME"), look(c, "'other.shop.mesh', 80"))


@case("look-ups for datagrams are libc's")
def _():
    c = Client(Mesh(ONE))
    has(("EAI_AGAIN", "EAI_NONAME"), look(c, "'reviews.shop.mesh', 9080, 0, socket.SOCK_DGRAM"))


@case("MESH_DOMAINS: what the view does not list there is EAI_NONAME, without asking anyone; with ? it is libc's")
def _():
    c = Client(Mesh(ONE), MESH_DOMAINS="mesh,corp.local")
    same(look(c, "'nobody.shop.mesh', 80"), "EAI_NONAME")
    same(look(c, "'nobody.corp.local', 80"), "EAI_NONAME")
    c.trace.wait("resolve", name="nobody.shop.mesh")
    has(look(c, "'reviews.shop.mesh', 80, socket.AF_INET")[0], "241.")
    m = Mesh(ONE)
    if os.environ.get("IN_NETNS") == "1":  # then /etc/hosts is this run's own
        with open("/etc/hosts", "a") as f:
            f.write("127.0.0.66 old.corp.local\n")
        same(look(Client(m, MESH_DOMAINS="corp.local?"), "'old.corp.local', 80"), ["127.0.0.66"])
        same(look(Client(m, MESH_DOMAINS="corp.local"), "'old.corp.local', 80"), "EAI_NONAME")


@case("the search list and ndots: a short name is the listed one, a name with enough dots is tried as written first")
def _():
    m = Mesh({"services": {n: {"endpoints": ["127.0.0.1:1"]} for n in ("reviews.shop.mesh", "a.b.shop.mesh")}})
    if os.environ.get("IN_NETNS") != "1":
        return
    conf = m.dir / "resolv.conf"
    conf.write_text("search other.test shop.mesh\noptions ndots:2 timeout:1 attempts:1\nnameserver 127.0.0.1\n")
    subprocess.run(["mount", "--bind", str(conf), "/etc/resolv.conf"], check=True)
    opened.append(lambda: subprocess.run(["umount", "/etc/resolv.conf"]))
    c = Client(m)
    full = look(c, "'reviews.shop.mesh', 80, socket.AF_INET")
    same(look(c, "'reviews', 80, socket.AF_INET"), full)
    has(look(c, "'a.b', 80, socket.AF_INET")[0], "241.")
    has(("EAI_AGAIN", "EAI_NONAME"), look(c, "'reviews.', 80, socket.AF_INET"))


@case("MESH_VIRTUAL: addresses come from there")
def _():
    c = Client(Mesh(ONE), MESH_VIRTUAL="127.200.0.0/16,fd99::/64")
    has(look(c, "'reviews.shop.mesh', 80, socket.AF_INET")[0], "127.200.")
    has(look(c, "'reviews.shop.mesh', 80, socket.AF_INET6")[0], "fd99:")


# ---- variables ----
WRONG = {"MESH_INBOUND_PLAIN": "10.0.0.0/99", "MESH_DETECT": "soon", "MESH_CAPTURE": "10.0.0.0/99", "MESH_EXCLUDE": "10.0.0.0/99", "MESH_TLS": "maybe",
         "MESH_VIRTUAL": "here", "MESH_PATIENCE": "a while", "MESH_RESOLVE_TIMEOUT": "5 parsecs", "MESH_VIEW_MAX_AGE": "old", "MESH_HASH_KEY": "colour",
         "MESH_PEERS": "http://x", "MESH_CALLERS": "http://x", "MESH_INBOUND": "strikt", "MESH_CERT": "", "MESH_KEY": "", "MESH_CA": "",
         "MESH_DOMAINS": "a b", "MESH_OFF": "perhaps"}


@case("a wrong value of each variable is named in one trace line, and the program starts")
def _():
    m = Mesh(ONE)
    wrong = []
    for name, value in WRONG.items():
        t = m.trace_file()
        p = subprocess.run([sys.executable, "-c", "import socket; s = socket.socket(); s.connect_ex(('127.0.0.1', 9)); print('started')"],
                           env=m.env(trace=t, **{name: value}), capture_output=True, text=True, timeout=WAIT)
        named = [l for l in t.read_text().splitlines() if name in l]
        if p.stdout != "started\n" or len(named) != 1:
            wrong.append((name, value, p.returncode, p.stderr, named))
    assert not wrong, "\n".join(map(str, wrong))


@case("a wrong MESH_TRACE is named on stderr; an unknown MESH_ name is named, with the one that was meant")
def _():
    m = Mesh(ONE)
    p = subprocess.run([sys.executable, "-c", "pass"], env=m.env(MESH_TRACE="loud"), capture_output=True, text=True)
    same(p.returncode, 0)
    t = m.trace_file()
    subprocess.run([sys.executable, "-c", "pass"], env=m.env(trace=t, MESH_INBUOND="strict"), check=True)
    named = [l for l in t.read_text().splitlines() if "MESH_INBUOND" in l]
    same(len(named), 1)
    has(named[0], "MESH_INBOUND")


@case("a wrong MESH_CAPTURE lets nothing out in clear")
def _():
    raw = Backend("raw", "plain", host="127.0.0.88")
    c = Client(Mesh(), MESH_CAPTURE="127.0.0.0/99")
    same(c.ask("127.0.0.88", raw.port), "EACCES")
    same(raw.seen, b"")
    same(Client(Mesh(), MESH_CAPTURE="127.0.0.0/99", MESH_EXCLUDE="127.0.0.88").ask("127.0.0.88", raw.port), "raw")


@case("MESH_CAPTURE by range and port: mutual TLS to that very address; other ports are libc's")
def _():
    one, raw = Backend("one", host="127.0.0.88"), Backend("raw", "plain", host="127.0.0.88")
    c = Client(Mesh(), MESH_CAPTURE="127.0.0.88:%d" % one.port)
    same((c.ask("127.0.0.88", one.port), c.ask("127.0.0.88", raw.port)), ("one", "raw"))
    c.trace.wait("connected", endpoint=one.at)


@case("a view that is missing or broken at the start: mesh domains are refused, other names are libc's")
def _():
    m = Mesh("services: [")
    c = Client(m, MESH_DOMAINS="mesh")
    has(("EAI_NONAME", "EAI_AGAIN"), c.ask())
    has(look(c, "'localhost', 80"), "127.0.0.1")
    assert [l for l in c.trace.find("view") if l["level"] == "error"], c.trace.file.read_text()
    one = Backend("one")
    m.put(service(one))
    eventually("a good file is taken", lambda: c.ask() == "one")


SETUID = """set -e
cp -a /etc %(dir)s/etc && mount --bind %(dir)s/etc /etc
mount -t tmpfs none /mnt && cp "$(command -v getent)" /mnt/getent && chmod 4755 /mnt/getent
ask() { env "$@" setpriv --reuid 65534 --clear-groups /mnt/getent ahostsv4 reviews.shop.mesh | sed -n 's/ *STREAM.*//p'; }
printf '%%s\\n' %(lib)s >/etc/ld.so.preload
echo "environment: $(ask MESH_VIEW=%(view)s)"
printf 'MESH_VIEW=%(view)s\\nMESH_RUN_DIR=%(dir)s/run\\n' >/etc/meshshim.conf
echo "file: $(ask MESH_OFF=1)"
chmod o+w /etc/meshshim.conf
echo "file of anybody: $(ask)"
"""


@case("a setuid program reads /etc/meshshim.conf, and never the environment")
def _():
    if os.geteuid() or PRELOAD != LIB or not shutil.which("setpriv"):
        raise Skip("root, setpriv and a library of its own are needed")
    m = Mesh(ONE)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MESH_", "LD_"))}
    p = subprocess.run(["unshare", "-m", "sh", "-c", SETUID % {"dir": m.dir, "lib": LIB, "view": m.view}], env=env, capture_output=True, text=True)
    lines = p.stdout.splitlines()
    same((p.returncode, len(lines)), (0, 3))
    same((lines[0], lines[2]), ("environment: ", "file of anybody: "))
    has(lines[1], "file: 241.")


@case("MESH_OFF=1 and MESH_SKIP: the library does nothing")
def _():
    one = Backend("one")
    name = os.path.basename(sys.executable)
    for vars in ({"MESH_OFF": "1"}, {"MESH_SKIP": "gdb,%s" % name}):
        has(("EAI_NONAME", "EAI_AGAIN"), Client(Mesh(service(one)), **vars).ask())
    same(Client(Mesh(service(one)), MESH_OFF="0", MESH_SKIP="gdb").ask(), "one")


@case("/etc/meshshim.conf gives defaults below the environment; one that others can write is ignored and named")
def _():
    one, two = Backend("one"), Backend("two")
    m, n = Mesh(service(one)), Mesh(service(two))
    conf = pathlib.Path("/etc/meshshim.conf")
    if os.environ.get("IN_NETNS") != "1":
        return
    etc = m.dir / "etc"
    for d in ("upper", "work"):
        (etc / d).mkdir(parents=True)
    made = m.dir / "meshshim.conf"
    made.write_text("# defaults\nMESH_VIEW=%s\nMESH_PATIENCE=20s\n" % n.view)
    tmp = m.dir / "tmpfs"
    tmp.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp)], check=True)
    opened.append(lambda: subprocess.run(["umount", "-l", str(tmp)]))
    for d in ("upper", "work"):
        (tmp / d).mkdir()
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", "lowerdir=/etc,upperdir=%s/upper,workdir=%s/work" % (tmp, tmp), "/etc"], check=True)
    opened.append(lambda: subprocess.run(["umount", "-l", "/etc"]))
    conf.write_text(made.read_text())
    conf.chmod(0o644)
    e = Client(m, MESH_VIEW=None)
    same(e.ask(), "two")
    same(Client(m).ask(), "one")
    conf.chmod(0o666)
    e = Client(m, MESH_VIEW=None, MESH_DOMAINS="mesh")
    has(("EAI_NONAME", "EAI_AGAIN"), e.ask())
    has(e.trace.file.read_text(), "/etc/meshshim.conf", "writable")


@case("MESH_TRACE to a file with %p, at each level; nothing is written without it")
def _():
    one = Backend("one")
    m = Mesh(service(one))
    c = Client(m, MESH_TRACE="info:%s/t.%%p" % m.dir)
    same(c.ask(), "one")
    has((m.dir / ("t.%d" % c.pid)).read_text(), "info connected")
    p = subprocess.run([sys.executable, "-c", "import socket\ns = socket.create_connection(('reviews.shop.mesh', 9080)); s.close()"], env=m.env(),
                       capture_output=True, text=True, timeout=WAIT)
    same((p.returncode, p.stderr), (0, ""))
    q = subprocess.run([sys.executable, "-c", "import socket\ns = socket.create_connection(('reviews.shop.mesh', 9080)); s.close()"],
                       env=m.env(MESH_TRACE="error"), capture_output=True, text=True, timeout=WAIT)
    same((q.returncode, q.stderr), (0, ""))


@case("the same refusal is printed at most once a second, with repeat=")
def _():
    m = Mesh(ONE)
    c = Client(m)
    c("import contextlib\nfor _ in range(50):\n    with contextlib.suppress(OSError): ask(port=9)")
    time.sleep(1.1)
    c.ask(port=9)
    found = c.trace.find("refused", why="no-route")
    assert 1 <= len(found) <= 5, len(found)
    assert sum(int(l.get("repeat", 0)) for l in found) >= 40, [l["line"] for l in found]


@case("a trace holds neither payload nor key")
def _():
    one = Backend("one")
    c = Client(Mesh(service(one)), MESH_TRACE=None)
    c.stop()
    m = Mesh(service(one))
    t = m.trace_file()
    c = Client(m, MESH_TRACE="trace:%s" % t)
    same(c.ask(text="the-payload"), "one")
    text = t.read_text()
    has(text, "connected")
    assert "the-payload" not in text and "PRIVATE" not in text


main()
