"""A small made-up project for the tests of who: three functions, their service accounts, and roles."""

from tool.deploy.cloud import Binding, Condition, Grant, Level, Resource
from tool.deploy.grants import Facts, Function

NUMBER = "123456789012"
P = "p.iam.gserviceaccount.com"
FRONT, BACK, OTHER = f"front-sa@{P}", f"back-sa@{P}", f"other-sa@{P}"
FUNCTIONS = {"r/front": Function(FRONT), "r/back": Function(BACK), "r/other": Function(OTHER)}
ACCOUNTS = frozenset((FRONT, BACK, OTHER))
EVE, MALLORY, YOU = "user:eve@example.com", "user:mallory@example.com", "user:you@example.com"
GROUP, DOMAIN = "group:devs@example.com", "domain:example.com"


def account(email):
    return f"serviceAccount:{email}"


ROLES = {
    "run.invoker": "run.routes.invoke",
    "invoke": "run.routes.invoke",
    "token": "iam.serviceAccounts.getOpenIdToken",
    "access": "iam.serviceAccounts.getAccessToken",
    "sign": "iam.serviceAccounts.signJwt",
    "blob": "iam.serviceAccounts.signBlob",
    "pass": "iam.serviceAccounts.implicitDelegation",
    "creator": "iam.serviceAccounts.getAccessToken;iam.serviceAccounts.getOpenIdToken;iam.serviceAccounts.signJwt",
    "actAs": "iam.serviceAccounts.actAs",
    "keys": "iam.serviceAccountKeys.create",
    "accountPolicy": "iam.serviceAccounts.setIamPolicy",
    "policy": "run.services.setIamPolicy",
    "update": "run.services.update",
    "create": "run.services.create",
    "build": "cloudbuild.builds.create",
    "batch": "batch.jobs.create",
    "setMetadata": "compute.instances.setMetadata",
    "deployer": "run.services.update;iam.serviceAccounts.actAs",
    "shell": "run.services.sshRoot",
    "view": "run.services.sshRead;iam.serviceAccounts.get",
    "projectPolicy": "resourcemanager.projects.setIamPolicy",
    "folderPolicy": "resourcemanager.folders.setIamPolicy",
    "startJob": "run.jobs.run",
    "override": "run.jobs.runWithOverrides",
    "updateJob": "run.jobs.update",
    "jobPolicy": "run.jobs.setIamPolicy",
    "manager": "deploymentmanager.deployments.create",
    "look": "run.services.get",
    "owner": "run.routes.invoke;run.services.setIamPolicy;iam.serviceAccounts.actAs",
    "hidden": "?",
}
ALLOWED = {
    f"roles/{name}": None if permissions == "?" else frozenset(permissions.split(";"))
    for name, permissions in ROLES.items()
}


def on(kind, id, member, role, condition=""):
    """A grant of one of the roles above."""
    when = Condition(condition, "true") if condition else None
    return Grant(Binding(member, f"roles/{role}", when), Resource(Level(kind), id))


INVOKE = on("function", "r/back", account(FRONT), "run.invoker")  # the binding that the map makes
MAP = frozenset([("r/back", account(FRONT)), ("r/front", YOU)])


def facts(*grants, functions=FUNCTIONS, **more):
    known = {"by_map": MAP, "you": YOU, "number": NUMBER, **more}
    roles = {grant.binding.role: ALLOWED[grant.binding.role] for grant in grants}
    return Facts("p", functions, ACCOUNTS, tuple(grants), roles, **known)
