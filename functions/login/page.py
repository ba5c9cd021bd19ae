"""GET / is the demo page, which draws the calls that login makes."""

import os
import pathlib
import secrets

from flask import Blueprint, current_app, g, has_request_context

from shared.calls import call_made

PAGE = pathlib.Path(__file__).with_name("page.html").read_text("utf-8")
PREFIX = os.environ.get("K_SERVICE", "").removesuffix("login")  # the PREFIX of deploy.sh
POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

blueprint = Blueprint("page", __name__)


@blueprint.get("/")
def page():
    nonce = secrets.token_urlsafe()
    headers = {
        "Content-Security-Policy": POLICY.format(nonce),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    parts = " ".join(rule.rule for rule in current_app.url_map.iter_rules())
    filled = PAGE.replace("NONCE", nonce).replace("PREFIX", PREFIX).replace("PARTS", parts)
    return filled, headers


@call_made.connect
def note(function, outcome, seconds):
    if has_request_context():
        g.setdefault("calls", []).append((function, outcome, seconds))


@blueprint.after_app_request
def tell_the_page(response):
    """Tells the page which calls login made to answer this one, and how they ended.

    This reveals nothing new: search's refusal names login's service account anyway, and the URLs of
    the functions that login calls follow from its own. No tokens and no content are included.
    """
    calls = [
        f'{to.name};dur={seconds * 1000:.1f};desc="{outcome} {to.auth.principal} {to.auth.audience}"'
        for to, outcome, seconds in g.get("calls", ())
    ]
    if calls:
        response.headers["Server-Timing"] = ", ".join(calls)
    return response
