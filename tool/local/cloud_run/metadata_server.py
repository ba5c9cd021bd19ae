"""A metadata server: tells one function, and only that one, which account it runs as.

It works like Cloud Run's; Google's libraries need the headers, the content types and the root page.
"""

import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

from aiohttp import web

from tool.local import accounts, services, state, tokens
from tool.local.accounts import Account
from tool.local.records import Record

KEPT_UNTIL = 300  # seconds before expiry; until then the answer is the same token
BASE = "/computeMetadata/v1"
SCOPES = [
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/userinfo.email",
]
LEFT_OUT = ("token", "identity")  # out of recursive answers

Query = Mapping[str, str]
Answer = Callable[[Query], web.Response]
Folder: TypeAlias = "dict[str, Folder | Answer | list[str] | str]"


class KeptToken(Record):
    """An ID token that is given out again until shortly before it expires."""

    token: str
    unique_id: str  # of the account it was made for
    expiry: float


class MetadataServer:
    """Answers at the metadata port of one function."""

    def __init__(self, function: str, port: int):
        self.function = function
        self.kept: dict[str, KeptToken] = {}  # by audience
        # A web page may send a browser here under its own name, but not under these.
        names = ("metadata.google.internal", "metadata", "169.254.169.254")
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self.hosts |= {host for name in names for host in (name, f"{name}:80")}

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        response = self.answer(request)
        response.headers["Metadata-Flavor"] = "Google"
        response.headers["Server"] = "Metadata Server for Serverless"
        return response

    def answer(self, request: web.BaseRequest) -> web.Response:
        if request.host not in self.hosts or "X-Forwarded-For" in request.headers:
            return refused(403, "Forbidden")
        if request.path == "/" and request.method in ("GET", "HEAD"):
            return text("computeMetadata/\n")
        if request.headers.get("Metadata-Flavor") != "Google":
            return refused(403, "Missing Metadata-Flavor:Google header.")
        if request.method not in ("GET", "HEAD"):
            return refused(405, "Method Not Allowed")
        if request.path != BASE and not request.path.startswith(BASE + "/"):
            return refused(404, "Not Found")
        found: Folder | Answer | list[str] | str = self.tree()
        names = request.path.removeprefix(BASE).strip("/")
        for name in names.split("/") if names else ():
            if not isinstance(found, dict) or name not in found:
                return refused(404, "Not Found")
            found = found[name]
        if isinstance(found, dict):
            return listing(request, found)
        return found(request.query) if callable(found) else value(request, found)

    def tree(self) -> Folder:
        project, here = state.project(), f"projects/{state.project().number}"
        return {
            "instance": {
                "id": f"local-{self.function}",
                "region": f"{here}/regions/{project.region}",
                "service-accounts": self.service_accounts(),
                "zone": f"{here}/zones/{project.region}-1",
            },
            "project": {"numeric-project-id": project.number, "project-id": project.id},
            "universe": {"universe-domain": "googleapis.com"},
        }

    def service_accounts(self) -> Folder:
        account = accounts.service_account(services.service(self.function).account)
        if not account:
            return {}
        info: Folder = {
            "aliases": ["default"],
            "email": account.email,
            "identity": lambda query: self.identity(account, query),
            "scopes": SCOPES,
            "token": lambda query: self.token(account, query),
        }
        return {"default": info, account.email: info}

    def token(self, account: Account, query: Query) -> web.Response:
        if "scopes" in query and not query["scopes"].strip(", "):
            return refused(400, "non-empty scopes parameter required")
        token = tokens.access_token(account)
        expires = tokens.LIFETIME - 1
        answer = {"access_token": token, "expires_in": expires, "token_type": "Bearer"}
        return web.json_response(answer)

    def identity(self, account: Account, query: Query) -> web.Response:
        audience = query.get("audience")
        if not audience:
            return refused(400, "non-empty audience parameter required")
        if len(audience) > 2048 or query.get("format", "standard") not in ("standard", "full"):
            return refused(400, "Bad Request")
        # On Cloud Run, both formats contain the e-mail address. Whether its server keeps ID tokens
        # is not known; this one does, because that is the harder case for a client.
        kept, now = self.kept.get(audience), time.time()
        if not kept or kept.unique_id != account.unique_id or kept.expiry - now < KEPT_UNTIL:
            token = tokens.id_token(account, audience)
            kept = KeptToken(token, account.unique_id, now + tokens.LIFETIME)
            self.kept = {a: k for a, k in self.kept.items() if k.expiry > now} | {audience: kept}
        return text(kept.token, "text/html")


def listing(request: web.BaseRequest, folder: Folder) -> web.Response:
    """A folder: its names, or with recursive=true its whole content as JSON."""
    if request.query.get("recursive", "").lower() == "true":
        return web.json_response(without_tokens(folder))
    if not request.path.endswith("/"):  # as Node's library expects
        where = f"http://{request.host}{request.path}/"
        return web.Response(status=301, headers={"Location": where})
    names = [f"{name}/" if isinstance(folder[name], dict) else name for name in sorted(folder)]
    return text("".join(f"{name}\n" for name in names))


def without_tokens(folder: Folder) -> dict[str, object]:
    return {
        camel(name): without_tokens(inner) if isinstance(inner, dict) else inner
        for name, inner in folder.items()
        if name not in LEFT_OUT
    }


def camel(name: str) -> str:
    """project-id as projectId, as in Google's JSON; addresses stay unchanged."""
    if "@" in name:
        return name
    first, *rest = name.split("-")
    return first + "".join(word.title() for word in rest)


def value(request: web.BaseRequest, content: list[str] | str) -> web.Response:
    if request.query.get("alt") == "json":
        return web.json_response(content)
    return text("".join(f"{line}\n" for line in content) if isinstance(content, list) else content)


def text(content: str, kind: str = "application/text") -> web.Response:
    return web.Response(body=content.encode(), headers={"Content-Type": kind})


def refused(status: int, reason: str) -> web.Response:
    headers = {"Content-Type": "text/html; charset=UTF-8"}
    return web.Response(body=reason.encode(), status=status, headers=headers)
