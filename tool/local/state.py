"""The state of the local project: small JSON files in one private folder.

project            id, number, region, token_port, key_id, apis
accounts/EMAIL     kind (user or serviceAccount), email, uniqueId; keys, if any
ids/UNIQUEID       the email address of the account
services/NAME      its ports and URL; once deployed, what was deployed, and what serves
addresses          no JSON: name, URL and metadata host of each service, a line each
revisions/NAME     how to start a revision again; its source is in the folder beside it
policies/NAME      the policy of a service; _project, account.EMAIL and secret.NAME likewise
roles/NAME         a role of the project's own, and its permissions
"""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import time

from tool.local import roles

ROOT = pathlib.Path(__file__).resolve().parents[2]
STATE = pathlib.Path(os.environ.get("LOCAL_STATE") or ROOT / ".local").absolute()
SECRETS = pathlib.Path(os.environ.get("LOCAL_SECRETS") or STATE.parent / ".secrets").absolute()
GROUPS = pathlib.Path(os.environ.get("LOCAL_GROUPS") or STATE.parent / ".groups").absolute()
YOU = "you@example.com"


def path(name: str) -> pathlib.Path:
    if len(name) > 200 or not re.fullmatch(r"([a-z]+/)?[A-Za-z0-9_][A-Za-z0-9@._-]*", name):
        raise ValueError("no name for a resource")
    return STATE / f"{name}.json"


def read(name: str):
    """The resource's content, or None if there is no such resource."""
    try:
        return json.loads(path(name).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def write(name: str, content) -> None:
    replace(path(name), json.dumps(content, indent=1))


def replace(target: pathlib.Path, text: str) -> None:
    """Writes a file at one stroke, so that no reader sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f"{target.name}.{os.getpid()}.new")
    new.write_text(text, "utf-8")
    os.replace(new, target)


def remove(name: str) -> None:
    path(name).unlink(missing_ok=True)


def names(kind: str) -> list[str]:
    return sorted(file.name.removesuffix(".json") for file in (STATE / kind).glob("*.json"))


@contextlib.contextmanager
def locked(what: str, folder: pathlib.Path = STATE):
    """Only one process at a time is in here: for what is read, changed and written again."""
    (folder / "locks").mkdir(parents=True, exist_ok=True)
    with open(folder / "locks" / what, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# ---- accounts


def account(email) -> dict | None:
    """The account with this address, whatever it is that a request gave as one."""
    return read(f"accounts/{email}") if isinstance(email, str) else None


def service_account(email) -> dict | None:
    found = account(email)
    return found if found and found["kind"] == "serviceAccount" else None


def account_with_id(unique_id: str) -> dict | None:
    """The account that a token's `sub` names."""
    return account(read(f"ids/{unique_id}"))


def add_account(kind: str, email: str, **more) -> dict:
    import random  # slow to load, and most commands of a deploy add no account

    unique_id = str(random.randrange(10**20, 10**21))
    added = {"kind": kind, "email": email, "uniqueId": unique_id, **more}
    write(f"accounts/{email}", added)
    write(f"ids/{unique_id}", email)
    return added


def principal(account: dict) -> str:
    """The account as a policy names it, for example user:you@example.com."""
    return f"{account['kind']}:{account['email']}"


def members(account: dict | None) -> set[str]:
    """What a policy may call this account (None: nobody in particular), in small letters.

    Who is in the group admins@example.com stands in the file of this name in GROUPS, a line each.
    """
    if not account:
        return {"allusers"}
    email = account["email"].lower()
    found = {"allusers", "allauthenticatedusers", principal(account).lower()}
    for file in GROUPS.glob("*@*"):
        if email in (word.rpartition(":")[2] for word in file.read_text().lower().split()):
            found.add(f"group:{file.name.lower()}")
    if account["kind"] == "user":
        found.add(f"domain:{email.partition('@')[2]}")
    return found


# ---- policies


def policy(name: str) -> dict:
    return read(f"policies/{name}") or {"bindings": []}


def in_effect(policy: dict) -> list[dict]:
    """The bindings that count now: a change takes effect after a while, as in the cloud."""
    return policy["before"] if policy.get("from", 0) > time.time() else policy["bindings"]


def put_policy(name: str, bindings: list[dict]) -> None:
    """Takes effect at once; or after the seconds in propagation.json, as in the cloud."""
    delay = read("propagation") or 0
    until = {"before": in_effect(policy(name)), "from": time.time() + delay} if delay else {}
    write(f"policies/{name}", {"bindings": bindings, **until})
    with open(STATE / "audit.log", "a") as log:
        log.write(f"# policy {name} {json.dumps(bindings)}\n")


def permissions(role: str) -> tuple[str, ...]:
    """What the role may do. One of the project's own is called projects/ID/roles/NAME."""
    own = read(f"roles/{role.rpartition('/')[2]}") if role.startswith("projects/") else None
    return tuple(own["permissions"]) if own else roles.permissions(role)


def allowed(permission: str, account: dict | None, *resources: str) -> bool:
    """Whether a policy of the resources or of the project gives the account the permission."""
    wanted = members(account)
    return any(
        permission in permissions(binding["role"])
        and wanted & {member.lower() for member in binding["members"]}
        for resource in (*resources, "_project")
        for binding in in_effect(policy(resource))
    )
