# SPDX-License-Identifier: Apache-2.0
"""envoy.py IN OUT OUT12 APP SHIM CERT KEY CA FOREIGN_CERT FOREIGN_KEY FOREIGN: prints Envoy's configuration.

Four listeners on 127.0.0.1, all ports: IN takes mutual TLS from spiffe://shop/ns/prod/sa/web and forwards to the plain
program on APP; OUT and OUT12 take plain HTTP and forward in mutual TLS (1.3, and Envoy's default 1.2) to the server on
SHIM, which must be spiffe://shop/ns/prod/sa/reviews; FOREIGN does as OUT does, but with a foreign identity.
"""
import json
import sys

IN, OUT, OUT12, APP, SHIM, CERT, KEY, CA, FOREIGN_CERT, FOREIGN_KEY, FOREIGN = sys.argv[1:]
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": int(port)}}


def common(cert, key, peer, newest):
    return {
        "tls_params": {"tls_maximum_protocol_version": newest} if newest else {},
        "tls_certificates": [{"certificate_chain": {"filename": cert}, "private_key": {"filename": key}}],
        "validation_context": {
            "trusted_ca": {"filename": CA},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
        },
    }


def listener(name, port, cluster, tls=None):
    chain = {"filters": [{"name": "http", "typed_config": {
        "@type": HCM, "stat_prefix": name,
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}]}}]}
    if tls:
        chain["transport_socket"] = {"name": "tls", "typed_config": {
            "@type": TLS + "DownstreamTlsContext", "require_client_certificate": True, "common_tls_context": tls}}
    return {"name": name, "address": address(port), "filter_chains": [chain]}


def cluster(name, port, tls=None):
    c = {"name": name, "connect_timeout": "5s", "load_assignment": {
        "cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]}}
    if tls:
        c["transport_socket"] = {"name": "tls", "typed_config": {"@type": TLS + "UpstreamTlsContext", "common_tls_context": tls}}
    return c


WEB, REVIEWS = "spiffe://shop/ns/prod/sa/web", "spiffe://shop/ns/prod/sa/reviews"
print(json.dumps({"static_resources": {
    "listeners": [listener("in", IN, "app", common(CERT, KEY, WEB, "TLSv1_3")), listener("out", OUT, "shim13"),
                  listener("out12", OUT12, "shim12"), listener("foreign", FOREIGN, "foreign")],
    "clusters": [cluster("app", APP), cluster("shim13", SHIM, common(CERT.replace("reviews-dns", "web"), KEY.replace("reviews-dns", "web"), REVIEWS, "TLSv1_3")),
                 cluster("shim12", SHIM, common(CERT.replace("reviews-dns", "web"), KEY.replace("reviews-dns", "web"), REVIEWS, None)),
                 cluster("foreign", SHIM, common(FOREIGN_CERT, FOREIGN_KEY, REVIEWS, "TLSv1_3"))]}}))
