# SPDX-License-Identifier: Apache-2.0
"""The view from a file: its forms, its replacement, and who shares it."""
import re

from mesh import *


@case("the file is replaced while it is used: new endpoints are taken, no connect fails")
def _():
    one, two = Backend("one"), Backend("two")
    m = Mesh(service(one))
    c = Client(m)
    same(c.ask(), "one")
    c("import threading\nOUT = []\nGO = True\ndef run():\n    while GO: OUT.append(ask())\nT = threading.Thread(target=run); T.start()")
    m.put(service(two))
    eventually("the new endpoint is used", lambda: c("OUT[-1:]") == ["two"])
    m.put(service(one, two))
    eventually("both are used", lambda: set(c("OUT[-8:]")) == {"one", "two"})
    c("GO = False; T.join()")
    same(set(c("sorted(set(OUT))")), {"one", "two"})


@case("a replaced file is seen by every process, and old connections live on")
def _():
    one, two = Backend("one"), Backend("two")
    m = Mesh(service(one))
    cs = [Client(m) for _ in range(3)]
    for c in cs:
        same(c("S = conn(); ret = say(S)"), "one:hi")
    m.put(service(two))
    for c in cs:
        eventually("it is seen", lambda: c.ask() == "two")
        same(c("say(S)"), "one:hi")


@case("a broken new file keeps the old view, and says where it is broken, by line and column, once")
def _():
    one = Backend("one")
    m = Mesh(service(one))
    c = Client(m)
    same(c.ask(), "one")
    m.put("services:\n  reviews.shop.mesh:9080:\n    endpoints: [127.0.0.1:1\n  x: }\n")
    eventually("the trace says so", lambda: (same(c.ask(), "one"), c.trace.find("view", state="kept"))[1])
    l = c.trace.find("view", state="kept")[0]
    assert re.search(r"view.yaml:[2-5]:\d+", l["detail"]), l["line"]
    same(l["level"], "error")
    has(json.dumps(m.ctl("view")), "view.yaml")
    for _ in range(3):
        time.sleep(0.6)
        same(c.ask(), "one")
    same(len(c.trace.find("view", state="kept")), 1)
    two = Backend("two")
    m.put(service(two))
    eventually("a good one is taken", lambda: c.ask() == "two")


@case("a file that vanishes keeps the view")
def _():
    one = Backend("one")
    m = Mesh(service(one))
    c = Client(m)
    same(c.ask(), "one")
    m.view.rename(m.dir / "away")
    for _ in range(4):
        time.sleep(0.5)
        same(c.ask(), "one")


@case("an unknown field is warned of, with its path, and ignored")
def _():
    one = Backend("one")
    m = Mesh(resources(cluster("reviews.shop.mesh", one.at, shiny_new_thing=1)))
    c = Client(m)
    same(c.ask(), "one")
    has(c.trace.find("view", state="unknown")[0]["line"], "shiny_new_thing")


@case("a guarded field refuses its resource, with its path; the others are served")
def _():
    one, two = Backend("one"), Backend("two")
    bad = cluster("ratings.shop.mesh", two.at)
    bad["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["resolver_name"] = "mine"
    m = Mesh(resources(cluster("reviews.shop.mesh", one.at), bad))
    c = Client(m)
    same(c.ask(), "one")
    assert c.ask("ratings.shop.mesh") != "two"
    same(two.taken, 0)
    f = m.dir / "copy.json"
    f.write_text(m.view.read_text())
    has(json.dumps(m.ctl("check", "-f", str(f), rc=1)), "resolver_name", "socket_address")
    has(c.trace.find("view", state="refused", resource="ratings.shop.mesh")[0]["detail"], ":1:", "socket_address.resolver_name")


# ---- forms ----
YAML = """\
services:
  reviews.shop.mesh:9080:
    endpoints: [%s]
    peers: [spiffe://shop/ns/prod/sa/reviews]   # who may answer
"""


@case("short form: each policy is the one that it names")
def _():
    one = Backend("one")
    for policy in ("round_robin", "least_request", "random", "ring_hash", "maglev", "pick_first", "peak_ewma"):
        m = Mesh(service(one, policy=policy))
        same(Client(m).ask(), "one")
        same(m.ctl("stats")["clusters"][0]["policy"], policy)


@case("short form in YAML, without a port: any port")
def _():
    one = Backend("one")
    same(Client(Mesh(YAML % one.at)).ask(), "one")
    c = Client(Mesh({"services": {"reviews.shop.mesh": {"endpoints": [one.at]}}}))
    same((c.ask(port=80), c.ask(port=9999)), ("one", "one"))


@case("full form: a cluster called outbound|PORT||NAME serves that port")
def _():
    one, two = Backend("one"), Backend("two")
    c = Client(Mesh(resources(cluster("outbound|9080||reviews.shop.mesh", one.at), cluster("outbound|9090||reviews.shop.mesh", two.at))))
    same((c.ask(), c.ask(port=9090), c.ask(port=1)), ("one", "two", "ECONNREFUSED"))


@case("full form: Envoy's static_resources")
def _():
    one = Backend("one")
    cl, li = cluster("reviews", one.at), listener("reviews.shop.mesh:9080", {"cluster": "reviews"})
    for x in (cl, li):
        x.pop("@type")
    c = Client(Mesh({"static_resources": {"clusters": [cl], "listeners": [li]}}))
    same(c.ask(), "one")


@case("full form: EDS in the file, by cluster name and by service name")
def _():
    one, two = Backend("one"), Backend("two")
    def la(name, at):
        return {"@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment", "cluster_name": name,
                "endpoints": [{"lb_endpoints": [endpoint(at)]}]}
    eds = {"eds_config": {"ads": {}}}
    c = Client(Mesh(resources(cluster("reviews.shop.mesh", type="EDS", eds_cluster_config=eds), la("reviews.shop.mesh", one.at),
                              cluster("ratings.shop.mesh", type="EDS", eds_cluster_config={**eds, "service_name": "r"}), la("r", two.at))))
    same((c.ask(), c.ask("ratings.shop.mesh")), ("one", "two"))


@case("full form: virtual hosts' domains, exact, with port, and by suffix")
def _():
    one, two = Backend("one"), Backend("two")
    rc = {"@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "name": "r", "virtual_hosts": [
        {"name": "a", "domains": ["reviews.shop.mesh", "reviews.shop.mesh:9080"], "routes": [{"match": {"prefix": ""}, "route": {"cluster": "a"}}]},
        {"name": "b", "domains": ["*.wild.mesh"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "b"}}]}]}
    c = Client(Mesh(resources(cluster("a", one.at), cluster("b", two.at), rc)))
    same((c.ask(), c.ask("x.wild.mesh"), c.ask("y.wild.mesh", 1234)), ("one", "two", "two"))
    has(("EAI_NONAME", "EAI_AGAIN"), c.ask("wild.mesh"))


@case("full form: a listener on an address is that address and port")
def _():
    one = Backend("one")
    c = Client(Mesh(resources(cluster("a", one.at), listener("x", {"cluster": "a"}, address={"socket_address": {
        "address": "127.0.0.99", "port_value": 9080}}))))
    same(c.ask("127.0.0.99"), "one")
    same(c.ask("127.0.0.99", 9081), "ECONNREFUSED")


@case("full form: ORIGINAL_DST answers the endpoints' own addresses, and connect goes to that very one in mutual TLS")
def _():
    with socket.create_server(("127.0.0.1", 0)) as b:
        port = b.getsockname()[1]
    one, two = Backend("one", host="127.0.0.21", port=port), Backend("two", host="127.0.0.22", port=port)
    la = {"@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment", "cluster_name": "db.shop.mesh",
          "endpoints": [{"lb_endpoints": [endpoint(one.at), endpoint(two.at)]}]}
    c = Client(Mesh(resources(cluster("db.shop.mesh", type="ORIGINAL_DST", lb_policy="CLUSTER_PROVIDED"), la)))
    same(sorted(c("[a[4][0] for a in socket.getaddrinfo('db.shop.mesh', %d, socket.AF_INET, socket.SOCK_STREAM)]" % port)), ["127.0.0.21", "127.0.0.22"])
    same((c.ask("127.0.0.21", port), c.ask("127.0.0.22", port)), ("one", "two"))
    c.trace.wait("connected", endpoint=two.at, tls="1.3")


@case("secrets in the view: certificates inline are ours for that cluster")
def _():
    one = Backend("one")
    inline = {k: {"inline_string": (PKI / n).read_text()} for k, n in (("certificate_chain", "ratings.pem"), ("private_key", "ratings.key"))}
    m = Mesh(resources(cluster("reviews.shop.mesh", one.at, transport_socket=upstream_tls(common_tls_context={
        "tls_certificates": [inline], "validation_context": {"trusted_ca": {"filename": str(PKI / "ca.pem")}, "match_typed_subject_alt_names": [
            {"san_type": "URI", "matcher": {"exact": REVIEWS}}]}}))))
    c = Client(m, identity=None)
    c("S = conn()")
    same(c("say(S)"), "one:hi")
    same([s.getpeercert()["subjectAltName"][0][1] for s in one.socks if isinstance(s, ssl.SSLSocket)], ["spiffe://shop/ns/prod/sa/ratings"])


@case("what meshctl view prints is a view that means the same")
def _():
    one = Backend("one")
    m = Mesh(service(one, peers=[REVIEWS]))
    e = m.env()
    del e["LD_PRELOAD"]
    for form in ("yaml", "json"):
        text = subprocess.run([CTL, "-o", form, "view"], env=e, capture_output=True, text=True, check=True).stdout
        n = Mesh(json.dumps(json.loads(text)["view"]) if form == "json" else text)
        same(Client(n).ask(), "one")


# ---- sharing ----
@case("a name's virtual address is the same in all processes, after a restart, after the view changed, and in a fresh run directory")
def _():
    one = Backend("one")
    m = Mesh(service(one))
    get = "sorted({a[4][0] for a in socket.getaddrinfo('reviews.shop.mesh', 9080)})"
    a = Client(m)
    first = a(get)
    assert first and all(x.startswith(("241.", "fd")) for x in first), first
    same(Client(m)(get), first)
    a.stop()
    same(Client(m)(get), first)
    m.put({"services": {n: {"endpoints": [one.at]} for n in ["a.mesh", "b.mesh", "reviews.shop.mesh", "z.mesh"]}})
    b = Client(m)
    eventually("the new view is there", lambda: b.ask("z.mesh") == "one")
    same(b(get), first)
    shutil.rmtree(m.dir / "run")
    same(Client(m)(get), first)


@case("two services of one user, with different views and identities, share a run directory and never meet")
def _():
    one, two = Backend("one"), Backend("two")
    a, b = Mesh(service(one)), Mesh(service(two))
    b.vars["MESH_RUN_DIR"] = str(a.dir / "run")
    ca, cb = Client(a), Client(b, identity="ratings")
    for _ in range(4):
        same((ca.ask(), cb.ask()), ("one", "two"))
    same(len(a.ctl("stats")["clusters"]), 1)
    has(json.dumps(a.ctl("stats")), one.at)
    assert two.at not in json.dumps(a.ctl("stats"))
    views = [f for f in (a.dir / "run").iterdir() if f.is_file()]
    assert len(views) >= 2, views
    same(oct((a.dir / "run").stat().st_mode & 0o777), "0o700")


@case("one view, two identities: a server tells them apart, also by resumed sessions")
def _():
    m = Mesh()
    s = Server(m, MESH_INBOUND="strict", MESH_CALLERS=WEB)
    m.put(service(s.at))
    web, rat = Client(m), Client(m, identity="ratings")
    for _ in range(4):
        same(web.ask(), "served")
        has(("EACCES", "ECONNRESET", "EPIPE"), rat.ask())


# ---- the run directory ----
def with_run_dir(prepare):
    one = Backend("one")
    m = Mesh(service(one))
    d = m.dir / "bad"
    d.mkdir(mode=0o700)
    prepare(d)
    c = Client(m, MESH_RUN_DIR=d)
    same(c.ask(), "one")
    return m, d, c


@case("a run directory that others can enter is refused: the view is private, with one warning that says so")
def _():
    m, d, c = with_run_dir(lambda d: d.chmod(0o755))
    has(c.trace.find("view")[0]["detail"], "0755")
    same(list(d.iterdir()), [])
    same(c("P = os.fork()\nif P == 0: os._exit(0 if ask() == 'one' else 1)\nret = os.waitpid(P, 0)[1]"), 0)


@case("a run directory of another owner is refused: the view is private")
def _():
    m, d, c = with_run_dir(lambda d: os.chown(d, 12345, 12345))
    has(c.trace.find("view")[0]["detail"], "12345")
    same(list(d.iterdir()), [])


@case("a run directory that is a symbolic link, or a file, is refused: the view is private")
def _():
    def link(d):
        d.rename(str(d) + ".real")
        d.symlink_to(str(d) + ".real")
    m, d, c = with_run_dir(link)
    has(c.trace.find("view")[0]["detail"], "symbolic link")
    def file(d):
        d.rmdir()
        d.write_text("")
    with_run_dir(file)


@case("a read-only or full file system for the run directory: mesh connections work, the view is private")
def _():
    for options in ("ro", "size=16k,mode=0700"):
        def mount(d, options=options):
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(d)], check=True)
            opened.append(lambda: subprocess.run(["umount", "-l", str(d)]))
        m, d, c = with_run_dir(mount)
        assert c.trace.find("view"), c.trace.file.read_text()


main()
