# SPDX-License-Identifier: Apache-2.0
import asyncio
import sys

import aiohttp


async def main():
    async with aiohttp.ClientSession() as session:
        async with session.get(sys.argv[1]) as first:
            await first.read()
        async with session.get(sys.argv[1]) as second:
            sys.stdout.buffer.write(await second.read())


asyncio.run(main())
