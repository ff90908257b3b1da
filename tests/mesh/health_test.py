# SPDX-License-Identifier: Apache-2.0
"""Active health checks: the publisher makes them, every process goes by them."""
import http.server
from mesh import *

NAME = "reviews.shop.mesh"
TIMES = {"timeout": "1s", "interval": "0.2s", "unhealthy_threshold": 1, "healthy_threshold": 1}


class Checked(Backend):
    """A plain backend with a port for checks beside it; .status is what it says of itself."""

    def __init__(self, name):
        super().__init__(name, how="plain")
        self.status, self.asked = 200, set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.add(self.path)
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *_):
                pass
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        opened.append(self.http.server_close)
        opened.append(self.http.shutdown)

    @property
    def entry(self):
        e = endpoint(self.at)
        e["endpoint"]["health_check_config"] = {"port_value": self.http.server_port}
        return e


def view(*bs, check):
    return resources(cluster(NAME, load=None, transport_socket=RAW, connect_timeout="5s", health_checks=[{**TIMES, **check}],
                             load_assignment={"cluster_name": NAME, "endpoints": [{"lb_endpoints": [
                                 b.entry if isinstance(b, Checked) else endpoint(b.at) for b in bs]}]}))


def answers(c, n=6):
    return {c.ask() for _ in range(n)}


def health(m, b):
    s = m.stat(b.at)
    return s and s["health"]


@case("HTTP: an endpoint that says it is not well is left alone by two processes, and used again when it is")
def _():
    one, two = Checked("one"), Checked("two")
    m = Mesh(view(one, two, check={"http_health_check": {"path": "/healthz"}}))
    a, b = Client(m), Client(m)
    same(a.ask() in ("one", "two"), True)
    eventually("both are asked", lambda: one.asked == two.asked == {"/healthz"})
    for c in (a, b):
        eventually("both are used", lambda: answers(c) == {"one", "two"})
    same(m.ctl("view")["left_out"], [])
    one.status = 503
    eventually("meshctl shows it", lambda: health(m, one) == "unhealthy" and health(m, two) != "unhealthy")
    for c in (a, b):
        same(answers(c), {"two"})
    one.status = 200
    eventually("it is back", lambda: health(m, one) != "unhealthy")
    for c in (a, b):
        eventually("both are used", lambda: answers(c) == {"one", "two"})


@case("TCP: an endpoint that is not there is unhealthy, whoever publishes, and comes back")
def _():
    one, gone = Backend("one", how="plain"), Backend("two", how="closed")
    m = Mesh(view(one, gone, check={"tcp_health_check": {}}))
    a, b = Client(m), Client(m)
    same(a.ask(), "one")
    eventually("it is seen", lambda: health(m, gone) == "unhealthy" and health(m, one) != "unhealthy")
    same(b.ask(), "one")
    os.kill(a.pid, signal.SIGKILL)
    gone.how = "plain"
    gone.s.listen(64)
    threading.Thread(target=gone.accept, daemon=True).start()
    eventually("another process sees it come back", lambda: answers(b) == {"one", "two"})


main()
