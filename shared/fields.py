"""The fields of an account: one set of rules for every function that is given some."""

import re

from werkzeug.exceptions import BadRequest

from shared.answers import json_body

__all__ = ["fits", "read_fields"]

# Half a surrogate pair can be written in JSON, but it is no text: neither hashed nor stored.
TEXT = r"[^\ud800-\udfff]"
RULES = {
    "username": (r"[a-z0-9_-]{3,32}", "must be 3 to 32 of a-z, 0-9, _ and -"),
    "password": (TEXT + "{8,128}", "must be 8 to 128 characters"),
    "display_name": (TEXT + "{1,80}", "must be 1 to 80 characters"),
}


def fits(name: str, value) -> bool:
    """Whether `value` may stand in the field `name`."""
    return isinstance(value, str) and bool(re.fullmatch(RULES[name][0], value))


def read_fields(*names: str) -> dict[str, str]:
    """These fields of the request's JSON body. A missing or wrong one is answered 400."""
    body = json_body()
    for name in names:
        if name not in body:
            raise BadRequest(f"{name} is missing.")
        if not fits(name, body[name]):
            raise BadRequest(f"{name} {RULES[name][1]}.")
    return {name: body[name] for name in names}
