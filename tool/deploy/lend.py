"""verify --as-everyone: lets you act as each function's service account, and takes that back."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial

from tool.deploy.app import App
from tool.deploy.cloud import Policy, principal
from tool.deploy.from_json import policy_from
from tool.deploy.gcloud import Answer, answer, printed
from tool.deploy.processes import side_by_side
from tool.deploy.progress import Refused, Stop, error
from tool.deploy.target import Target

TOKEN_CREATOR = "roles/iam.serviceAccountTokenCreator"


@contextlib.asynccontextmanager
async def acting_as_everyone(target: Target, app: App | None) -> AsyncIterator[None]:
    """Inside this, you may make tokens of the functions' service accounts; without an app, nothing is lent."""
    if not app:
        yield
        return
    if not target.you:
        raise Stop("the credentials do not say who you are, so nothing can be granted to you")
    error(
        "Until verify ends, you may make tokens of the accounts of the functions"
        f" ({TOKEN_CREATOR})."
    )
    lent: list[str] = []
    kept: list[str] = []
    try:
        for name in app.names:
            await lend(target, name, lent)
        await side_by_side(*(wait_for_tokens(target, name) for name in app.names))
        yield
    finally:
        for email in lent:
            if not await give_back(target, email):
                kept.append(email)
    if kept:
        raise Stop("what was granted could not be taken back. See above")


async def lend(target: Target, name: str, lent: list[str]) -> None:
    email = target.email(name)
    try:
        makers = await makers_of(target, email)
    except Refused as refused:
        target.progress.refused(refused)
        raise Stop(f"cannot see who may make tokens of {email}") from None
    if is_among(target.you, makers):
        return
    lent.append(email)  # noted first: whatever happens, it is taken back
    try:
        await target.gcloud.change(
            "gcloud iam service-accounts add-iam-policy-binding", email,
            f"--project={target.project}", f"--member={target.you}", f"--role={TOKEN_CREATOR}",
            "--condition=None", "--format=none",
        )  # fmt: skip
    except Refused as refused:
        target.progress.refused(refused)
        raise Stop(f"you may not let yourself act as {name}") from None


async def wait_for_tokens(target: Target, name: str) -> None:
    async def is_made() -> Answer:
        token = await target.gcloud.text(
            "gcloud auth print-identity-token",
            f"--impersonate-service-account={target.email(name)}", "--include-email",
        )  # fmt: skip
        return answer(token is not None)

    await target.gcloud.comes_true(f"your tokens of {name}", is_made)


async def makers_of(target: Target, email: str) -> Policy:
    """The policy of a service account: who may do what as it."""
    where = f"--project={target.project}"
    return policy_from(
        await target.gcloud.read(
            "gcloud iam service-accounts get-iam-policy", email, where, quiet=True
        )
    )


def is_among(you: str, makers: Policy) -> bool:
    return any(b.principal == principal(you) and b.role == TOKEN_CREATOR for b in makers)


async def is_given_back(target: Target, email: str) -> Answer:
    try:
        return answer(not is_among(target.you, await makers_of(target, email)))
    except Refused:
        return Answer.UNKNOWN


async def give_back(target: Target, email: str) -> bool:
    """Takes it back. Returns whether that worked, and says so, unless it was never granted."""
    if await is_given_back(target, email) is Answer.YES:
        return True
    words = (email, f"--project={target.project}", f"--member={target.you}", f"--role={TOKEN_CREATOR}")
    command = "gcloud iam service-accounts remove-iam-policy-binding"
    try:
        await target.gcloud.change(
            command, *words, "--condition=None", "--format=none",
            done=partial(is_given_back, target, email),
        )  # fmt: skip
    except Refused as refused:
        target.progress.refused(refused)
        error(
            f"deploy.sh: you may still make tokens of {email}. This ends it: "
            f"{printed(command, *words, '--condition=None')}"
        )
        return False
    error(f"Taken back: your tokens of {email}")
    return True
