"""The proxy's own token: it lasts for an hour, and a browser may stay for a day."""

import asyncio

import aiohttp
from aiohttp import web

from tool.local.cloud_run import forwarding
from tool.local.cloud_run.proxy import Proxy


def test_it_is_renewed_in_time():
    asked, made, now = [], iter(["first", "second"]), [1_000_000.0]

    async def function(request):
        asked.append(request.headers["Authorization"])
        return web.Response()

    async def serve(handler):
        runner = web.ServerRunner(web.Server(handler))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, runner.addresses[0][1]

    async def visit():
        behind, port = await serve(function)
        async with forwarding.client() as session, aiohttp.ClientSession() as browser:
            proxy = Proxy(
                f"http://127.0.0.1:{port}", 80, session, lambda: next(made), lambda: now[0]
            )
            before, front = await serve(proxy)
            for minutes in (0, 54, 2):
                now[0] += minutes * 60
                host = {"Host": "localhost"}
                async with browser.get(f"http://127.0.0.1:{front}/", headers=host) as answer:
                    assert answer.status == 200
            await before.cleanup()
        await behind.cleanup()

    asyncio.run(visit())
    assert asked == ["Bearer first", "Bearer first", "Bearer second"]
