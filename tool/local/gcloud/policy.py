"""Policies as gcloud shows and changes them, and what IAM refuses in them."""

import json
import pathlib
import re
import zlib
from argparse import Namespace
from collections.abc import Sequence

from tool.local import accounts, policies, state
from tool.local.accounts import Account
from tool.local.gcloud.command import Failed
from tool.local.policies import Binding, Condition
from tool.local.records import Json, Record

# What says which binding a command changes.
BINDING = ("--member", "--role", "--condition")
TYPED = re.compile(r"(user|group|domain|serviceAccount|principal|principalSet|deleted):.+")
ROLE_ELSEWHERE = re.compile(r"roles/[a-z][A-Za-z0-9]*\.[A-Za-z0-9.]+")


def check(member: str, role: str, resource: str) -> None:
    """Raises what IAM answers to a member or a role that there cannot be."""
    # Of other services' roles the stand-in does not know which there are: a project may have them.
    elsewhere = resource == policies.PROJECT and ROLE_ELSEWHERE.fullmatch(role)
    if not elsewhere and not policies.role(role):
        raise Failed(f"INVALID_ARGUMENT: Role {role} is not supported for this resource.")
    if member in ("allUsers", "allAuthenticatedUsers"):
        return
    if not TYPED.fullmatch(member):
        raise Failed(
            f"INVALID_ARGUMENT: The member {member} is of an unknown type. Please set a valid"
            " type prefix for the member."
        )
    kind, _, who = member.partition(":")
    if kind == "serviceAccount" and not may_exist(who):
        raise Failed(f"INVALID_ARGUMENT: Service account {who} does not exist.")
    if kind in ("user", "group") and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", who):
        raise Failed(f"INVALID_ARGUMENT: {kind.title()} {who} does not exist.")


def may_exist(email: str) -> bool:
    """Whether there is this service account. Those of other projects cannot be looked up."""
    if email.lower().endswith(f"@{state.project().id}.iam.gserviceaccount.com"):
        return bool(accounts.service_account(email.lower()))
    return email.endswith(".gserviceaccount.com")


def etag(bindings: Sequence[Binding]) -> str:
    content = json.dumps([policies.as_json(b) for b in bindings], sort_keys=True)
    return f"{zlib.crc32(content.encode()):08x}"


def shown_policy(name: str) -> dict[str, Json]:
    bindings = policies.bindings_of(name)
    shown: dict[str, Json] = {"etag": etag(bindings), "version": 1}
    return {"bindings": [policies.as_json(b) for b in bindings], **shown} if bindings else shown


def set_policy(name: str, file: str) -> dict[str, Json]:
    """Makes the policy what a file says, as the *-set-iam-policy commands do."""
    try:
        content = json.loads(pathlib.Path(file).read_text("utf-8"))
        bindings = policies.bindings_in(content.get("bindings", []))
        before = content.get("etag")
    except OSError as error:
        raise Failed(f"Unable to read file [{file}]: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Failed(
            f"Policy file [{file}] is not a properly formatted JSON policy file."
        ) from None
    for binding in bindings:
        for member in binding.members:
            check(member, binding.role, name)
    with state.locked("policies"):
        if before and before != etag(policies.bindings_of(name)):
            raise Failed("ABORTED: There were concurrent policy changes. Please retry.")
        policies.change(name, bindings)
    return shown_policy(name)


# ---- a member is added to a binding, or taken out of one


class Change(Record):
    """What the flags of the *-iam-policy-binding commands say."""

    member: str
    role: str
    condition: Condition | None
    whatever_condition: bool

    def concerns(self, binding: Binding) -> bool:
        """Whether this is the binding to change, or one of them."""
        fits = self.whatever_condition or binding.condition == self.condition
        return binding.role == self.role and fits

    def is_in(self, binding: Binding) -> bool:
        return self.member.lower() in (member.lower() for member in binding.members)


def change_policy(name: str, args: Namespace, add: bool) -> dict[str, Json]:
    """Adds a member to a role's binding, or takes it out; the case of addresses means nothing."""
    if not args.member or not args.role:
        raise Failed("--member and --role are required")
    condition = condition_of(args.condition)
    change = Change(args.member, args.role, condition, not add and args.all)
    if add:
        check(change.member, change.role, name)
    with state.locked("policies"):
        bindings = policies.bindings_of(name)
        policies.change(name, added(bindings, change) if add else removed(bindings, change))
    return shown_policy(name)


def added(bindings: Sequence[Binding], change: Change) -> list[Binding]:
    member = (change.member,)
    for at, binding in enumerate(bindings):
        if change.concerns(binding):
            new = () if change.is_in(binding) else member
            binding = binding.but(members=binding.members + new)
            return [*bindings[:at], binding, *bindings[at + 1 :]]
    return [*bindings, Binding(change.role, member, change.condition)]


def removed(bindings: Sequence[Binding], change: Change) -> list[Binding]:
    concerned = [b for b in bindings if change.concerns(b)][:1]
    if not any(map(change.is_in, concerned)):
        raise Failed("Policy binding with the specified principal, role, and condition not found!")
    return [without(b, change.member) if b in concerned else b for b in bindings]


def without(binding: Binding, member: str) -> Binding:
    kept = (m for m in binding.members if m.lower() != member.lower())
    return binding.but(members=tuple(kept))


def condition_of(flag: str | None) -> Condition | None:
    """--condition=title=T,expression=E as a policy holds it."""
    if not flag or flag == "None":
        return None
    pairs = dict(
        re.findall(
            r"(title|description|expression)=(.*?)(?=,(?:title|description|expression)=|$)", flag
        )
    )
    return policies.condition_in(pairs or None)


def take_out(account: Account) -> None:
    """What is left of a deleted account in the policies can never be used again."""
    who, dead = account.member.lower(), f"deleted:{account.member}?uid={account.unique_id}"
    with state.locked("policies"):
        for name in state.names("policies"):
            policy = policies.policy(name) or policies.Policy()
            bindings = (
                b.but(members=tuple(dead if m.lower() == who else m for m in b.members))
                for b in policy.bindings
            )
            policies.put(name, policy.but(bindings=tuple(bindings)))
