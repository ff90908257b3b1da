# SPDX-License-Identifier: Apache-2.0
import os


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    with open(os.path.basename(scope["path"]), "rb") as f:
        body = f.read()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    for at in range(0, len(body), 50000):
        await send({"type": "http.response.body", "body": body[at:at + 50000], "more_body": at + 50000 < len(body)})
