"""The shell commands that would change how the platform answers a call."""

import shlex

from tool.local import accounts, policies, services, state
from tool.local.cloud_run.calls import Call
from tool.local.cloud_run.invoker_check import GONE, Outcome
from tool.local.roles import INVOKE
from tool.local.state import YOU


def command(call: Call) -> str:
    """One command a line; "" if there is none that would change it."""
    name, is_there = call.function, services.service(call.function).is_deployed
    if not is_there or call.caller == GONE or call.outcome is Outcome.NOWHERE:
        return ""
    if call.outcome is Outcome.CHECK_IS_OFF:
        return changing(name, "run services update", "--invoker-iam-check")
    if grant := call.grant:
        return changing_policy("remove", grant.resource, grant.member, grant.role)
    if call.outcome is Outcome.NO_BINDING:
        return changing_policy("add", name, call.caller)
    is_enough = policies.allowed(INVOKE, accounts.account(YOU), name)
    binding = () if is_enough else (changing_policy("add", name, f"user:{YOU}"),)
    return "\n".join(("gcloud auth print-identity-token", *binding))


def changing_policy(verb: str, resource: str, member: str, role: str = "roles/run.invoker") -> str:
    what = "projects" if resource == policies.PROJECT else "run services"
    has_conditions = any(binding.condition for binding in policies.bindings_of(resource))
    which = ("--all" if verb == "remove" else "--condition=None",) if has_conditions else ()
    return changing(resource, f"{what} {verb}-iam-policy-binding", f"--member={member}", f"--role={role}", *which)


def changing(resource: str, command: str, *flags: str) -> str:
    project, is_project = state.project(), resource == policies.PROJECT
    of_service = (resource, f"--project={project.id}", f"--region={project.region}")
    return shlex.join(("gcloud", *command.split(), *((project.id,) if is_project else of_service), *flags))
