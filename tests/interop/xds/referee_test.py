# SPDX-License-Identifier: Apache-2.0
"""The same backends as gRPC's xDS client and Envoy on the same go-control-plane: after each change, whatever cache it serves
from, state of the world and incremental."""
from world import *


def three(cp, delta):
    """Who follows the control plane: ours, and the referees. gRPC knows no incremental protocol."""
    return [Ours(cp.address, features=["delta"] if delta else []), Envoy(cp.address, delta), Grpc(cp.address)]


def follow(cache, delta):
    one, two, three_, four = (Plain(n) for n in ("one", "two", "three", "four"))
    cp = server(cache=cache)
    base = [api_listener(), route("a")]
    cp.set(base + clusters(a=[one, two]))
    all_ = three(cp, delta)
    agree(all_, one, two)
    cp.put(load("a", two, three_))
    agree(all_, two, three_)
    cp.set([api_listener(), route("a", "b")] + clusters(a=[two, three_], b=[four]))
    agree(all_, two, three_, four)
    cp.set(base + clusters(a=[two]))
    agree(all_, two)
    cp.set([api_listener(), route("c")] + clusters(c=[one, four]))
    agree(all_, one, four)

    # ---- gone and back with the versions that it had, and then with none
    cp.stop()
    agree(all_, one, four)
    cp.start()
    cp.put(load("c", one))
    agree(all_, one)
    cp.forget()
    same(all_[0].reached(), {"one"})
    cp.set([api_listener(), route("c")] + clusters(c=[three_, four]))
    agree(all_, three_, four)
    same({e["delta"] for e in cp.find("request") if e.get("node", {}).get("id") == "test"}, {delta})


for cache in "snapshot", "ads", "linear", "mux":
    for delta in False, True:
        case("%s cache, %s: added, changed, removed, switched, reconnected, restarted with and without versions" %
             (cache, "incremental" if delta else "state of the world"))(lambda cache=cache, delta=delta: follow(cache, delta))


def refuse(cache, delta):
    one, two = Plain("one"), Plain("two")
    cp = server(cache=cache)
    bad = {**eds_cluster("bad"), "lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": "8388609"}}
    cp.set([api_listener(), route("a"), api_listener("bad.shop.mesh:80", "bad"), route("bad", name="bad", domain="bad.shop.mesh:80"),
            bad, load("bad", one)] + clusters(a=[one]))
    # Not Envoy: it and go-control-plane send each other refusal and response as fast as they can.
    ours = Ours(cp.address, features=["delta"] if delta else [])
    all_ = [ours, Grpc(cp.address)]
    agree(all_, one)
    ours.reached(1, "bad.shop.mesh:80")
    cp.wait("request", type=CDS, error=ANY, delta=delta)
    cp.set([api_listener(), route("a", "b"), api_listener("bad.shop.mesh:80", "bad"), route("bad", name="bad", domain="bad.shop.mesh:80"),
            bad, load("bad", one)] + clusters(a=[one], b=[two]))
    agree(all_, one, two)  # what was good in the refused response is used
    ctl = lambda what: ours.mesh.ctl(what, identity=None)  # noqa: E731
    eventually(lambda: "status shows it: %s" % ctl("status"), lambda: ctl("status")["publisher"]["servers"][0]["nacks"] > 0)
    shown = [r for r in ctl("csds")["generic_xds_configs"] if r["name"] == "bad" and r["client_status"] == "NACKED"]
    has(json.dumps(shown), "error_state")
    has(json.dumps(ctl("view")), "bad")
    assert len(cp.find("request", type=CDS, error=ANY)) < 20, "refusals follow each other slowly"
    cp.put(eds_cluster("bad"))
    eventually("it is good again", lambda: ours.reached(4, "bad.shop.mesh:80") == {"one"})


for cache in "snapshot", "linear", "mux":
    for delta in False, True:
        case("%s cache, %s: a bad cluster beside good ones is refused by name, the good ones are used" %
             (cache, "incremental" if delta else "state of the world"))(lambda cache=cache, delta=delta: refuse(cache, delta))


@case("two servers: the second while the first has not been heard, the first once it is back, and neither is missed afterwards")
def _():
    one, two, three_ = Plain("one"), Plain("two"), Plain("three")
    first, second = server(), server()
    first.set([api_listener(), route("a")] + clusters(a=[one]))
    second.set([api_listener(), route("a")] + clusters(a=[two]))
    first.stop()
    all_ = [Ours(first.address, second.address), Grpc(first.address, second.address)]
    agree(all_, two)
    second.put(load("a", two, three_))
    agree(all_, two, three_)
    first.start()
    agree(all_, one)
    first.stop()
    agree(all_, one)
    second.stop()
    agree(all_, one)
    first.start()
    first.put(load("a", three_))
    agree(all_, three_)


main()
