"""Policies as gcloud shows and changes them, and what IAM refuses in them."""

import json
import pathlib
import re
import zlib

from tool.local import roles, state
from tool.local.gcloud.command import Failed

# What says which binding a command changes.
BINDING = ("--member", "--role", "--condition")
TYPED = re.compile(r"(user|group|domain|serviceAccount|principal|principalSet|deleted):.+")
ROLE_ELSEWHERE = re.compile(r"roles/[a-z][A-Za-z0-9]*\.[A-Za-z0-9.]+")


def check(member: str, role: str, resource: str) -> None:
    """Raises what IAM answers to a member or a role that there cannot be."""
    # Of other services' roles the stand-in does not know which there are: a project may have them.
    known = roles.is_known(role) or (role.startswith("projects/") and state.permissions(role))
    if not known and not (resource == "_project" and ROLE_ELSEWHERE.fullmatch(role)):
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
        kind = kind.title()
        raise Failed(f"INVALID_ARGUMENT: {kind} {who} does not exist.")


def may_exist(email: str) -> bool:
    """Whether there is this service account. Those of other projects cannot be looked up."""
    here = f"@{state.read('project')['id']}.iam.gserviceaccount.com"
    if email.lower().endswith(here):
        return bool(state.service_account(email.lower()))
    return email.endswith(".gserviceaccount.com")


def etag(policy: dict) -> str:
    content = json.dumps(policy["bindings"], sort_keys=True)
    return f"{zlib.crc32(content.encode()):08x}"


def shown_policy(name: str) -> dict:
    policy = state.policy(name)
    bindings = {"bindings": policy["bindings"]} if policy["bindings"] else {}
    return {**bindings, "etag": etag(policy), "version": 1}


def set_policy(name: str, file: str) -> dict:
    """Makes the policy what a file says, as the *-set-iam-policy commands do."""
    try:
        policy = json.loads(pathlib.Path(file).read_text("utf-8"))
        bindings = [
            {key: b[key] for key in ("role", "members", "condition") if key in b}
            for b in policy.get("bindings", [])
        ]
        pairs = [(member, b["role"]) for b in bindings for member in b["members"]]
    except OSError as error:
        raise Failed(f"Unable to read file [{file}]: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Failed(
            f"Policy file [{file}] is not a properly formatted JSON policy file."
        ) from None
    for member, role in pairs:
        check(member, role, name)
    with state.locked("policies"):
        if policy.get("etag") not in (None, "", etag(state.policy(name))):
            raise Failed("ABORTED: There were concurrent policy changes. Please retry.")
        state.put_policy(name, bindings)
    return shown_policy(name)


def change_policy(name: str, args, add: bool) -> dict:
    """Adds a member to a role's binding, or takes it out; the case of addresses means nothing."""
    if not args.member or not args.role:
        raise Failed("--member and --role are required")
    if add:
        check(args.member, args.role, name)
    with state.locked("policies"):
        bindings = state.policy(name)["bindings"]
        condition = condition_of(args)
        whatever = getattr(args, "all", False)  # whatever the condition
        binding = next(
            (
                b
                for b in bindings
                if b["role"] == args.role and (whatever or b.get("condition") == condition)
            ),
            None,
        )
        members = {m.lower() for m in binding["members"]} if binding else set()
        if add and not binding:
            more = {"condition": condition} if condition else {}
            bindings.append({"members": [args.member], "role": args.role, **more})
        elif add and args.member.lower() not in members:
            binding["members"].append(args.member)
        elif not add and args.member.lower() not in members:
            raise Failed(
                "Policy binding with the specified principal, role, and condition not found!"
            )
        elif not add:
            kept = [m for m in binding["members"] if m.lower() != args.member.lower()]
            binding["members"] = kept
            bindings = [b for b in bindings if b["members"]]
        state.put_policy(name, bindings)
    return shown_policy(name)


def condition_of(args) -> dict | None:
    """--condition=title=T,expression=E as a policy holds it. It is kept, and not evaluated."""
    given = getattr(args, "condition", None)
    if not given or given == "None":
        return None
    pairs = re.findall(
        r"(title|description|expression)=(.*?)(?=,(?:title|description|expression)=|$)", given
    )
    return dict(pairs)


def take_out(account: dict) -> None:
    """What is left of a deleted account in the policies can never be used again."""
    dead = f"deleted:{state.principal(account)}?uid={account['uniqueId']}"
    with state.locked("policies"):
        for name in state.names("policies"):
            policy = state.policy(name)
            for binding in policy["bindings"]:
                members = binding["members"]
                who = state.principal(account).lower()
                binding["members"] = [dead if m.lower() == who else m for m in members]
            state.write(f"policies/{name}", policy)
