"""login: the front door. It holds no account itself; it asks user-profiles, as login."""

from werkzeug.exceptions import Conflict, Unauthorized

from shared.answers import answer, json_app
from shared.calls import Function, Unreachable
from shared.fields import read_fields

app = json_app(__name__)
user_profiles = Function("user-profiles")


def login(request):
    """The entry point of the function."""
    return answer(app, request)


@app.post("/")
def log_in():
    credentials = read_fields("username", "password")
    status, body = user_profiles.call(
        "POST", "/profiles/verify", json=credentials, expect=(200, 401)
    )
    if status == 401:
        raise Unauthorized("Unknown name or wrong password.")
    return {"profile": profile_in(body)}


@app.post("/signup")
def sign_up():
    account = read_fields("username", "password", "display_name")
    status, body = user_profiles.call("POST", "/profiles", json=account, expect=(201, 409))
    if status == 409:
        raise Conflict("This username is taken.")
    return {"profile": profile_in(body)}, 201


def profile_in(body: dict) -> dict:
    """The profile that user-profiles answered, and nothing else that it may have said."""
    try:
        return {
            field: body["profile"][field] for field in ("username", "display_name", "created_at")
        }
    except (KeyError, TypeError):
        reason = "no profile in it; is it of the same version?"
        raise Unreachable("user-profiles gave no usable answer.", reason) from None


# ---- search, which lets nobody in: a fork that does not need it deletes this part

from flask import request
from werkzeug.exceptions import Forbidden

from shared.calls import Refused

search = Function("search")


@app.get("/search")
def search_as_login():
    """Asks search although nobody may: a demonstration of the binding that is not there."""
    try:
        _, body = search.call("GET", "/", params={"q": request.args.get("q", "")})
    except Refused:
        raise Forbidden(
            "search does not let login in: its policy has no binding of roles/run.invoker"
            f" for {search.auth.principal}."
        ) from None
    return {"results": body.get("results", [])}


# ---- the demo page: a fork that does not need it deletes this part, and page.html

import os
import pathlib
import secrets

from flask import g

PAGE = pathlib.Path(__file__).with_name("page.html").read_text("utf-8")
PREFIX = os.environ.get("K_SERVICE", "").removesuffix("login")  # the one of deploy.sh
POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@app.get("/")
def page():
    nonce = secrets.token_urlsafe()
    headers = {
        "Content-Security-Policy": POLICY.format(nonce),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return PAGE.replace("NONCE", nonce).replace("PREFIX", PREFIX), headers


@app.after_request
def tell_the_page(response):
    """What the picture is drawn from: which calls were made for this one, and how they ended.

    It tells nothing new: search's refusal names login's account anyway, and the URLs of its
    receivers follow from its own. Nothing of what was said, and no token, is in it.
    """
    calls = [
        f'{to.name};dur={seconds * 1000:.1f};desc="{outcome} {to.auth.principal} {to.auth.audience}"'
        for to, outcome, seconds in g.get("calls", ())
    ]
    if calls:
        response.headers["Server-Timing"] = ", ".join(calls)
    return response
