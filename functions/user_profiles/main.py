"""user-profiles: keeps the accounts, and is the only function that sees password hashes."""

import logging
import threading
from contextlib import contextmanager
from datetime import UTC, datetime

from flask import request
from stores import open_profiles
from werkzeug.exceptions import Conflict, NotFound, ServiceUnavailable, Unauthorized
from werkzeug.security import check_password_hash, generate_password_hash

from shared.answers import answer, json_app
from shared.auth import caller
from shared.fields import matching, read_fields, text

HASHING = "scrypt:32768:8:1"  # 32 MiB and about 60 ms of one core for each check
NOBODY = f"{HASHING}$nobody${'0' * 128}"  # takes as long to check as a real one

CHECKS_AT_ONCE = 4  # each takes 32 MiB
LONGEST_WAIT = 2  # seconds that a check waits for its turn

USERNAME = matching(r"[a-z0-9_-]{3,32}", "must be 3 to 32 of a-z, 0-9, _ and -")
PASSWORD = text(8, 128)
DISPLAY_NAME = text(1, 80)

log = logging.getLogger(__name__)
checks = threading.BoundedSemaphore(CHECKS_AT_ONCE)
app = json_app(__name__)
store = open_profiles()


def user_profiles(request):
    """The entry point of the function."""
    return answer(app, request)


@app.before_request
def note_caller():
    if request.method != "OPTIONS":
        log.info("Called by %s", caller(request.headers))


@app.post("/profiles")
def create():
    account = read_fields(username=USERNAME, password=PASSWORD, display_name=DISPLAY_NAME)
    profile = {
        "username": account["username"],
        "display_name": account["display_name"],
        "created_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    with a_turn():
        password_hash = generate_password_hash(account["password"], HASHING)
    if not store.add(profile, password_hash):
        # The same person may have made this account before, and the answer got lost. This reveals
        # nothing that a log-in with this password would not reveal.
        profile = verified(account)
        if not profile or profile["display_name"] != account["display_name"]:
            raise Conflict("This username is taken.")
    return {"profile": profile}, 201


@app.post("/profiles/verify")
def verify():
    profile = verified(read_fields(username=USERNAME, password=PASSWORD))
    if not profile:
        raise Unauthorized("Unknown name or wrong password.")
    return {"profile": profile}


def verified(account):
    """The profile of this name, if the password is the right one.

    An unknown name takes as long to check, so that the time does not reveal who has an account.
    """
    profile, password_hash = store.get(account["username"]) or (None, NOBODY)
    with a_turn():
        return check_password_hash(password_hash, account["password"]) and profile


@app.get("/profiles/<username>")
def show(username):
    found = USERNAME.fits(username) and store.get(username)
    if not found:
        raise NotFound("There is no such profile.")
    return {"profile": found[0]}


@contextmanager
def a_turn():
    """Waits for a turn to hash. Refuses a rush of log-ins before it uses up all the memory."""
    if not checks.acquire(timeout=LONGEST_WAIT):
        log.warning("More log-ins than this instance can check; raise max-instances or the CPU")
        raise ServiceUnavailable("Too many log-ins at the moment; try again.", retry_after=1)
    try:
        yield
    finally:
        checks.release()
