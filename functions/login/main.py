"""login: the front door. It stores no accounts; it asks user-profiles, under its own identity."""

from werkzeug.exceptions import Conflict, Unauthorized
from werkzeug.utils import import_string

from shared.answers import answer, json_app
from shared.calls import Function, Unreachable
from shared.fields import matching, read_fields, text

# The same rules as in user-profiles, so that login can reject a wrong field without a call.
USERNAME = matching(r"[a-z0-9_-]{3,32}", "must be 3 to 32 of a-z, 0-9, _ and -")
PASSWORD = text(8, 128)
DISPLAY_NAME = text(1, 80)

app = json_app(__name__)
user_profiles = Function("user-profiles")


def login(request):
    """The entry point of the function."""
    return answer(app, request)


@app.post("/")
def log_in():
    credentials = read_fields(username=USERNAME, password=PASSWORD)
    status, body = user_profiles.call(
        "POST", "/profiles/verify", json=credentials, expect=(401,), repeatable=True
    )
    if status == 401:
        raise Unauthorized("Unknown name or wrong password.")
    return {"profile": profile_in(body)}


@app.post("/signup")
def sign_up():
    account = read_fields(username=USERNAME, password=PASSWORD, display_name=DISPLAY_NAME)
    # Repeatable: for the same account with the same password, user-profiles answers 201 again.
    status, body = user_profiles.call(
        "POST", "/profiles", json=account, expect=(409,), repeatable=True
    )
    if status == 409:
        raise Conflict("This username is taken.")
    return {"profile": profile_in(body)}, 201


def profile_in(body) -> dict:
    """The profile in the answer of user-profiles, without anything else that is in there."""
    fields = ("username", "display_name", "created_at")
    try:
        return {field: body["profile"][field] for field in fields}
    except (KeyError, TypeError):
        reason = "no profile in it; is it of the same version?"
        raise Unreachable("user-profiles gave no usable answer.", reason) from None


# If your fork does not need one of these, delete the file and its line here.
for part in (
    "page",  # GET /: the demo page
    "search_as_login",  # GET /search: a call that is refused
):
    app.register_blueprint(import_string(f"{part}:blueprint"))
