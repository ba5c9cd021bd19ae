"""The accounts of the local project: you, and service accounts."""

import enum
from collections.abc import Mapping

from tool.local import state
from tool.local.records import Record
from tool.local.state import GROUPS, YOU


class Kind(enum.StrEnum):
    USER = "user"
    SERVICE_ACCOUNT = "serviceAccount"


class Account(Record):
    kind: Kind
    email: str
    unique_id: str
    display_name: str = ""
    description: str = ""
    keys: Mapping[str, str] = {}  # the certificates of its keys, by key id

    @property
    def member(self) -> str:
        """The account as a policy names it, for example user:you@example.com."""
        return f"{self.kind}:{self.email}"


def account(email: object) -> Account | None:
    """The account with this address, which may be anything that a request sent."""
    if not isinstance(email, str):
        return None
    content = state.read(f"accounts/{email}")
    try:
        return Account(
            Kind(content["kind"]),
            content["email"],
            content["uniqueId"],
            content.get("displayName", ""),
            content.get("description", ""),
            content.get("keys", {}),
        )
    except (TypeError, KeyError, ValueError):
        return None


def you() -> Account:
    found = account(YOU)
    if not found:
        raise state.NoProject
    return found


def service_account(email: object) -> Account | None:
    found = account(email)
    return found if found and found.kind is Kind.SERVICE_ACCOUNT else None


def with_id(unique_id: str) -> Account | None:
    """The account that a token's `sub` names."""
    return account(state.read(f"ids/{unique_id}", str))


def add(kind: Kind, email: str, display_name: str = "", description: str = "") -> None:
    import random  # slow to load, and most commands of a deploy add no account

    unique_id = str(random.randrange(10**20, 10**21))
    put(Account(kind, email, unique_id, display_name, description))
    state.write(f"ids/{unique_id}", email)


def put(account: Account) -> None:
    content = {
        "kind": account.kind,
        "email": account.email,
        "uniqueId": account.unique_id,
        "displayName": account.display_name,
        "description": account.description,
        "keys": account.keys,
    }
    state.write(f"accounts/{account.email}", content)


def remove(account: Account) -> None:
    state.remove(f"accounts/{account.email}")
    state.remove(f"ids/{account.unique_id}")


def names_of(account: Account | None) -> set[str]:
    """The names that a policy may use for this account (None: nobody in particular), in lower case.

    The file admins@example.com in GROUPS lists the members of that group, one a line.
    """
    if not account:
        return {"allusers"}
    email = account.email.lower()
    found = {"allusers", "allauthenticatedusers", account.member.lower()}
    for file in GROUPS.glob("*@*"):
        members = (state.text_of(file) or "").lower().split()  # an editor may leave a file that is not text
        if email in (word.rpartition(":")[2] for word in members):
            found.add(f"group:{file.name.lower()}")
    if account.kind is Kind.USER:
        found.add(f"domain:{email.partition('@')[2]}")
    return found
