"""The roles of IAM that the local target knows, and what each may do here.

Of a role's permissions those are listed that mean something to functions, their callers and
their deploy. Which roles hold run.routes.invoke is complete for the services listed.
"""

from tool.local.records import Record

INVOKE = "run.routes.invoke"
ACT_AS = "iam.serviceAccounts.actAs"
ID_TOKEN = "iam.serviceAccounts.getOpenIdToken"
ACCESS_TOKEN = "iam.serviceAccounts.getAccessToken"
SECRET = "secretmanager.versions.access"
SHELL = "run.services.sshRead run.services.sshRoot"

_RUN_VIEW = "run.services.get run.services.getIamPolicy run.services.list run.revisions.get run.revisions.list"
_RUN_EDIT = f"{_RUN_VIEW} {INVOKE} run.services.create run.services.delete run.services.update"
_DATA_VIEW = "datastore.entities.get datastore.entities.list"
_DATA_EDIT = (
    f"{_DATA_VIEW} datastore.entities.create datastore.entities.delete datastore.entities.update"
)
_IAM_VIEW = "iam.serviceAccounts.get iam.serviceAccounts.list"
_EDIT = f"{_RUN_EDIT} {_DATA_EDIT} {_IAM_VIEW} {ACT_AS}"
_VIEW = f"{_RUN_VIEW} {_DATA_VIEW} {_IAM_VIEW}"
_OWN = f"{_EDIT} run.services.setIamPolicy resourcemanager.projects.setIamPolicy"

_ROLES = {
    "owner": _OWN,
    "editor": _EDIT,
    "viewer": _VIEW,
    "admin": f"{_OWN} {SECRET}",
    "writer": _EDIT,
    "reader": _VIEW,
    "browser": "resourcemanager.projects.get",
    "run.admin": f"{_RUN_EDIT} {SHELL} run.services.setIamPolicy",
    "run.developer": f"{_RUN_EDIT} {SHELL}",
    "run.editor": _RUN_EDIT,
    "run.sourceDeveloper": _RUN_EDIT,
    "run.invoker": f"run.instances.invoke run.jobs.run {INVOKE}",
    "run.servicesInvoker": INVOKE,
    "run.viewer": _RUN_VIEW,
    "run.builder": "artifactregistry.repositories.uploadArtifacts logging.logEntries.create storage.objects.get",
    "run.jobsExecutor": "run.jobs.run",
    "cloudfunctions.admin": f"cloudfunctions.functions.create {_RUN_EDIT} run.services.setIamPolicy",
    "cloudfunctions.developer": f"cloudfunctions.functions.create {_RUN_EDIT}",
    "cloudfunctions.editor": f"cloudfunctions.functions.create {_RUN_EDIT}",
    "cloudfunctions.viewer": f"cloudfunctions.functions.get {_RUN_VIEW}",
    "cloudfunctions.invoker": "cloudfunctions.functions.invoke",
    "iam.serviceAccountTokenCreator": f"{ACCESS_TOKEN} {ID_TOKEN} iam.serviceAccounts.implicitDelegation iam.serviceAccounts.signBlob iam.serviceAccounts.signJwt",
    "iam.serviceAccountOpenIdTokenCreator": ID_TOKEN,
    "iam.serviceAccountUser": f"{ACT_AS} {_IAM_VIEW}",
    "iam.serviceAccountAdmin": f"{_IAM_VIEW} iam.serviceAccounts.create iam.serviceAccounts.delete iam.serviceAccounts.setIamPolicy",
    "iam.serviceAccountKeyAdmin": "iam.serviceAccountKeys.create iam.serviceAccountKeys.delete",
    "iam.serviceAccountViewer": _IAM_VIEW,
    "iam.workloadIdentityUser": f"{ACCESS_TOKEN} {ID_TOKEN}",
    "iam.securityAdmin": "run.services.setIamPolicy resourcemanager.projects.setIamPolicy",
    "iam.devOps": _EDIT,
    "firebase.admin": f"{_DATA_EDIT} {_RUN_EDIT} run.services.setIamPolicy",
    "firebase.developAdmin": f"{_DATA_EDIT} {_RUN_EDIT} run.services.setIamPolicy",
    "datastore.owner": f"{_DATA_EDIT} datastore.databases.create",
    "datastore.user": _DATA_EDIT,
    "datastore.viewer": _DATA_VIEW,
    "secretmanager.admin": f"{SECRET} secretmanager.secrets.create",
    "secretmanager.secretAccessor": SECRET,
    "secretmanager.viewer": "secretmanager.secrets.get",
    "serviceusage.serviceUsageConsumer": "serviceusage.services.use",
    "serviceusage.serviceUsageAdmin": "serviceusage.services.enable",
    "cloudbuild.builds.builder": "cloudbuild.builds.create storage.objects.get",
    "cloudbuild.builds.editor": "cloudbuild.builds.create",
    "artifactregistry.reader": "artifactregistry.repositories.downloadArtifacts",
    "artifactregistry.writer": "artifactregistry.repositories.uploadArtifacts",
    "logging.logWriter": "logging.logEntries.create",
    "logging.viewer": "logging.logEntries.list",
    "monitoring.metricWriter": "monitoring.timeSeries.create",
    "cloudtrace.agent": "cloudtrace.traces.patch",
    "storage.admin": "storage.buckets.create storage.objects.create storage.objects.get",
    "storage.objectAdmin": "storage.objects.create storage.objects.get",
    "storage.objectCreator": "storage.objects.create",
    "storage.objectViewer": "storage.objects.get",
    "storage.objectUser": "storage.objects.create storage.objects.get",
    "pubsub.publisher": "pubsub.topics.publish",
    "pubsub.subscriber": "pubsub.subscriptions.consume",
    "eventarc.eventReceiver": "eventarc.events.receiveEvent",
    "cloudtasks.enqueuer": "cloudtasks.tasks.create",
    "cloudsql.client": "cloudsql.instances.connect",
    "bigquery.dataViewer": "bigquery.tables.getData",
    "bigquery.dataEditor": "bigquery.tables.updateData",
    "bigquery.jobUser": "bigquery.jobs.create",
    "aiplatform.user": "aiplatform.endpoints.predict",
    "cloudkms.cryptoKeyEncrypterDecrypter": "cloudkms.cryptoKeyVersions.useToEncrypt",
}


class Role(Record):
    name: str
    permissions: tuple[str, ...]


def predefined(name: str) -> Role | None:
    """The role that is called roles/NAME, if it is known here."""
    held = _ROLES.get(name.removeprefix("roles/")) if name.startswith("roles/") else None
    return Role(name, tuple(sorted(held.split()))) if held else None
