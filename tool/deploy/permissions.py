"""What each permission gives on the way to a function, as data.

From Google's documentation of each permission, and public catalogues of ways to gain access
(RhinoSecurityLabs/GCP-IAM-Privilege-Escalation, HackTricks). If it is not documented what a
permission gives, the rule says so, and whatever it leads to is "perhaps".
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from tool.deploy.cloud import Level


class Kind(enum.StrEnum):
    """The kinds of place in the graph that somebody can have reached."""

    BEING = "being a principal"
    RUNNING = "running code as an account"
    INSIDE = "running code inside a function"
    ACCESS_TOKEN = "having an access token of an account"
    ID_TOKEN = "having ID tokens of an account"
    ASKING = "asking for tokens of others as an account"
    CALLING = "making a call as an account"
    FUNCTION_POLICY = "changing the policy of a function"
    ACCOUNT_POLICY = "changing the policy of an account"
    POLICY_ABOVE = "changing the policy of the project, or one above it"
    REACHING = "reaching a function"
    # Halves of a pair, if a set holds the other half.
    STARTING = "starting code that runs as whatever account one may act as"
    UPDATING = "updating a function"
    ACTING = "acting as an account"


class Does(enum.Enum):
    """What somebody does to get from one place to another."""

    CALL = enum.auto()
    FIND_IT_OPEN = enum.auto()
    CHANGE_FUNCTION_POLICY = enum.auto()
    CHANGE_ACCOUNT_POLICY = enum.auto()
    CHANGE_POLICY_ABOVE = enum.auto()
    OPEN_SHELL = enum.auto()
    DEPLOY = enum.auto()
    MAKE_ID_TOKENS = enum.auto()
    MAKE_ACCESS_TOKENS = enum.auto()
    SIGN = enum.auto()
    MAKE_KEYS = enum.auto()
    ASK_THROUGH = enum.auto()
    RUN_CODE = enum.auto()
    ACT_AS = enum.auto()
    USE_DEFAULT = enum.auto()
    CHANGE_JOB = enum.auto()
    CHANGE_JOB_POLICY = enum.auto()
    OVERRIDE_JOB = enum.auto()
    START_JOB = enum.auto()
    GO_THROUGH_CODE = enum.auto()
    HOLD_HALF = enum.auto()
    RUN_CODE_AS_MEMBER = enum.auto()
    DEPLOY_AS_MEMBER = enum.auto()


class Rule(NamedTuple):
    """The permission leads to the place. `using`: what an account must have to use it."""

    permission: str
    does: Does
    using: Kind = Kind.ACCESS_TOKEN
    documented: bool = True


ACT_AS = "iam.serviceAccounts.actAs"
UPDATE = "run.services.update"
UPDATE_JOB = "run.jobs.update"

# On a function, on an account, or on all of them from above.
RULES = {
    Kind.REACHING: (Rule("run.routes.invoke", Does.CALL, Kind.CALLING),),
    Kind.FUNCTION_POLICY: (Rule("run.services.setIamPolicy", Does.CHANGE_FUNCTION_POLICY),),
    Kind.INSIDE: (
        Rule("run.services.sshRoot", Does.OPEN_SHELL),
        Rule("run.services.sshRead", Does.OPEN_SHELL, documented=False),
    ),
    Kind.ID_TOKEN: (
        Rule("iam.serviceAccounts.getOpenIdToken", Does.MAKE_ID_TOKENS, Kind.ASKING),
    ),
    Kind.ACCESS_TOKEN: (
        Rule("iam.serviceAccounts.getAccessToken", Does.MAKE_ACCESS_TOKENS, Kind.ASKING),
    ),
    Kind.BEING: (  # signing as an account gives tokens of both kinds
        Rule("iam.serviceAccounts.signJwt", Does.SIGN, Kind.ASKING),
        Rule("iam.serviceAccounts.signBlob", Does.SIGN, Kind.ASKING),
        Rule("iam.serviceAccountKeys.create", Does.MAKE_KEYS),
    ),
    Kind.ASKING: (
        Rule("iam.serviceAccounts.implicitDelegation", Does.ASK_THROUGH, Kind.ASKING),
    ),
    Kind.ACCOUNT_POLICY: (
        Rule("iam.serviceAccounts.setIamPolicy", Does.CHANGE_ACCOUNT_POLICY),
    ),
    # New services appear: actAs alone is a finding, even if it is not known how it runs code.
    Kind.RUNNING: (Rule(ACT_AS, Does.ACT_AS, documented=False),),
    Kind.UPDATING: (Rule(UPDATE, Does.HOLD_HALF),),
    Kind.ACTING: (Rule(ACT_AS, Does.HOLD_HALF),),
}  # fmt: skip
# On a job that runs as an account. Whether its code follows the arguments is not known.
OF_JOB = {
    Kind.RUNNING: (
        Rule("run.jobs.runWithOverrides", Does.OVERRIDE_JOB, documented=False),
        Rule(UPDATE_JOB, Does.CHANGE_JOB, documented=False),
        Rule("run.jobs.setIamPolicy", Does.CHANGE_JOB_POLICY, documented=False),
    ),
    Kind.CALLING: (Rule("run.jobs.run", Does.START_JOB),),
}
# On the project or above it, without actAs: it runs as an account that Google made.
DEFAULTS = {
    "{number}@cloudservices.gserviceaccount.com": "deploymentmanager.deployments.create",
    "{number}@cloudbuild.gserviceaccount.com": "cloudbuild.builds.create",
}
# With actAs, on the project or above it, each makes something new that runs code, or makes calls,
# as the account. What can only change existing things is not here: actAs is enough for "perhaps".
CREATE = frozenset(
    """
    aiplatform.customJobs.create aiplatform.hyperparameterTuningJobs.create
    aiplatform.notebookExecutionJobs.create aiplatform.pipelineJobs.create
    aiplatform.reasoningEngines.create apigateway.apiconfigs.create appengine.versions.create
    batch.jobs.create cloudbuild.builds.create cloudfunctions.functions.create
    cloudscheduler.jobs.create cloudtasks.tasks.create composer.environments.create
    compute.instances.create config.deployments.create container.clusters.create
    dataflow.jobs.create datafusion.instances.create dataproc.batches.create
    dataproc.clusters.create dataproc.sessions.create eventarc.triggers.create
    notebooks.instances.create notebooks.runtimes.create pubsub.subscriptions.create
    run.instances.create run.jobs.create run.services.create run.workerpools.create
    tpu.nodes.create workflows.workflows.create workstations.workstationConfigs.create
    """.split()
)
# The levels of policies above a function, each with the permission to change the policy.
SET_POLICY = {
    Level.PROJECT: "resourcemanager.projects.setIamPolicy",
    Level.FOLDER: "resourcemanager.folders.setIamPolicy",
    Level.ORGANIZATION: "resourcemanager.organizations.setIamPolicy",
}
# Everything that can be a step on a way to a function.
LEADING = frozenset(
    (
        *(rule.permission for rules in (*RULES.values(), *OF_JOB.values()) for rule in rules),
        *SET_POLICY.values(),
        *DEFAULTS.values(),
        *CREATE,
    )
)
