"""A metadata server: says to one function, and to it alone, which account it runs as.

As Cloud Run's does; Google's libraries need the headers, the content types and the root page.
"""

import time

from aiohttp import web

from tool.local import state, tokens

KEPT_UNTIL = 300  # seconds before expiry; until then the same token is answered again
BASE = "/computeMetadata/v1"
SCOPES = [
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/userinfo.email",
]
LEFT_OUT = ("token", "identity")  # of recursive answers


class MetadataServer:
    """Answers at the metadata port of one function."""

    def __init__(self, function: str, port: int):
        self.function, self.kept = function, {}
        # A web page may send a browser here under a name of its own, but not under these.
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
        found = self.tree()
        names = request.path.removeprefix(BASE).strip("/")
        for name in names.split("/") if names else ():
            if not isinstance(found, dict) or name not in found:
                return refused(404, "Not Found")
            found = found[name]
        if isinstance(found, dict):
            return listing(request, found)
        return found(request.query) if callable(found) else value(request, found)

    def tree(self) -> dict:
        project, account = state.read("project"), self.account()
        region = f"projects/{project['number']}/regions/{project['region']}"
        accounts = {}
        if account:
            info = {
                "aliases": ["default"],
                "email": account["email"],
                "identity": lambda query: self.identity(account, query),
                "scopes": SCOPES,
                "token": lambda query: self.token(account, query),
            }
            accounts = {"default": info, account["email"]: info}
        return {
            "instance": {
                "id": f"local-{self.function}",
                "region": region,
                "service-accounts": accounts,
                "zone": region.replace("/regions/", "/zones/") + "-1",
            },
            "project": {"numeric-project-id": project["number"], "project-id": project["id"]},
            "universe": {"universe-domain": "googleapis.com"},
        }

    def account(self) -> dict | None:
        service = state.read(f"services/{self.function}") or {}
        return state.service_account(service.get("account"))

    def token(self, account: dict, query) -> web.Response:
        if "scopes" in query and not query["scopes"].strip(", "):
            return refused(400, "non-empty scopes parameter required")
        token = tokens.access_token(account)
        expires = tokens.LIFETIME - 1
        answer = {"access_token": token, "expires_in": expires, "token_type": "Bearer"}
        return web.json_response(answer)

    def identity(self, account: dict, query) -> web.Response:
        audience = query.get("audience")
        if not audience:
            return refused(400, "non-empty audience parameter required")
        if len(audience) > 2048 or query.get("format", "standard") not in ("standard", "full"):
            return refused(400, "Bad Request")
        # On Cloud Run both formats hold the e-mail address. Whether its server keeps ID
        # tokens is not known; this one does, for that is the harder case for a client.
        token, made_for, expiry = self.kept.get(audience, (None, None, 0))
        if made_for != account["uniqueId"] or expiry - time.time() < KEPT_UNTIL:
            token, expiry = tokens.id_token(account, audience), time.time() + tokens.LIFETIME
            self.kept = {a: k for a, k in self.kept.items() if k[2] > time.time()}
            self.kept[audience] = token, account["uniqueId"], expiry
        return text(token, "text/html")


def listing(request: web.BaseRequest, folder: dict) -> web.Response:
    """A folder: its names, or with recursive=true all that is in it as JSON."""
    if request.query.get("recursive", "").lower() == "true":
        return web.json_response(without_tokens(folder))
    if not request.path.endswith("/"):  # as Node's library wants it
        where = f"http://{request.host}{request.path}/"
        return web.Response(status=301, headers={"Location": where})
    names = [f"{name}/" if isinstance(folder[name], dict) else name for name in sorted(folder)]
    return text("".join(f"{name}\n" for name in names))


def without_tokens(found):
    if not isinstance(found, dict):
        return found
    kept = {name: inner for name, inner in found.items() if name not in LEFT_OUT}
    return {camel(name): without_tokens(inner) for name, inner in kept.items()}


def camel(name: str) -> str:
    """project-id as projectId, as the JSON of Google's has it; addresses stay."""
    if "@" in name:
        return name
    first, *rest = name.split("-")
    return first + "".join(word.title() for word in rest)


def value(request: web.BaseRequest, content) -> web.Response:
    if request.query.get("alt") == "json":
        return web.json_response(content)
    return text("".join(f"{line}\n" for line in content) if isinstance(content, list) else content)


def text(content: str, kind: str = "application/text") -> web.Response:
    return web.Response(body=content.encode(), headers={"Content-Type": kind})


def refused(status: int, reason: str) -> web.Response:
    headers = {"Content-Type": "text/html; charset=UTF-8"}
    return web.Response(body=reason.encode(), status=status, headers=headers)
