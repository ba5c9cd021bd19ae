"""Which errors of gcloud deploy.sh waits for, and which it reports at once."""

import asyncio
import os

import pytest

from recorded_cloud import service
from tool.deploy import errors
from tool.deploy.gcloud import Gcloud
from tool.deploy.progress import Progress

PASSES = {
    "Build failed with status: FAILURE. Access to bucket gcf-v2-sources-1-us-east1 denied. You must grant Storage Object Viewer permission to builder@p.iam.gserviceaccount.com": "new build account",
    "Could not build the function due to a missing permission on the build service account": "new build account",
    "Unable to retrieve the repository metadata for projects/p/locations/us-east1/repositories/x": "service agents",
    "Google Cloud Run Service Agent does not have permission to get access tokens for the service account. Please give it permission iam.serviceAccounts.getAccessToken": "service agents",
    "Google Cloud Run Service Agent must have permission to read the image. It might take a few minutes to propagate": "service agents",
    "INVALID_ARGUMENT: Service account front-sa@p.iam.gserviceaccount.com does not exist.": "new service account",
    "Service account projects/-/serviceAccounts/front-sa@p.iam.gserviceaccount.com was not found.": "new service account",
    "Permission 'iam.serviceaccounts.actAs' denied on service account front-sa@p.iam.gserviceaccount.com (or it may not exist)": "new service account",
    "Deployment endpoint was not found.": "new service account",
    "Cloud Run Admin API has not been used in project 1 before or it is disabled. Enable it by visiting": "API that was just enabled",
    "PERMISSION_DENIED: reason: SERVICE_DISABLED": "API that was just enabled",
    "[160009] Operation encountered internal error with failed services [run.googleapis.com]": "APIs to be enabled",
    "Another activation or deactivation is in progress": "APIs to be enabled",
    "There were concurrent policy changes. Please retry the whole read-modify-write": "another change",
    "ABORTED: Conflict for resource 'front': version '1' was specified but current version is '2'": "another change",
    "Namespaces instance [p] is the subject of a conflict: Resource 'front' already exists.": "another change",
    "Could not update: unable to queue the operation": "another change",
    "FAILED_PRECONDITION: Database ID 'data-1' is not available. Please retry in 202 seconds": "deleted database",
    "UNAVAILABLE: The service is currently unavailable.": "Google to answer",
    "INTERNAL: Internal error encountered.": "Google to answer",
    "DEADLINE_EXCEEDED": "Google to answer",
    "OperationError: code=13, message=An internal error has occurred": "Google to answer",
    "ConnectionError: ('Connection aborted.', RemoteDisconnected())": "Google to answer",
    "There was a problem refreshing your current auth tokens": "Google to answer",
    "Build failed with status: EXPIRED": "build again",
    "RESOURCE_EXHAUSTED: Quota exceeded for quota metric 'Write requests' and limit 'Write requests per minute'": "quota",
}
STAYS = [
    "INVALID_ARGUMENT: Service account nightly@p.iam.gserviceaccount.com does not exist.",
    "Build failed with status: FAILURE and message: ERROR: pip's dependency resolver: conflicting dependencies. Logs: https://x/builds/409a-429b-UNAVAILABLE",
    "Build failed; check build logs for details",
    "ALREADY_EXISTS: Cloud Run service with this name already exists",
    "Container Healthcheck failed. The user-provided container failed to start and listen on the port defined provided by the PORT=8080",
    "RESOURCE_EXHAUSTED: Maximum number of service accounts on project reached.",
    "RESOURCE_EXHAUSTED: Quota exceeded for total allowable CPU per project per region.",
    "FAILED_PRECONDITION: Constraint constraints/run.allowedIngress violated for projects/p",
    "FAILED_PRECONDITION: One or more users named in the policy do not belong to a permitted customer,  perhaps due to an organization policy.",
    "PERMISSION_DENIED: Permission 'run.services.create' denied on resource",
    "Service Usage API has not been used in project 1 before or it is disabled.",
    "FAILED_PRECONDITION: due to quota restrictions, cannot run builds in this region",
    "something that nobody has seen yet 409 429 503",
]


def verdict(text, age, apis_known=True):
    """How long deploy.sh waits, and for what. `age`: seconds since the youngest service account was made."""
    accounts = ("front-sa@p.iam.gserviceaccount.com", "back-sa@p.iam.gserviceaccount.com")
    return errors.patience(text, errors.Situation(age, apis_known, accounts))


@pytest.mark.parametrize("text, what", PASSES.items())
def test_what_passes_by_itself_is_waited_for(text, what):
    seconds, said = verdict(f"ERROR: (gcloud.run.deploy) {text}", 0)
    assert seconds >= 60 and what in said


@pytest.mark.parametrize("text", STAYS)
def test_what_does_not_pass_is_reported_at_once(text):
    assert verdict(f"ERROR: (gcloud.run.deploy) {text}", 0)[0] == 0


@pytest.mark.parametrize("text", [t for t, what in PASSES.items() if what == "new service account"])
def test_an_old_account_is_not_waited_for(text):
    assert verdict(f"ERROR: {text}", 3600)[0] == 0


def test_no_line_of_the_table_hides_one_below_it():
    for seconds, what, words in errors.known():
        said = verdict(f"ERROR: {words.replace('*', ' x ')}", 0)
        expected = {"age": 999999, "api": 300}.get(seconds) or int(seconds)
        assert said == (expected, what), words


def test_an_api_is_not_waited_for_before_any_could_be_enabled():
    """For example if the deployer impersonates a service account, in a project without the API for that."""
    text = "IAM Service Account Credentials API has not been used in project 1 before or it is disabled."
    for error in (text, "PERMISSION_DENIED: reason: SERVICE_DISABLED"):
        assert verdict(f"ERROR: {error}", 0, apis_known=False)[0] == 0


def test_a_warning_is_no_error():
    warning = "WARNING: This command is using service account impersonation. Service account x does not exist.\n"
    assert verdict(warning + "ERROR: PERMISSION_DENIED: no", 0)[0] == 0
    assert verdict(warning, 0)[0] == 0


def test_the_wait_counts_from_the_first_error_not_from_the_start_of_a_build(monkeypatch, tmp_path):
    """A build itself takes minutes. It is tried again here, although the patience is only one second."""
    monkeypatch.setattr(errors, "known", lambda: [errors.Known("1", "the sun to shine", "no")])
    build = f'sleep 2; if mkdir {tmp_path}/once; then echo "ERROR: no" >&2; exit 1; fi; echo 7'
    program = ("bash", "-c", build)
    gcloud = Gcloud(program, os.environ, Progress(), patience=0, dry_run=False)
    assert asyncio.run(gcloud.read("gcloud run deploy")) == 7


# ---- in a deploy


LOST = "ERROR: UNAVAILABLE: the answer was lost"


def deploys(cloud, name):
    return [c for c in cloud.changes() if c[1:4] == ["run", "deploy", name]]


def test_what_does_not_pass_is_named_and_the_others_are_deployed(cloud):
    denied = "ERROR: (gcloud.run.deploy) PERMISSION_DENIED: Permission 'run.services.create' denied on resource\n"
    cloud.answer("run deploy closed", stderr=denied, status=1)
    failed = cloud.deploy_sh()
    assert failed.returncode == 1
    assert "closed is not deployed." in failed.stderr and "front is deployed." in failed.stdout
    assert "You lack the permission run.services.create in project p-1. The role roles/run.admin" in failed.stderr
    assert failed.stderr.count("PERMISSION_DENIED") == 1
    assert "services logs read" not in failed.stderr  # the function was never created, so it has no log
    assert len(deploys(cloud, "closed")) == 1


@pytest.mark.parametrize(
    "words, error, role",
    [
        ("services enable", "(gcloud.services.enable) PERMISSION_DENIED: Permission denied to enable service [run.googleapis.com]", "roles/serviceusage.serviceUsageAdmin"),
        ("projects add-iam-policy-binding", "(gcloud.projects.add-iam-policy-binding) [dev@example.com] does not have permission to access projects instance [p-1:setIamPolicy] (or it may not exist): Policy update access denied.", "roles/resourcemanager.projectIamAdmin"),
        ("run services set-iam-policy back", "(gcloud.run.services.set-iam-policy) PERMISSION_DENIED: The caller does not have permission", "roles/run.admin"),
        ("run deploy back", "(gcloud.run.deploy) PERMISSION_DENIED: The caller does not have permission", "roles/iam.serviceAccountUser or roles/run.sourceDeveloper"),
    ],
)  # fmt: skip
def test_where_google_names_no_permission_the_command_tells_the_role(cloud, words, error, role):
    cloud.answer(words, stderr=f"ERROR: {error}\n", status=1)
    failed = cloud.deploy_sh()
    assert failed.returncode == 1
    command = " ".join(words.split()[:3]).removesuffix(" back")
    assert f"You lack a permission in project p-1 that gcloud {command} needs. {role} holds it; an owner" in failed.stderr


def test_a_role_that_all_functions_need_is_named_once(cloud):
    denied = "ERROR: (gcloud.run.deploy) PERMISSION_DENIED: Permission 'run.services.create' denied on resource\n"
    cloud.answer("run deploy", stderr=denied, status=1)
    said = cloud.deploy_sh().stderr
    assert said.count(" is not deployed.") == 3
    assert said.count("You lack the permission run.services.create") == 1


def test_a_step_that_fails_says_what_stays_and_what_to_do(cloud):
    denied = "ERROR: (gcloud.projects.add-iam-policy-binding) PERMISSION_DENIED: Permission 'resourcemanager.projects.setIamPolicy' denied\n"
    cloud.answer("projects add-iam-policy-binding", stderr=denied, status=1)
    said = cloud.deploy_sh().stderr
    assert said.endswith("deploy.sh: Granting roles: not finished. What was done so far stays. Correct the error above, and run this again: it goes on from there\n")


def test_a_failed_build_is_built_once_more_where_its_account_is_new_and_shows_its_log(cloud):
    failure = "ERROR: (gcloud.run.deploy) Build failed; check build logs for details\n"
    cloud.answer("run deploy closed", stderr=failure, status=1)
    cloud.answer("builds list", [{"id": "build-7"}])
    cloud.answer("builds log build-7", text="ERROR: Access denied\n")
    failed = cloud.deploy_sh()
    assert failed.returncode == 1 and "    ERROR: Access denied" in failed.stderr
    assert len(deploys(cloud, "closed")) == 2


def test_broken_code_is_never_built_again(cloud):
    failure = "ERROR: (gcloud.run.deploy) Build failed; check build logs for details\n"
    cloud.answer("run deploy closed", stderr=failure, status=1)
    cloud.answer("builds list", [{"id": "build-7"}])
    cloud.answer("builds log build-7", text="ERROR: conflicting dependencies\n")
    failed = cloud.deploy_sh()
    assert "    ERROR: conflicting dependencies" in failed.stderr
    assert len(deploys(cloud, "closed")) == 1


def test_success_is_not_believed_where_the_revision_does_not_serve(cloud):
    old = service("closed", "us-east1", "function-trust-map")
    old["spec"]["template"]["metadata"]["name"] = "closed-old-1"
    old["status"] |= {"latestCreatedRevisionName": "closed-new", "latestReadyRevisionName": "closed-old"}
    cloud.answer("run services describe closed", old)
    failed = cloud.deploy_sh()
    assert failed.returncode == 1 and "unbound" not in failed.stderr
    assert "closed is not deployed. gcloud reported success, but revision closed-" in failed.stderr


def test_an_answer_that_was_lost_is_no_failure(cloud):
    """The command reports an error, but the change was made."""
    cloud.fault("firestore databases create", LOST, lost=True)
    assert "waiting" not in cloud.deploy_sh().stderr
    cloud.fault("run services delete back", LOST, lost=True)
    destroyed = cloud.deploy_sh("destroy", "--quiet")
    assert destroyed.returncode == 0 and "waiting" not in destroyed.stderr


def test_a_role_that_was_taken_back_though_the_answer_was_lost_is_gone(deployed):
    deployed.grant(("serviceAccount:Closed-SA@p-1.iam.gserviceaccount.com", "roles/editor"))
    deployed.fault("projects remove-iam-policy-binding", LOST, lost=True)
    again = deployed.deploy_sh()
    assert "took roles/editor back" in again.stderr and "not found" not in again.stderr
    assert "front is unchanged" in again.stdout


def test_what_is_waited_for_or_fails_names_its_function(cloud):
    """Functions are deployed side by side, so lines about one can come between those about another."""
    cloud.env["PATIENCE"] = "1"
    cloud.fault("run deploy back", "ERROR: ABORTED: no")
    cloud.answer("run deploy closed", stderr="ERROR: (gcloud.run.deploy) PERMISSION_DENIED: no\n", status=1)
    said = cloud.deploy_sh().stderr.splitlines()
    assert "  back: waiting for another change to end" in said
    assert "  closed: ERROR: (gcloud.run.deploy) PERMISSION_DENIED: no" in said


def test_the_lack_of_a_service_agent_of_google_s_is_not_yours(cloud):
    lacks = "Google Cloud Run Service Agent service-1@x lacks permission 'artifactregistry.repositories.get'"
    cloud.answer("run deploy closed", stderr=f"ERROR: (gcloud.run.deploy) {lacks}\n", status=1)
    said = cloud.deploy_sh().stderr
    assert lacks in said and "You lack" not in said


def test_what_cannot_be_read_is_neither_there_nor_gone(cloud):
    denied = "ERROR: (gcloud.firestore) PERMISSION_DENIED: Missing permission 'datastore.databases.getMetadata'\n"
    cloud.answer("firestore databases describe", stderr=denied, status=1)
    failed = cloud.deploy_sh()
    assert failed.returncode == 1
    assert "You lack the permission datastore.databases.getMetadata" in failed.stderr
    assert not any("databases" in c and "create" in c for c in cloud.changes())


def test_a_database_in_datastore_mode_is_named(cloud):
    cloud.answer("firestore databases describe", {"type": "DATASTORE_MODE"})
    failed = cloud.deploy_sh()
    assert failed.returncode == 1 and "is in Datastore mode" in failed.stderr
