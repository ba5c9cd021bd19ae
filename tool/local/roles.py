"""The predefined roles of IAM that the local target knows, and what each may do here.

role-contents.txt lists them, and names its public source; tool/roles/make.py makes it. It has only
the permissions that matter to functions, their callers and a deploy.
"""

import functools
import pathlib

from tool.local.records import Record

INVOKE = "run.routes.invoke"
ID_TOKEN = "iam.serviceAccounts.getOpenIdToken"
ACCESS_TOKEN = "iam.serviceAccounts.getAccessToken"
SECRET = "secretmanager.versions.access"

CONTENTS = pathlib.Path(__file__).with_name("role-contents.txt")
# The newer basic roles hold the same as the older ones, and are missing in lists such as the source.
LIKE = {"admin": "owner", "writer": "editor", "reader": "viewer"}


class Role(Record):
    name: str
    permissions: tuple[str, ...]


@functools.cache
def contents() -> dict[str, str]:
    """Permissions, separated by spaces, by the name without roles/. Read when first needed."""
    lines = CONTENTS.read_text("utf-8").splitlines()
    parts = (line.partition(" ") for line in lines if not line.startswith("#"))
    return {name: held for name, _, held in parts}


def predefined(name: str) -> Role | None:
    """The role roles/NAME, if it is known here."""
    short = name.removeprefix("roles/")
    held = contents().get(LIKE.get(short, short)) if name.startswith("roles/") else None
    return Role(name, tuple(held.split())) if held else None
