"""login: the front door. It holds no account itself; it asks user-profiles, as login."""

from werkzeug.exceptions import Conflict, Unauthorized
from werkzeug.utils import import_string

from shared.answers import answer, json_app
from shared.calls import Function, Unreachable
from shared.fields import matching, read_fields, text

# user-profiles has the same rules; here a wrong field is named without asking it.
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
    # Repeatable: user-profiles answers 201 to the same account with the same password.
    status, body = user_profiles.call(
        "POST", "/profiles", json=account, expect=(409,), repeatable=True
    )
    if status == 409:
        raise Conflict("This username is taken.")
    return {"profile": profile_in(body)}, 201


def profile_in(body) -> dict:
    """The profile that user-profiles answered, and nothing else that it may have said."""
    fields = ("username", "display_name", "created_at")
    try:
        return {field: body["profile"][field] for field in fields}
    except (KeyError, TypeError):
        reason = "no profile in it; is it of the same version?"
        raise Unreachable("user-profiles gave no usable answer.", reason) from None


# A fork that can do without one of these deletes the file and its line here.
for part in (
    "page",  # GET /: the demo page
    "search_as_login",  # GET /search: a call that is refused
):
    app.register_blueprint(import_string(f"{part}:blueprint"))
