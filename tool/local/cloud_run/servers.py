"""The one process around the functions: front end, metadata servers, token endpoint and console.

SIGHUP makes it look for services that were added since.
"""

import asyncio
import logging
import os
import signal

from aiohttp import ClientSession, web
from aiohttp.http_exceptions import HttpProcessingError

from tool.local import services, state
from tool.local.cloud_run import forwarding
from tool.local.cloud_run.calls import Calls
from tool.local.cloud_run.console import Console
from tool.local.cloud_run.front_end import FrontEnd
from tool.local.cloud_run.metadata_server import MetadataServer
from tool.local.cloud_run.token_endpoint import TokenEndpoint
from tool.local.runtime import processes


def main() -> None:
    logging.getLogger("aiohttp.server").addFilter(is_ours)
    asyncio.run(serve())


def is_ours(record: logging.LogRecord) -> bool:
    """Whether an error is this process's own: a malformed request is the client's."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (HttpProcessingError, ConnectionError))


async def serve() -> None:
    ending, more = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        loop.add_signal_handler(number, ending.set)
    loop.add_signal_handler(signal.SIGHUP, more.set)
    session, sites, calls = forwarding.client(), dict[int, web.TCPSite](), Calls()
    await listen(session, sites, calls)
    processes.ready()
    waiting = asyncio.ensure_future(ending.wait())
    while not ending.is_set() and processes.is_where_it_was("servers", processes.LOCK_FD):
        added = asyncio.ensure_future(more.wait())
        both = (waiting, added)
        await asyncio.wait(both, timeout=processes.LOOKS, return_when=asyncio.FIRST_COMPLETED)
        if added.done():
            more.clear()
            await listen(session, sites, calls)
        added.cancel()
    for site in sites.values():
        await site.stop()  # before the lock is free, so that the next finds its ports free
    os._exit(0)  # does not wait for calls in progress


async def listen(session: ClientSession, sites: dict[int, web.TCPSite], calls: Calls) -> None:
    """Opens the ports that are reserved and not open yet."""
    project = state.project()
    wanted: dict[int, forwarding.Handler] = {
        project.token_port: TokenEndpoint(project.token_port),
        project.console_port: Console(project.console_port, calls),
    }
    for name in state.names("services"):
        service = services.service(name)
        wanted[service.port] = FrontEnd(name, session, calls)
        wanted[service.metadata_port] = MetadataServer(name, service.metadata_port)
    for port in wanted.keys() - sites.keys():
        runner = web.ServerRunner(forwarding.server(wanted[port]))
        await runner.setup()
        sites[port] = web.TCPSite(runner, "127.0.0.1", port, backlog=1024)
        await sites[port].start()
