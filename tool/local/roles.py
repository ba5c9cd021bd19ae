"""The predefined roles of IAM that the local target knows, and what each may do here.

role-contents.txt lists them, with the public source in its head; tool/roles/make.py makes it. Of a
role's permissions it has those that mean something to functions, their callers and their deploy.
"""

import functools
import pathlib

from tool.local.records import Record

INVOKE = "run.routes.invoke"
ID_TOKEN = "iam.serviceAccounts.getOpenIdToken"
ACCESS_TOKEN = "iam.serviceAccounts.getAccessToken"
SECRET = "secretmanager.versions.access"

CONTENTS = pathlib.Path(__file__).with_name("role-contents.txt")
# The newer basic roles hold what the older ones hold. Lists of roles, such as the source, lack them.
LIKE = {"admin": "owner", "writer": "editor", "reader": "viewer"}


class Role(Record):
    name: str
    permissions: tuple[str, ...]


@functools.cache
def contents() -> dict[str, str]:
    """By the name without roles/: permissions, parted by blanks. Read when a role is asked for."""
    lines = CONTENTS.read_text("utf-8").splitlines()
    parts = (line.partition(" ") for line in lines if not line.startswith("#"))
    return {name: held for name, _, held in parts}


def predefined(name: str) -> Role | None:
    """The role that is called roles/NAME, if it is known here."""
    short = name.removeprefix("roles/")
    held = contents().get(LIKE.get(short, short)) if name.startswith("roles/") else None
    return Role(name, tuple(held.split())) if held else None
