"""The console: a page that shows each call of the local project, and which rule let it in or refused it.

It changes nothing, answers only under its own Host, and shows no token, no query and no body.
"""

import asyncio
import contextlib
import functools
import pathlib
import secrets
from collections.abc import Mapping

from aiohttp import web

from tool.local import accounts, policies, services
from tool.local.cloud_run.calls import Call, Calls, as_json
from tool.local.cloud_run.changing_command import command
from tool.local.cloud_run.invoker_check import GONE, Outcome
from tool.local.records import Json
from tool.local.roles import INVOKE
from tool.local.runtime import log, processes
from tool.local.services import Service
from tool.local.state import YOU

PAGE = pathlib.Path(__file__).with_name("console.html")
HEADERS = {
    "Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
}  # fmt: skip
POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
answer = functools.partial(web.json_response, headers=HEADERS, dumps=as_json)


class Console:
    """Answers at the port of the console."""

    def __init__(self, port: int, calls: Calls):
        self.hosts, self.calls = ([f"127.0.0.1:{port}"], [f"localhost:{port}"]), calls

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = request.query
        if request.headers.getall("Host", []) not in self.hosts:
            return web.Response(status=404, headers=HEADERS)  # a page from elsewhere uses another name
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={**HEADERS, "Allow": "GET, HEAD"})
        match request.path:
            case "/":
                return page()
            case "/calls":
                return answer([shown(call) for call in self.wanted(asked)])
            case "/log":
                return answer(lines_of(asked.get("trace", "")))
            case "/map":
                return answer(trust_map(self.calls))
            case "/events":
                return await self.events(request)
        return web.Response(status=404, headers=HEADERS)

    def wanted(self, asked: Mapping[str, str]) -> list[Call]:
        """?trace= ?function= ?refused, newest first."""
        return [
            call for call in reversed(self.calls.kept)
            if asked.get("trace") in (None, call.trace) and asked.get("function") in (None, call.function)
            and not ("refused" in asked and call.is_let_in)
        ]  # fmt: skip

    async def events(self, request: web.BaseRequest) -> web.StreamResponse:
        """Calls as they happen, as server-sent events, oldest first; /calls adds the explanation."""
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        sent = 0
        with contextlib.suppress(ConnectionError):
            while True:
                changed, new = self.calls.changed, self.calls.after(sent)
                sent = self.calls.noted
                await response.write(f"data: {as_json(new)}\n\n".encode())
                await changed.wait()
                await asyncio.sleep(0.1)  # many calls at once are one event
        return response


def page() -> web.Response:
    nonce = secrets.token_urlsafe()
    headers = {**HEADERS, "Content-Security-Policy": POLICY.format(nonce), "Content-Type": "text/html; charset=utf-8"}
    return web.Response(text=PAGE.read_text("utf-8").replace("NONCE", nonce), headers=headers)


def shown(call: Call) -> dict[str, Json]:
    nobody = "a bad token" if call.outcome is Outcome.BAD_TOKEN else "no token"
    return call.as_dict() | {"caller": call.caller or nobody, "why": why(call), "command": command(call)}


def why(call: Call) -> str:
    """The reason, in the words of deploy.sh explain."""
    who, name = call.caller or "everyone", call.function
    if call.caller == GONE:
        return "the account that the token names was deleted, or made anew"
    if grant := call.grant:
        where = f"service {name}" if grant.resource == name else "the project"
        as_member = f" (as {grant.member})" if call.caller not in ("", grant.member) else ""
        return f"{who} may call {name}{as_member}, by the binding of {grant.role} in the policy of {where}"
    return {
        Outcome.CHECK_IS_OFF: f"the invoker check of {name} is switched off, for everyone",
        Outcome.NO_TOKEN: f"no token came, and {name} does not let in everyone",
        Outcome.BAD_TOKEN: f"the token is not valid: {call.detail}",
        Outcome.NO_BINDING: f"{who} may not call {name}: neither its policy nor one above it gives this"
        " principal the permission run.routes.invoke",
    }.get(call.outcome, f"the platform does not pass this call on: {call.detail}")


def lines_of(trace: str) -> list[dict[str, str]]:
    """The log lines of a trace from every function, in order."""
    found = [
        {"function": one.name, "time": entry.time, "severity": entry.severity, "message": entry.message}
        for one in services.deployed() for entry in log.entries(one.name, trace) if entry.trace.endswith(f"/{trace}")
    ]  # fmt: skip
    return sorted(found, key=lambda line: line["time"])


def trust_map(calls: Calls) -> dict[str, Json]:
    """Every function, everybody who may call or has called one, and the edges between them.

    A refused call of deploy.sh verify draws no edge, because verify tries every pair.
    """
    deployed = {service.name: service for service in services.deployed()}
    edges = {(member, name) for name, one in deployed.items() for member in members_of(one)}
    last = dict[tuple[str, str], bool]()
    for call in calls.kept:
        if call.function in deployed and call.outcome not in (Outcome.BAD_TOKEN, Outcome.NOWHERE):
            edge = (call.caller or "allUsers").lower(), call.function
            last[edge] = call.is_let_in
            edges |= {edge} if call.is_let_in or not call.measured else set()
    names = {f"serviceAccount:{one.account}".lower(): name for name, one in deployed.items()}
    names |= {"allusers": "anonymous", f"user:{YOU}".lower(): "you"}
    drawn = [
        {"caller": names.get(who, who), "function": name, "allowed": may_call(who, deployed[name]), "last_let_in": last.get((who, name))}
        for who, name in sorted(edges)
    ]  # fmt: skip
    callers = dict.fromkeys(("anonymous", "you", *deployed, *(edge["caller"] for edge in drawn)))
    functions = [
        {"name": name, "url": one.url, "runs": bool(one.serving and processes.running(one.serving.revision))}
        for name, one in deployed.items()
    ]
    return {"callers": list(callers), "functions": functions, "edges": drawn}


def members_of(service: Service) -> set[str]:
    """Whom its policy or the project's lets in, in lower case."""
    if service.open:
        return {"allusers"}
    found = [grant.member.lower() for on in (service.name, policies.PROJECT) for grant in policies.grants(INVOKE, on)]
    return {member for member in found if not member.startswith("deleted:")}


def may_call(member: str, service: Service) -> bool:
    account = accounts.account(member.partition(":")[2])  # it may be in a group that a policy names
    return member in members_of(service) or bool(service.open) or policies.allowed(INVOKE, account, service.name)
