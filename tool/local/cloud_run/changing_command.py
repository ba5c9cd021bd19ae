"""The shell commands that would change how the platform answers a call."""

import shlex

from tool.local import accounts, policies, services, state
from tool.local.cloud_run.calls import Call
from tool.local.cloud_run.invoker_check import GONE, Outcome
from tool.local.roles import INVOKE
from tool.local.state import YOU


def command(call: Call) -> str:
    """One command a line; "" if there is none that would change it."""
    name, grant = call.function, call.grant
    if not services.service(name).is_deployed or call.caller == GONE or call.outcome is Outcome.NOWHERE:
        return ""
    if call.outcome is Outcome.CHECK_IS_OFF:
        return changing(name, "update", "--invoker-iam-check")
    if grant:
        return changing_policy("remove", grant.resource, grant.member, grant.role)
    if call.outcome is Outcome.NO_BINDING:
        return changing_policy("add", name, call.caller)
    new_token, you = "gcloud auth print-identity-token", accounts.account(YOU)
    may_call = policies.allowed(INVOKE, you, name)
    return new_token if may_call else f"{new_token}\n{changing_policy('add', name, f'user:{YOU}')}"


def changing_policy(verb: str, resource: str, member: str, role: str = "roles/run.invoker") -> str:
    has_conditions = any(binding.condition for binding in policies.bindings_of(resource))
    which = ("--all" if verb == "remove" else "--condition=None",) if has_conditions else ()
    return changing(resource, f"{verb}-iam-policy-binding", f"--member={member}", f"--role={role}", *which)


def changing(resource: str, verb: str, *flags: str) -> str:
    project = state.project()
    of_service = ("run", "services", verb, resource, f"--project={project.id}", f"--region={project.region}")
    of_project = ("projects", verb, project.id)
    return shlex.join(("gcloud", *(of_project if resource == policies.PROJECT else of_service), *flags))
