"""Deploys one function: its revision, and exactly the policy that trust-map gives it."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import re
import time
from functools import partial

from tool.deploy import errors, inventory, secret_versions, staging
from tool.deploy.app import EVERYONE, App, Function
from tool.deploy.cloud import INVOKER, Binding, Found, Policy, Service, principal
from tool.deploy.gcloud import Answer, answer, printed
from tool.deploy.progress import Refused, error, say
from tool.deploy.target import Target

NEW_BUILDER = 600  # seconds that the role of a new build account may need to take effect
PAUSE_FOR_BUILDER = 60  # seconds before the next try


class Rollout:
    """The functions of one deploy, and what it learns while it deploys them side by side."""

    def __init__(self, app: App, target: Target, found: Found, work: pathlib.Path):
        self.app, self.target, self.found = app, target, found
        self.gcloud = target.gcloud
        self.staged = pathlib.Path(".build") if target.gcloud.dry_run else work
        self.has_changed = False  # whether a service was changed: then they are read again
        self.policies_are_right = False  # whether that is known, so that they need not be read
        self.policies: dict[str, Policy] = {}
        self.stay_private: set[str] = set()  # an organisation forbids allUsers
        self.missing_roles: set[str] = set()
        self.mended: frozenset[str] = frozenset()  # their last deploy failed

    async def deploy(self, function: Function) -> bool:
        """Deploys it with its policy. Returns whether that worked; if not, it has said why."""
        name, began = function.name, time.monotonic()
        try:
            settings, fingerprint = self.stage(function)
        except staging.NotStaged as problem:
            error(f"  {problem}")
            return False
        service = self.found.service(name, self.target.region)
        # An existing policy is corrected first: a build takes minutes.
        is_right = self.policies_are_right or not service or await self.put_policy_right(function, service)
        deployed = "as it was" if name in self.mended else "unchanged"
        label = await secret_versions.newest(self.target, function)
        why = secret_versions.why_anew(function, service, label)
        is_as_deployed = service is not None and self.is_as_deployed(function, service, fingerprint)
        if is_as_deployed and why:
            say(f"  {name}: {why}")
        if why or not is_as_deployed:
            revision = f"{name}-{fingerprint}-{int(time.time())}"
            if not await self.new_revision(function, settings, revision, label):
                return False
            if is_right and not self.policies_are_right:
                is_right = await self.put_policy_right(function, None)
            self.has_changed = True
            deployed = f"deployed. {time.monotonic() - began:.0f} s"
        if not is_right:
            error(f"  {name} is deployed, but its policy is not the one of trust-map")
            return False
        say(f"  {name} is {deployed}")
        return True

    async def show(self, function: Function) -> None:
        """What a --dry-run prints about it."""
        name = function.name
        settings, fingerprint = self.stage(function)
        say(f"# Deploying {name}, of these files")
        for path in staging.files_in(self.staged / name):
            say(f"#   {path}")
        await self.run_deploy(function, settings, f"{name}-{fingerprint}-{int(time.time())}")
        file = self.staged / f"{name}.policy.json"
        content = json.dumps(self.wanted_policy(function))
        say(f"{printed('echo', content)} > {printed(str(file))}")
        await self.set_policy(function, file)

    def stage(self, function: Function) -> tuple[list[str], str]:
        """Stages the folder. Returns the settings to deploy with, and the fingerprint of both."""
        folder = self.staged / function.name
        for left in staging.stage(function, folder):
            error(f"  {function.name}: {left.path} {left.why}")
        settings = staging.settings(self.app, function, self.target)
        return settings, staging.fingerprint(folder, settings, self.target.number)

    def is_as_deployed(self, function: Function, service: Service, fingerprint: str) -> bool:
        account = self.target.email(function.name)
        by_hand = service.changed_by_hand(account, function)
        return service.is_revision(fingerprint) and not by_hand

    # ---- the revision

    async def new_revision(self, function: Function, settings: list[str], revision: str, label: str) -> bool:
        name = function.name
        try:
            try:
                await self.run_deploy(function, settings, revision, label)
            except Refused as refused:
                if not await self.new_builder_failed(name, refused):
                    raise
                # Its role takes minutes to take effect: that is worth one more build.
                error(f"  {name}: building once more, because the build account is new")
                await asyncio.sleep(float(os.environ.get("PATIENCE_FOR_BUILDER") or PAUSE_FOR_BUILDER))
                await self.run_deploy(function, settings, revision, label)
        except Refused as refused:
            self.refused(name, refused)
            await self.show_log(name, refused)
            if hint := errors.missing_package(refused.text, function.folder):
                error(f"  {hint}")
            return False
        # gcloud can report success for a revision that does not serve.
        if await inventory.now_serves(self.target, name, revision) is Answer.YES:
            return True
        error(
            f"  {name} is not deployed. gcloud reported success, but revision {revision} is not"
            f" shown as serving: gcloud run services describe {name} --region={self.target.region}"
            f" --project={self.target.project}"
        )
        return False

    async def run_deploy(self, function: Function, settings: list[str], revision: str, label: str = "") -> None:
        target, name = self.target, function.name
        noted = f",{secret_versions.LABEL}={label}" if label else ""
        service = self.found.service(name, target.region)
        settings = [*settings, *staging.stated(function, service)]
        await self.gcloud.change(
            "gcloud run deploy", name, f"--project={target.project}", f"--region={target.region}",
            f"--source={self.staged / name}", *settings, f"--labels=made-by={target.made_by},app={target.app_name}{noted}",
            f"--revision-suffix={revision.removeprefix(f'{name}-')}", "--quiet", "--format=none",
            done=partial(inventory.now_serves, target, name, revision), about=name,
        )  # fmt: skip
        if service and not service.sends_all_to_the_newest:  # after a roll-back
            await self.gcloud.change(
                "gcloud run services update-traffic", name, f"--project={target.project}",
                f"--region={target.region}", "--to-latest", "--quiet", "--format=none", about=name,
            )  # fmt: skip

    def refused(self, name: str, refused: Refused) -> None:
        """Says so; a missing role is reported once for all functions."""
        self.target.progress.refused(Refused(refused.text), name)
        if refused.role:
            self.missing_roles.add(refused.role)

    # ---- its policy

    def wanted_policy(self, function: Function) -> dict[str, object]:
        members = self.target.members(function)
        return {"bindings": [{"role": INVOKER, "members": members}] if members else []}

    async def put_policy_right(self, function: Function, service: Service | None) -> bool:
        """Makes the policy exactly what the map says; does not touch one that is right."""
        name, target = function.name, self.target
        try:
            if service and service.invoker_check_is_off:  # then the policy means nothing
                await self.gcloud.change(
                    "gcloud run services update", name, f"--project={target.project}",
                    f"--region={target.region}", "--invoker-iam-check", "--quiet", "--format=none",
                    about=name,
                )  # fmt: skip
                say(f"  {name}: switched the invoker check on again")
                self.has_changed = True
            policy = await inventory.policy_of(target, name)
            self.policies[name] = policy
            if is_exactly(policy, target.members(function)):
                return True
            file = self.staged / f"{name}.policy.json"
            file.write_text(json.dumps(self.wanted_policy(function)))
            await self.set_policy(function, file)
        except Refused as refused:
            return await self.policy_refused(function, refused)
        removed = not_wanted(policy, target.members(function))
        if removed:
            say(f"  {name}: removed {' '.join(removed)}")

        async def is_read_back() -> Answer:
            self.policies[name] = await inventory.policy_of(target, name)
            return answer(is_exactly(self.policies[name], target.members(function)))

        # Right after a change, gcloud may still return the old policy.
        what = f"the policy of {name} to be readable"
        if await self.gcloud.comes_true(what, is_read_back, name):
            return True
        error(f"  The policy of {name} is not the one that was just set. Is somebody else changing it?")
        return False

    async def set_policy(self, function: Function, file: pathlib.Path) -> None:
        await self.gcloud.change(
            "gcloud run services set-iam-policy", function.name, str(file),
            f"--project={self.target.project}", f"--region={self.target.region}", "--quiet",
            "--format=none", about=function.name,
        )  # fmt: skip

    async def policy_refused(self, function: Function, refused: Refused) -> bool:
        """An organisation may forbid some members; without allUsers, the rest can be set."""
        name, project = function.name, self.target.project
        self.refused(name, refused)
        if missing := re.search(r"(?i)(service account|user|group) (\S+) does not exist", refused.text):
            kind, who = missing[1].lower(), missing[2]
            what = "an account" if kind == "service account" else f"a {kind}, {who},"
            makes = (
                f", or make it: gcloud iam service-accounts create {who.partition('@')[0]}"
                f" --project={project}"
            )
            fits = kind == "service account" and who.endswith(self.target.accounts_end)
            error(
                f"  {name}: trust-map names {what} that does not exist. Correct it"
                f"{makes if fits else ''}"
            )
        if not any(w in refused.text for w in ("permitted customer", "llowedPolicyMember")):
            return False
        if EVERYONE in function.invoked_by:
            self.stay_private.add(name)
            error(ALL_USERS_FORBIDDEN.format(name=name, project=project, region=self.target.region))
            await self.put_policy_right(self.app.private([name]).function(name) or function, None)
        else:
            members = " ".join(self.target.members(function))
            error(
                "  Your organisation forbids one of these as a member in the policy of"
                f" {name}: {members}. Write other members into trust-map, or ask its administrator"
            )
        return False

    # ---- a failed deploy

    async def new_builder_failed(self, name: str, refused: Refused) -> bool:
        """Whether a build may have failed only because its service account is too new."""
        if self.target.local or "build failed" not in refused.text.lower():
            return False
        if self.gcloud.youngest_account() >= NEW_BUILDER:
            return False
        log = (await self.build_log(name)).lower()
        return not log or "permission" in log or "denied" in log

    async def build_log(self, name: str) -> str:
        """The end of the log of its last build, if it can be read."""
        where = (f"--region={self.target.region}", f"--project={self.target.project}")
        # According to gcloud's code, the path of the source begins like this.
        builds = await self.gcloud.look(
            "gcloud builds list", *where, f"--filter=source.storageSource.object~^services/{name}/",
            "--sort-by=~createTime", "--limit=1",
        )  # fmt: skip
        if not builds:
            return ""
        log = await self.gcloud.text("gcloud builds log", builds[0]["id"], *where)
        return last_lines(log or "")

    async def show_log(self, name: str, refused: Refused) -> None:
        """Says that it is not deployed, and prints the end of the log that shows the cause."""
        error(f"  {name} is not deployed.")
        if self.target.local:  # here, the error itself names the cause
            return
        where = (f"--region={self.target.region}", f"--project={self.target.project}")
        text = refused.text.lower()
        if "build failed" in text:
            show(await self.build_log(name))
            error(f"  The logs of builds: {printed('gcloud builds list', *where)}")
        elif any(word in text for word in DOES_NOT_START):
            log = await self.gcloud.text(
                "gcloud run services logs read", name, *where, "--limit=12"
            )
            show(log or "")
            error(f"  All of its log: {printed('gcloud run services logs read', name, *where)}")


DOES_NOT_START = ("failed to start", "healthcheck failed", "is not ready and cannot serve")
ALL_USERS_FORBIDDEN = """\
  {name} stays private: your organisation forbids allUsers (domain-restricted sharing). Leave out \
--public, or "anonymous" in trust-map; or ask its administrator. Google's own alternative is to \
switch off the invoker check of this one service (gcloud run services update {name} \
--no-invoker-iam-check --project={project} --region={region}). This script does not do that, because \
then no policy shows that the function is open."""


def is_exactly(policy: Policy, members: list[str]) -> bool:
    """Whether the policy lets these invoke the service, and says nothing else."""
    return set(map(as_compared, policy)) == {(principal(member), INVOKER, None) for member in members}


def as_compared(binding: Binding) -> tuple[str, str, object]:
    return binding.principal, binding.role, binding.condition


def not_wanted(policy: Policy, members: list[str]) -> list[str]:
    wanted = set(map(principal, members))
    return [b.member for b in policy if b.role != INVOKER or b.principal not in wanted]


def last_lines(log: str) -> str:
    return "\n".join(log.splitlines()[-12:])


def show(log: str) -> None:
    for line in log.splitlines():
        error(f"    {line}")
