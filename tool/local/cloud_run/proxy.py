"""gcloud run services proxy: opens a private function to a browser on this machine, as you."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable

import aiohttp
from aiohttp import web

from tool.local import accounts, state, tokens
from tool.local.cloud_run import forwarding

RENEW_AFTER = 55 * 60  # seconds, as the real one does
TIMEOUT = 3600  # seconds; Cloud Run's longest


class Proxy:
    """Passes every request on to `url`, with a token from `new_token()`."""

    def __init__(
        self,
        url: str,
        port: int,
        session: aiohttp.ClientSession,
        new_token: Callable[[], str],
        clock: Callable[[], float] = time.time,
    ):
        self.address, self.session = url.removeprefix("http://"), session
        self.new_token, self.clock, self.renew_at = new_token, clock, 0.0
        self.hosts = [f"{host}:{port}".removesuffix(":80") for host in ("127.0.0.1", "localhost")]

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        # A web page that reaches this under its own name must not act as you.
        if request.host not in self.hosts or not request.raw_path.startswith("/"):
            return web.Response(status=403, text="not a host of this proxy\n")
        headers = forwarding.end_to_end(forwarding.as_they_came(request.raw_headers))
        headers.popall("X-Serverless-Authorization", None)
        try:
            if self.clock() >= self.renew_at:
                self.token, self.renew_at = self.new_token(), self.clock() + RENEW_AFTER
            headers["Host"], headers["Authorization"] = self.address, f"Bearer {self.token}"
            async with asyncio.timeout(TIMEOUT):
                answer = await forwarding.ask(self.session, request, self.address, headers)
                async with answer:
                    return await forwarding.hand_back(answer, request)
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            if request.content.exception():
                return web.Response(status=400, text="the request's body is malformed\n")
            problem = f"http://{self.address} cannot be reached: {type(error).__name__}\n"
            return web.Response(status=502, text=problem)


def serve(url: str, port: int) -> None:
    """Runs until it is interrupted."""
    try:
        asyncio.run(run(url, port))
    except OSError as error:
        raise SystemExit(f"ERROR: port {port} cannot be opened: {error.strerror}") from None


async def run(url: str, port: int) -> None:
    ending, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ending.set)

    def token() -> str:
        try:
            return tokens.id_token(accounts.you(), tokens.GCLOUD_CLIENT_ID)
        except state.NoProject:
            raise ConnectionError("the local project has ended") from None

    async with forwarding.client() as session:
        runner = web.ServerRunner(forwarding.server(Proxy(url, port, session, token)))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, shutdown_timeout=1).start()
        print(f"http://127.0.0.1:{port} proxies to {url}", file=sys.stderr, flush=True)
        await ending.wait()
        await runner.cleanup()
