"""The front end: the part of Google Cloud between a caller and a function.

It checks the caller (invoker_check.py), waits for a place, passes the request on, and ends it at its
timeout.
"""

import asyncio
import collections
import contextlib
import time

import aiohttp
from aiohttp import web

from tool.local import services, state
from tool.local.cloud_run import forwarding, function_log, invoker_check
from tool.local.cloud_run.calls import Call, Calls
from tool.local.cloud_run.forwarding import Headers
from tool.local.cloud_run.pages import SERVER, page
from tool.local.runtime import log
from tool.local.services import Serving

PATIENCE = 10  # seconds that a request waits for a place; Google's own is not documented
VERIFY = "deploy.sh-verify"  # the User-Agent of deploy.sh verify
NO_PLACE = (
    "The request was aborted because there was no available instance. The limit of concurrent"
    " requests, --concurrency times --max-instances, was reached."
)


class Places:
    """The places for requests in one revision; first come, first served."""

    def __init__(self) -> None:
        self.inside, self.waiting = 0, collections.deque[asyncio.Future[None]]()

    async def enter(self, limit: int, patience: float) -> bool:
        """Whether there was a place within `patience` seconds; if so, the caller must call leave()."""
        if self.inside < limit and not self.waiting:
            self.inside += 1
            return True
        turn = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        try:
            async with asyncio.timeout(patience):
                await turn
            return True
        except TimeoutError:
            if turn.done() and not turn.cancelled():  # the turn came at the same moment
                return True
            return False
        finally:
            with contextlib.suppress(ValueError):
                self.waiting.remove(turn)

    def leave(self) -> None:
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(None)  # the place goes to the next in line
                return
        self.inside -= 1


class FrontEnd:
    """Answers at the public port of one function."""

    def __init__(self, name: str, session: aiohttp.ClientSession, calls: Calls):
        self.name, self.session, self.calls = name, session, calls
        self.places: dict[str, Places] = {}  # by revision

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        came, begun = log.now(), time.monotonic()
        request["by_function"], request["status"] = False, 0
        try:
            answer = await self.answered(request)
            request["status"] = answer.status
            return answer
        finally:
            if "verdict" in request:
                self.note(request, came, time.monotonic() - begun)

    def note(self, request: web.BaseRequest, came: str, seconds: float) -> None:
        """Records a call for the console and the request log."""
        verdict, trace = request["verdict"], request["trace"]
        call = Call(
            came, verdict.outcome, verdict.caller, verdict.detail, verdict.grant, self.name,
            request.method, request.raw_path.partition("?")[0], request["status"], request["by_function"],
            round(seconds * 1000, 1), trace.id, trace.span, trace.parent, asks_to_verify(request),
        )  # fmt: skip
        self.calls.note(call)

    async def answered(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if not path.startswith("/") or request.method in ("TRACE", "CONNECT"):
            return page(405 if path.startswith("/") else 400)
        service = services.service(self.name)
        if not service.serving:
            return page(404)
        headers = forwarding.as_they_came(request.raw_headers)
        request["revision"] = service.serving.revision
        request["trace"] = invoker_check.trace_of(headers)
        request["verdict"] = invoker_check.verdict(service, path, headers)
        if refused := request["verdict"].refusal:
            if refused.reason:
                await self.log(refused.reason, request)
            return page(refused.status, path)
        return await self.let_in(request, service.serving, headers)

    async def let_in(
        self, request: web.BaseRequest, serving: Serving, headers: Headers
    ) -> web.StreamResponse:
        places = self.places.setdefault(serving.revision, Places())
        patience = min(PATIENCE, serving.timeout or PATIENCE)
        if not await places.enter(serving.places, patience):
            await self.log(NO_PLACE, request)
            return page(429)
        # A client that has left is not served. One that leaves later keeps its place: the function goes on.
        if forwarding.has_left(request):
            places.leave()
            return page(503)
        try:
            async with asyncio.timeout(serving.timeout):
                return await self.hand_on(request, serving.port, headers)
        except TimeoutError:
            await self.log(
                "The request has been terminated because it has reached the maximum request timeout.",
                request,
            )
            return page(504)
        finally:
            places.leave()
            self.places = {r: p for r, p in self.places.items() if p.inside or p is places}

    async def hand_on(
        self, request: web.BaseRequest, port: int, headers: Headers
    ) -> web.StreamResponse:
        headers = forwarding.end_to_end(headers)
        # gunicorn would mistake some of these for its own: in WSGI, "_" and "-" are the same.
        for name in {name for name in headers if "_" in name}:
            del headers[name]
        invoker_check.add_headers(headers, request.remote or "127.0.0.1", request["trace"])
        try:
            answer = await forwarding.ask(self.session, request, f"127.0.0.1:{port}", headers)
        except aiohttp.ClientConnectorError:
            await self.log("The function does not run. Run ./deploy.sh --local", request)
            return page(503)
        except (aiohttp.ClientError, ConnectionError):
            if request.content.exception():  # the client sent a malformed body
                return page(400)
            if request.content.at_eof():
                await self.log("The function hung up without an answer.", request)
            else:  # it may have answered, for instance 413, and the answer was lost
                await self.log("The function hung up before it had read the whole request.", request)
            return page(503)
        request["by_function"], request["status"] = True, answer.status
        async with answer:
            try:
                return await forwarding.hand_back(answer, request, SERVER)
            except aiohttp.ClientPayloadError:
                await self.log("The function broke off its answer.", request)
                raise ConnectionResetError from None

    async def log(self, message: str, request: web.BaseRequest) -> None:
        """Writes into the function's log, as Cloud Run does."""
        if asks_to_verify(request):
            message += " (asked by deploy.sh verify)"
        project = state.found_project()
        trace = f"projects/{project.id}/traces/{request['trace'].id}" if project else ""
        await function_log.write(self.name, request["revision"], "WARNING", message, trace)


def asks_to_verify(request: web.BaseRequest) -> bool:
    """Whether deploy.sh makes this call, to measure the map."""
    return request.headers.get("User-Agent", "").startswith(VERIFY)
