"""Prints the table of predefined roles that the local target knows, from a public dump of them.

    .venv/bin/python tool/roles/make.py IAM-DATASET/gcp/roles 2026-08 > tool/local/role-contents.txt

The folder is gcp/roles of https://github.com/iann0036/iam-dataset: one file for each role, as
`gcloud iam roles describe` prints it. The date is the dump's.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))

from tool.deploy.permissions import LEADING  # noqa: E402

# What "who" reports as not looked at, or what needs no rule because actAs alone is enough.
UNSEEN = frozenset(
    """
    aiplatform.batchPredictionJobs.create aiplatform.endpoints.deploy
    aiplatform.notebookRuntimes.assign artifactregistry.repositories.uploadArtifacts
    cloudfunctions.functions.update cloudscheduler.jobs.run cloudscheduler.jobs.update
    cloudtasks.queues.create cloudtasks.queues.update cloudtasks.tasks.run
    composer.environments.update compute.instances.osAdminLogin compute.instances.osLogin
    compute.instances.setMetadata compute.instances.setServiceAccount
    compute.projects.setCommonInstanceMetadata container.pods.create container.pods.exec
    dataform.workflowInvocations.create dataproc.jobs.create eventarc.triggers.update
    iam.denypolicies.update iam.googleapis.com/workloadIdentityPoolProviders.create
    iam.googleapis.com/workloadIdentityPoolProviders.update
    iam.googleapis.com/workloadIdentityPools.update iam.roles.update
    iap.webServiceVersions.accessViaIAP privilegedaccessmanager.entitlements.setIamPolicy
    pubsub.subscriptions.update pubsub.topics.publish run.workerpools.update
    secretmanager.versions.access storage.buckets.setIamPolicy storage.objects.create
    storage.objects.update workflows.executions.create workflows.workflows.update
    """.split()
)
# What functions, their callers and a deploy use, besides what can lead to a function.
USED = frozenset(
    """
    aiplatform.endpoints.predict artifactregistry.repositories.downloadArtifacts
    artifactregistry.repositories.uploadArtifacts bigquery.jobs.create bigquery.tables.getData
    bigquery.tables.updateData cloudfunctions.functions.get cloudfunctions.functions.invoke
    cloudkms.cryptoKeyVersions.useToEncrypt cloudsql.instances.connect cloudtasks.tasks.create
    cloudtrace.traces.patch compute.instances.setMetadata datastore.databases.create
    datastore.entities.create datastore.entities.delete datastore.entities.get
    datastore.entities.list datastore.entities.update eventarc.events.receiveEvent
    iam.serviceAccountKeys.delete iam.serviceAccounts.create iam.serviceAccounts.delete
    iam.serviceAccounts.get iam.serviceAccounts.list logging.logEntries.create
    logging.logEntries.list monitoring.timeSeries.create pubsub.subscriptions.consume
    pubsub.topics.publish resourcemanager.projects.get run.instances.invoke run.revisions.get
    run.revisions.list run.services.delete run.services.get run.services.getIamPolicy
    run.services.list secretmanager.secrets.create secretmanager.secrets.get
    secretmanager.versions.access serviceusage.services.enable serviceusage.services.use
    storage.buckets.create storage.objects.create storage.objects.get
    """.split()
)
# Roles that lead nowhere, but that people and functions often have.
COMMON = frozenset(
    """
    aiplatform.user artifactregistry.reader artifactregistry.writer bigquery.dataEditor
    bigquery.dataViewer bigquery.jobUser browser cloudfunctions.invoker cloudfunctions.viewer
    cloudkms.cryptoKeyEncrypterDecrypter cloudsql.client cloudtasks.enqueuer cloudtrace.agent
    datastore.owner datastore.user datastore.viewer eventarc.eventReceiver iam.serviceAccountViewer
    logging.logWriter logging.viewer monitoring.metricWriter pubsub.publisher pubsub.subscriber
    run.builder run.viewer secretmanager.admin secretmanager.secretAccessor secretmanager.viewer
    serviceusage.serviceUsageAdmin serviceusage.serviceUsageConsumer storage.admin
    storage.objectAdmin storage.objectCreator storage.objectUser storage.objectViewer viewer
    """.split()
)
MATTERS = LEADING | UNSEEN | USED


def table(folder: pathlib.Path, date: str) -> Iterator[str]:
    """A line for each role: its name without roles/, and those of its permissions that matter here."""
    yield "# Which permissions that matter here the predefined roles of Google Cloud hold."
    yield f"# Source: https://github.com/iann0036/iam-dataset, gcp/roles, as of {date}."
    yield "# Made by tool/roles/make.py. Without the roles of Google's own service agents."
    for file in sorted(folder.glob("*.json"), key=lambda file: file.stem):
        name = file.stem
        held = frozenset(json.loads(file.read_text("utf-8")).get("includedPermissions", ()))
        is_agent_s = "serviceagent" in name.lower()
        if name in COMMON or (held & (LEADING | UNSEEN) and not is_agent_s):
            yield " ".join((name, *sorted(held & MATTERS)))


if __name__ == "__main__":
    print("\n".join(table(pathlib.Path(sys.argv[1]), sys.argv[2])))
