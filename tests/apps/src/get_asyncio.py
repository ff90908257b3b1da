# SPDX-License-Identifier: Apache-2.0
"""Ten requests at once over asyncio streams; prints the body of one after all ten were alike."""
import asyncio
import sys
from urllib.parse import urlsplit


async def get(url):
    u = urlsplit(url)
    r, w = await asyncio.open_connection(u.hostname, u.port)
    w.write(f"GET {u.path} HTTP/1.0\r\n\r\n".encode())
    await w.drain()
    body = (await r.read()).split(b"\r\n\r\n", 1)[1]
    w.close()
    await w.wait_closed()
    return body


async def main():
    bodies = await asyncio.gather(*(get(sys.argv[1]) for _ in range(10)))
    assert len(set(bodies)) == 1
    sys.stdout.buffer.write(bodies[0])


asyncio.run(main())
