# SPDX-License-Identifier: Apache-2.0
"""Real programs by name through a control plane, in mutual TLS on both ends: an endpoint changes under them, and in the end
the control plane is dead."""
from world import *

SOURCES = {
    "get.py": "import sys, urllib.request\nprint(urllib.request.urlopen(sys.argv[1], timeout=60).read().decode().strip())\n",
    "get.js": """const dns = require('dns'), http = require('http'), net = require('net'), url = new URL(process.argv[2]);
dns.lookup(url.hostname, (err, address) => {
  if (err) throw err;
  if (!net.isIP(address)) throw new Error(address);
  http.get(url, { agent: false }, r => { let s = ''; r.on('data', d => s += d).on('end', () => console.log(s.trim())); });
});
""",
    "Get.java": """import java.net.URI;
import java.net.http.*;
class Get {
  public static void main(String[] a) throws Exception {
    System.out.println(HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(a[0])).build(), HttpResponse.BodyHandlers.ofString()).body().strip());
  }
}
"""}
TRUST = {"transport_socket": upstream_tls(common_tls_context={
    "tls_certificate_provider_instance": {"instance_name": "default"}, "combined_validation_context": {
        "default_validation_context": {"match_subject_alt_names": [{"exact": REVIEWS}], "ca_certificate_provider_instance": {"instance_name": "default"}}}})}


def site(m, name):
    """A web server under the library, which serves its name to the mesh alone."""
    at, folder = free_port(), m.dir / name
    folder.mkdir()
    (folder / "who").write_text(name + "\n")
    trace = Trace(m.trace_file())
    p = subprocess.Popen([sys.executable, str(XDS.parent / "serve.py"), str(at)], cwd=folder, stdin=subprocess.DEVNULL,
                         env=m.env("reviews", trace=trace.file, MESH_INBOUND="strict"), stderr=subprocess.DEVNULL)
    opened.append(lambda: (p.kill(), p.wait()))

    def listens():
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", at)).close() or True
    eventually("%s listens" % name, listens)
    b = type("Site", (), {})()
    b.name, b.at, b.trace = name, "127.0.0.1:%d" % at, trace
    return b


def programs(folder):
    for name, text in SOURCES.items():
        (folder / name).write_text(text)
    if shutil.which("javac"):
        subprocess.run(["javac", "-d", str(folder), str(folder / "Get.java")], check=True)
    yield "curl", ["curl", "-sSf"]
    yield "python", [sys.executable, str(folder / "get.py")]
    if shutil.which("node"):
        yield "node", ["node", str(folder / "get.js")]
    if shutil.which("javac"):
        yield "java", ["java", "-cp", str(folder), "Get"]


def run(cache, delta):
    cp = server(cache=cache)
    m = Mesh(GRPC_XDS_BOOTSTRAP_CONFIG=bootstrap(cp.address, node=NODE, features=["delta"] if delta else []), MESH_DOMAINS="shop.mesh")
    one, two = site(m, "one"), site(m, "two")
    cp.set([api_listener(), route("a"), eds_cluster("a", **TRUST), load("a", one)])
    all_ = dict(programs(m.dir))

    def get(who):
        trace = Trace(m.trace_file())
        p = subprocess.run([*all_[who], "http://%s/who" % AT], env=m.env(trace=trace.file), capture_output=True, text=True, timeout=2 * WAIT)
        assert p.returncode == 0, "%s: %s%s\n%s" % (who, p.stdout, p.stderr, trace.file.read_text())
        l = trace.wait("connected")
        same((l["name"], l["peer"], l["tls"], l["cluster"]), (AT, REVIEWS, "1.3", "a"))
        return p.stdout.strip()

    for who in all_:
        same((who, get(who)), (who, "one"))
    keeper = Client(m)
    keeper("S = conn()")
    cp.put(load("a", two))
    eventually("the new endpoint is used", lambda: get("curl") == "two")
    for who in all_:
        same((who, get(who)), (who, "two"))
    cp.stop()
    for who in all_:
        same((who, get(who)), (who, "two"))
    same(keeper("S.sendall(b'GET /who HTTP/1.0\\r\\n\\r\\n'); ret = line(S)").split()[1], "200")
    same({l["peer"] for l in two.trace.find("accepted")}, {WEB})


for cache, delta in (("snapshot", False), ("linear", True)):
    case("curl, Python, Node and Java by name in mutual TLS (%s): an endpoint changes, the control plane dies" %
         ("incremental" if delta else "state of the world"))(lambda cache=cache, delta=delta: run(cache, delta))


main()
