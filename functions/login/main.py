"""login: the front door. It holds no account itself; it asks user-profiles, as login."""

from flask import request
from werkzeug.exceptions import Conflict, Forbidden, Unauthorized

from shared.answers import answer, json_app
from shared.calls import Function, Refused, Unreachable
from shared.fields import read_fields

app = json_app(__name__)
user_profiles = Function("user-profiles")
search = Function("search")


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


def profile_in(body: dict) -> dict:
    """The profile that user-profiles answered, and nothing else that it may have said."""
    try:
        return {
            field: body["profile"][field] for field in ("username", "display_name", "created_at")
        }
    except (KeyError, TypeError):
        reason = "no profile in it; is it of the same version?"
        raise Unreachable("user-profiles gave no usable answer.", reason) from None
