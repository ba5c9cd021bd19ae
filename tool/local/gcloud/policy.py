"""Policies as gcloud shows and changes them, and what IAM refuses in them."""

import json
import pathlib
import re
import zlib
from argparse import Namespace
from collections.abc import Sequence

from tool.local import accounts, policies, state
from tool.local.accounts import Account
from tool.local.gcloud.command import Failed, Misused
from tool.local.policies import Binding, Condition, Policy
from tool.local.records import Json, Record, filled

# The flags that say which binding a command changes.
BINDING = ("--member", "--role", "--condition")
TYPED = re.compile(r"(user|group|domain|serviceAccount|principal|principalSet|deleted):.+")
ADDING = (
    "Adding a binding without specifying a condition to a policy containing conditions is prohibited in"
    " non-interactive mode. Run the command again with `--condition=None`"
)
REMOVING = (
    "Removing a binding without specifying a condition from a policy containing conditions is prohibited in"
    " non-interactive mode. Run the command again with `--condition=None` to remove a binding without"
    " condition or run command with `--all` to remove all bindings of the specified principal and role."
)
ROLE_ELSEWHERE = re.compile(r"roles/[a-z][A-Za-z0-9]*\.[A-Za-z0-9.]+")


def check(member: str, role: str, resource: str) -> None:
    """Raises what IAM answers to an impossible member or role."""
    # The stand-in does not know the roles of other services, but a project may have them.
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
    """Whether this service account exists; those of other projects cannot be looked up."""
    if email.lower().endswith(f"@{state.project().id}.iam.gserviceaccount.com"):
        return bool(accounts.service_account(email.lower()))
    return email.endswith(".gserviceaccount.com")


def etag(policy: Policy | None) -> str:
    """Changes with the policy; for one that was never set, IAM's own value."""
    if not policy:
        return "ACAB"
    content = json.dumps([policies.as_json(b) for b in policy.bindings], sort_keys=True)
    return f"{zlib.crc32(content.encode()):08x}"


def shown_policy(name: str) -> dict[str, Json]:
    policy = policies.policy(name)
    if not policy:
        return {"etag": etag(policy)}
    version = 3 if any(binding.condition for binding in policy.bindings) else 1
    bindings = [policies.as_json(binding) for binding in policy.bindings]
    return filled({"bindings": bindings, "etag": etag(policy), "version": version})


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
        if before and before != etag(policies.policy(name)):
            raise Failed("ABORTED: There were concurrent policy changes. Please retry.")
        policies.change(name, bindings)
    return shown_policy(name)


# ---- adding a member to a binding, or removing one


class Change(Record):
    """What the flags of the *-iam-policy-binding commands say."""

    member: str
    role: str
    condition: Condition | None  # None: the binding has no condition
    names_one: bool  # whether --condition is given; it may be None
    any_condition: bool

    def concerns(self, binding: Binding) -> bool:
        """Whether this is a binding to change."""
        fits = self.any_condition or binding.condition == self.condition
        return binding.role == self.role and fits

    def is_in(self, binding: Binding) -> bool:
        return self.member.lower() in (member.lower() for member in binding.members)


def change_in(args: Namespace, any_condition: bool) -> Change:
    if not args.member or not args.role:
        raise Failed("--member and --role are required")
    if any_condition and args.condition:
        only_one = "At most one of --all | --condition | --condition-from-file can be specified."
        raise Misused(f"argument --all: {only_one}")
    condition = condition_of(args.condition)
    return Change(args.member, args.role, condition, bool(args.condition), any_condition)


def add_member(name: str, args: Namespace) -> dict[str, Json]:
    """Adds a member to a role's binding, or makes one; ignores the case of addresses."""
    change = change_in(args, any_condition=False)
    check(change.member, change.role, name)
    with state.locked("policies"):
        bindings = policies.bindings_of(name)
        refuse_unclear(change, bindings, ADDING)
        policies.change(name, added(bindings, change))
    return shown_policy(name)


def remove_member(name: str, args: Namespace) -> dict[str, Json]:
    """Removes a member from a role's binding, or with --all from all of them, whatever their condition."""
    change = change_in(args, any_condition=args.all)
    with state.locked("policies"):
        bindings = policies.bindings_of(name)
        refuse_unclear(change, bindings, REMOVING)
        if not any(change.concerns(b) and change.is_in(b) for b in bindings):
            which = "bindings with the specified principal and role"
            if not change.any_condition:
                which = "binding with the specified principal, role, and condition"
            raise Failed(f"Policy {which} not found!")
        kept = [without(b, change.member) if change.concerns(b) else b for b in bindings]
        policies.change(name, kept)
    return shown_policy(name)


def refuse_unclear(change: Change, bindings: Sequence[Binding], problem: str) -> None:
    """If bindings have conditions, gcloud asks which one is meant, or fails if nobody answers."""
    said = change.names_one or change.any_condition
    if not said and any(binding.condition for binding in bindings):
        raise Failed(problem)


def added(bindings: Sequence[Binding], change: Change) -> list[Binding]:
    for at, binding in enumerate(bindings):
        if change.concerns(binding):
            new = () if change.is_in(binding) else (change.member,)
            binding = binding.but(members=binding.members + new)
            return [*bindings[:at], binding, *bindings[at + 1 :]]
    return [*bindings, Binding(change.role, (change.member,), change.condition)]


def without(binding: Binding, member: str) -> Binding:
    kept = (m for m in binding.members if m.lower() != member.lower())
    return binding.but(members=tuple(kept))


def condition_of(flag: str | None) -> Condition | None:
    """--condition=title=T,expression=E, as a policy stores it."""
    if not flag or flag == "None":
        return None
    pairs = dict(
        re.findall(
            r"(title|description|expression)=(.*?)(?=,(?:title|description|expression)=|$)", flag
        )
    )
    if not pairs.get("title") or not pairs.get("expression"):
        wanted = "`expression` and `title` are required keys."
        either = f"condition must be either `None` or a list of key=value pairs. If not `None`, {wanted}"
        raise Failed(f"Invalid value for [condition]: {either}")
    return policies.condition_in(pairs)


def take_out(account: Account) -> None:
    """Marks a deleted account in the policies, so that a new one of its name gets none of its rights."""
    who, dead = account.member.lower(), f"deleted:{account.member}?uid={account.unique_id}"
    with state.locked("policies"):
        for name in state.names("policies"):
            policy = policies.policy(name) or policies.Policy()
            bindings = (
                b.but(members=tuple(dead if m.lower() == who else m for m in b.members))
                for b in policy.bindings
            )
            policies.put(name, policy.but(bindings=tuple(bindings)))
