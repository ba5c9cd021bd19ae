"""user-profiles: keeps the accounts, and is the only one to see a password's hash."""

import os
from datetime import datetime, timezone

from shared.answers import answer, json_app
from shared.fields import fits, read_fields
from stores import open_store
from werkzeug.exceptions import Conflict, NotFound, Unauthorized
from werkzeug.security import check_password_hash, generate_password_hash

HASHING = "scrypt:32768:8:1"  # 32 MiB and about 60 ms of one core for each check
NOBODY = f"{HASHING}$nobody${'0' * 128}"  # takes as long to check as anybody's

app = json_app(__name__)
store = open_store(os.environ.get("PROFILES_STORE", "sqlite:profiles.db"))


def user_profiles(request):
    """The entry point of the function."""
    return answer(app, request)


@app.post("/profiles")
def create():
    account = read_fields("username", "password", "display_name")
    profile = {
        "username": account["username"],
        "display_name": account["display_name"],
        "created_at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if not store.add(profile, generate_password_hash(account["password"], HASHING)):
        raise Conflict("This username is taken.")
    return {"profile": profile}, 201


@app.post("/profiles/verify")
def verify():
    credentials = read_fields("username", "password")
    profile, password_hash = store.get(credentials["username"]) or (None, NOBODY)
    # An unknown name costs the same check, so that time does not tell who has an account.
    if not check_password_hash(password_hash, credentials["password"]) or not profile:
        raise Unauthorized("Unknown name or wrong password.")
    return {"profile": profile}


@app.get("/profiles/<username>")
def show(username):
    found = fits("username", username) and store.get(username)
    if not found:
        raise NotFound("There is no such profile.")
    return {"profile": found[0]}
