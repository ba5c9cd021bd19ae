"""The console: a page that shows each call of the local project, and which rule let it in or refused it.

It changes nothing, answers only under its own Host, and shows no token, no query and no body.
"""

import asyncio
import contextlib
import json
import pathlib
import secrets
import shlex
import time

from aiohttp import web

from tool.local import policies, services, state
from tool.local.accounts import Kind
from tool.local.cloud_run.calls import Call, Calls
from tool.local.cloud_run.invoker_check import Outcome
from tool.local.records import Json
from tool.local.runtime import log, processes
from tool.local.services import Service
from tool.local.state import STATE, YOU

PAGE = pathlib.Path(__file__).with_name("console.html")
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
LOOKS = 0.5  # seconds between two looks at policies, processes and edges, while somebody watches


class Console:
    """Answers at the port of the console."""

    def __init__(self, port: int, calls: Calls):
        self.hosts, self.calls = (f"127.0.0.1:{port}", f"localhost:{port}"), calls

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.getall("Host", []) not in [[host] for host in self.hosts]:
            return web.Response(status=404, headers=HEADERS)  # a page from elsewhere uses another name
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={**HEADERS, "Allow": "GET, HEAD"})
        if request.path == "/":
            return page()
        if request.path == "/calls":
            return answer([shown(call) for call in self.wanted(request)])
        if request.path == "/map":
            return answer(trust_map(self.calls))
        if request.path == "/log":
            return answer(lines_of(request.query.get("trace", "")))
        if request.path == "/events":
            return await self.events(request)
        return web.Response(status=404, headers=HEADERS)

    def wanted(self, request: web.BaseRequest) -> list[Call]:
        """Newest first. ?trace= ?function= ?refused"""
        asked = request.query
        return [
            call
            for call in reversed(self.calls.kept)
            if asked.get("trace") in (None, call.trace)
            and asked.get("function") in (None, call.function)
            and not ("refused" in asked and call.outcome in LET_IN)
        ]

    async def events(self, request: web.BaseRequest) -> web.StreamResponse:
        """Calls as they happen, and the map whenever it changes, as server-sent events.

        A call is sent as it is kept; /calls adds the explanation.
        """
        headers = {**HEADERS, "Content-Type": "text/event-stream"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        number, drawn, look_at = int(request.query.get("after", "0") or 0), "", 0.0
        with contextlib.suppress(ConnectionError):
            while True:
                more = self.calls.changed
                if new := self.calls.after(number):
                    number = self.calls.kept[-1].number
                    await send(response, "calls", f"[{','.join(new)}]")
                if time.monotonic() >= look_at:
                    if (now := json.dumps(trust_map(self.calls))) != drawn:
                        drawn = now
                        await send(response, "map", now)
                    look_at = time.monotonic() + LOOKS
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(look_at - time.monotonic()):
                        await more.wait()
                    await asyncio.sleep(0.1)  # many calls at once are one event
        return response


async def send(response: web.StreamResponse, event: str, data: str) -> None:
    await response.write(f"event: {event}\ndata: {data}\n\n".encode())


def page() -> web.Response:
    nonce = secrets.token_urlsafe()
    text = PAGE.read_text("utf-8").replace("NONCE", nonce)
    headers = {**HEADERS, "Content-Security-Policy": POLICY.format(nonce)}
    return web.Response(text=text, content_type="text/html", headers=headers)


def answer(content: Json) -> web.Response:
    return web.json_response(content, headers=HEADERS)


# ---- one call


LET_IN = (Outcome.LET_IN, Outcome.CHECK_IS_OFF)


def shown(call: Call) -> dict[str, Json]:
    said = {"caller": call.caller or nobody(call), "why": why(call), "command": command(call)}
    return {**call.as_dict(), **said}


def nobody(call: Call) -> str:
    return "a bad token" if call.outcome is Outcome.BAD_TOKEN else "no token"


def why(call: Call) -> str:
    """The reason, in the words of deploy.sh explain."""
    who, name = call.caller or "everyone", call.function
    return {
        Outcome.LET_IN: f"{who} may call {name}, by the binding of {call.detail} in the policy of {call.resource}",
        Outcome.CHECK_IS_OFF: f"the invoker check of {name} is switched off, for everyone",
        Outcome.NO_TOKEN: f"no token came, and {name} does not let in everyone",
        Outcome.BAD_TOKEN: f"the token is not valid: {call.detail}",
        Outcome.NO_BINDING: f"{who} may not call {name}: neither its policy nor the project's gives this"
        " principal the permission run.routes.invoke",
        Outcome.NOWHERE: f"the platform does not pass this call on: {call.detail}",
    }[call.outcome]


def command(call: Call) -> str:
    """The shell command that would change the outcome."""
    project = state.found_project()
    if not project:
        return ""
    where = (f"--project={project.id}", f"--region={project.region}")
    change: tuple[str, ...]
    if call.outcome is Outcome.NO_BINDING:
        binding = (f"--member={call.caller}", "--role=roles/run.invoker")
        change = ("add-iam-policy-binding", call.function, *where, *binding)
    elif call.outcome is Outcome.CHECK_IS_OFF:
        change = ("update", call.function, *where, "--invoker-iam-check")
    elif call.outcome is Outcome.LET_IN:
        if not call.resource.startswith("service "):
            return ""
        binding = (f"--member={call.caller or 'allUsers'}", f"--role={call.detail}")
        change = ("remove-iam-policy-binding", call.function, *where, *binding)
    else:
        return "" if call.outcome is Outcome.NOWHERE else "gcloud auth print-identity-token"
    return shlex.join(("gcloud", "run", "services", *change))


def lines_of(trace: str) -> list[dict[str, str]]:
    """The log lines of a trace from every function, in order."""
    found = []
    for service in services.deployed() if trace else ():
        with contextlib.suppress(OSError):
            text = (STATE / "logs" / f"{service.name}.log").read_text("utf-8", "replace")
            entries = (log.entry(line) for line in text.splitlines() if trace in line)
            found += [{"function": service.name, "time": e.time, "severity": e.severity, "message": e.message} for e in entries]
    return sorted(found, key=lambda line: line["time"])


# ---- the map


def trust_map(calls: Calls) -> dict[str, Json]:
    """Every function, every caller that a policy or a call names, and the edges between them.

    A refused call of deploy.sh verify draws no edge, because verify tries every pair.
    """
    deployed = services.deployed()
    named = {f"serviceAccount:{service.account}".lower(): service.name for service in deployed}
    named |= {"allusers": "anonymous", "": "anonymous", f"{Kind.USER}:{YOU}".lower(): "you"}
    last: dict[tuple[str, str], bool] = {}
    seen: set[tuple[str, str]] = set()
    for call in calls.kept:
        if call.outcome in (*LET_IN, Outcome.NO_TOKEN, Outcome.NO_BINDING):
            caller = named.get(call.caller.lower(), call.caller)
            last[caller, call.function] = call.outcome in LET_IN
            if not call.measured or call.outcome in LET_IN:
                seen.add((caller, call.function))
    allowed = {
        (named.get(member.lower(), member), service.name)
        for service in deployed for member in members_of(service)
    }  # fmt: skip
    callers = ["anonymous", "you", *(service.name for service in deployed)]
    callers += sorted({caller for caller, _ in {*allowed, *seen}} - set(callers))
    names = {service.name for service in deployed}
    edges = [
        {"caller": caller, "function": name, "allowed": (caller, name) in allowed, "last_let_in": last.get((caller, name))}
        for caller, name in sorted({*allowed, *seen}) if name in names
    ]  # fmt: skip
    functions = [{"name": service.name, "url": service.url, "runs": runs(service)} for service in deployed]
    return {"callers": callers, "functions": functions, "edges": edges}


def members_of(service: Service) -> set[str]:
    """Who may invoke it, according to its own policy as it is in effect now."""
    policy = policies.policy(service.name)
    if service.open:
        return {"allUsers"}
    return {
        member
        for binding in (policy.in_effect if policy else ())
        if policies.holds(binding.role, "run.routes.invoke")
        for member in binding.members
    }


def runs(service: Service) -> bool:
    return bool(service.serving and processes.running(service.serving.revision))
