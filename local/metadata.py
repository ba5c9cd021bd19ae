"""A metadata server: says to one function, and to it alone, which account it runs as.

As Cloud Run's does; google-auth needs the headers, the content types and the root page.
"""

import time

from flask import Flask, Response, abort, request

from local import tokens
from local.project import read

KEPT_UNTIL = 300  # seconds before expiry; until then the same token is answered again


def metadata_server(function: str, port: int) -> Flask:
    app = Flask(__name__, static_folder=None)
    kept: dict[str, tuple[str, float]] = {}
    base = "/computeMetadata/v1"

    def account(key="default"):
        service = read(f"services/{function}") or {}
        found = read(f"accounts/{service.get('account')}")
        if not found or key not in ("default", found["email"]):
            abort(404)
        return found

    @app.before_request
    def guard():
        # A web page may send a browser here under a name of its own, but not under these.
        hosts = (f"127.0.0.1:{port}", f"localhost:{port}", "metadata.google.internal")
        if request.host not in hosts or "X-Forwarded-For" in request.headers:
            abort(403)
        if request.path != "/" and request.headers.get("Metadata-Flavor") != "Google":
            abort(403, "Missing Metadata-Flavor:Google header.")

    @app.after_request
    def sign(response):
        response.headers["Metadata-Flavor"] = "Google"
        return response

    def text(content):
        return Response(content, content_type="application/text")

    @app.get("/")
    def root():
        return text("computeMetadata/\n")

    @app.get(f"{base}/<path:name>")
    def value(name):
        project = read("project")
        region = f"projects/{project['number']}/regions/{project['region']}"
        values = {
            "": "instance/\nproject/\nuniverse/\n",
            "instance/": "id\nregion\nservice-accounts/\nzone\n",
            "instance/id": f"local-{function}",
            "instance/region": region,
            "instance/zone": region.replace("/regions/", "/zones/") + "-1",
            "project/": "numeric-project-id\nproject-id\n",
            "project/numeric-project-id": project["number"],
            "project/project-id": project["id"],
            "universe/universe-domain": "googleapis.com",
        }
        return text(values[name]) if name in values else abort(404)

    @app.get(f"{base}/instance/service-accounts/")
    def accounts():
        return text(f"default/\n{account()['email']}/\n")

    @app.get(f"{base}/instance/service-accounts/<key>/")
    def info(key):
        email = account(key)["email"]
        if request.args.get("recursive") != "true":
            return text("aliases\nemail\nidentity\nscopes\ntoken\n")
        scopes = ["https://www.googleapis.com/auth/cloud-platform"]
        return {"aliases": ["default"], "email": email, "scopes": scopes}

    @app.get(f"{base}/instance/service-accounts/<key>/email")
    def email(key):
        return text(account(key)["email"])

    @app.get(f"{base}/instance/service-accounts/<key>/token")
    def token(key):
        access_token = tokens.access_token(account(key))
        return {
            "access_token": access_token,
            "expires_in": tokens.LIFETIME - 1,
            "token_type": "Bearer",
        }

    @app.get(f"{base}/instance/service-accounts/<key>/identity")
    def identity(key):
        audience = request.args.get("audience")
        if not audience:
            return Response("non-empty audience parameter required", 400, content_type="text/html")
        if request.args.get("format", "standard") not in ("standard", "full"):
            abort(400)
        # On Cloud Run both formats hold the e-mail address. Whether its server keeps ID
        # tokens is not known; this one does, for that is the harder case for a client.
        who = account(key)
        token, made_for, expiry = kept.get(audience, (None, None, 0))
        if made_for != who["uniqueId"] or expiry - time.time() < KEPT_UNTIL:
            token, expiry = tokens.id_token(who, audience), time.time() + tokens.LIFETIME
            kept[audience] = token, who["uniqueId"], expiry
        return Response(token, content_type="text/html")

    return app
