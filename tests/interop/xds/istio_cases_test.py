# SPDX-License-Identifier: Apache-2.0
"""The cases of tests/mesh/istio_test.py with go-control-plane in the file's place: sidecars' dialect by wildcard, gRPC's by name.
DELTA=1: incremental, from a linear cache."""
import base64
import runpy

from world import *
import mesh  # noqa: E402
from adsd import field  # noqa: E402

SIDECAR = {"id": "sidecar~127.0.0.9~app.shop~shop.svc.cluster.local", "cluster": "app.shop", "metadata": {"NAMESPACE": "shop", "DNS_CAPTURE": "true"}}
GRPC = {**SIDECAR, "metadata": {"NAMESPACE": "shop", "GENERATOR": "grpc"}}


def packed(table):
    """A name table, whose messages the Go server does not have."""
    entries = b"".join(field(1, field(1, name) + field(2, b"".join(field(1, ip) for ip in of["ips"]))) for name, of in table["table"].items())
    return {"@type": NDS, "@name": "", "@bytes": base64.b64encode(entries).decode()}


class ControlPlaneMesh(mesh.Mesh):
    """A Mesh whose view a control plane serves. The file is kept for `meshctl check -f`."""
    plane = None

    def put(self, view):
        super().put(view)
        if not self.plane:
            self.plane = server(cache="linear" if os.environ.get("DELTA") else "snapshot")
        self.node = self.node if hasattr(self, "node") else GRPC if "api_listener" in json.dumps(view) else SIDECAR
        self.plane.set([r if r["@type"] != NDS else packed(r) for of in view.values() for r in of])

    def env(self, identity="web", trace=None, **vars):
        e = super().env(identity, trace, **vars)
        if e.pop("MESH_VIEW", None):
            e["GRPC_XDS_BOOTSTRAP_CONFIG"] = bootstrap(self.plane.address, node=self.node, features=["delta"] if os.environ.get("DELTA") else [],
                                                       server_listener_resource_name_template="xds.istio.io/grpc/lds/inbound/%s")
            e.update(MESH_DOMAINS="shop.mesh", MESH_RESOLVE_TIMEOUT="60s")  # a cluster that the samples lack is denied after 15 s
        return e


mesh.Mesh = ControlPlaneMesh
runpy.run_path(str(XDS.parent.parent / "mesh" / "istio_test.py"), run_name="istio")
