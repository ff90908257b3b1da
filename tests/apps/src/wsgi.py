# SPDX-License-Identifier: Apache-2.0
import os

WWW = os.path.join(os.path.dirname(os.path.abspath(__file__)), "www")


def app(environ, start_response):
    with open(os.path.join(WWW, os.path.basename(environ["PATH_INFO"])), "rb") as f:
        body = f.read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
