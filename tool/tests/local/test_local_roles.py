"""On the local target, the predefined roles have the same permissions as on Google Cloud."""

import json
import sys

import pytest

from tool.local import roles
from tool.testing import ROOT, run, succeeded


def held(role):
    return set(roles.predefined(f"roles/{role}").permissions)


@pytest.mark.parametrize(
    "role, holds, lacks",
    [
        ("viewer", "run.services.sshRead run.services.get", "run.routes.invoke iam.serviceAccounts.actAs"),
        ("editor", "run.routes.invoke iam.serviceAccounts.actAs", "run.services.setIamPolicy iam.serviceAccounts.getAccessToken"),
        ("owner", "resourcemanager.projects.setIamPolicy secretmanager.versions.access", "iam.serviceAccounts.getOpenIdToken"),
        ("admin", "resourcemanager.projects.setIamPolicy", "iam.serviceAccounts.getOpenIdToken"),
        ("run.admin", "run.jobs.runWithOverrides run.services.sshRoot run.services.setIamPolicy", "iam.serviceAccounts.actAs"),
        ("iam.serviceAccountOpenIdTokenCreator", "iam.serviceAccounts.getOpenIdToken", "iam.serviceAccounts.getAccessToken iam.serviceAccounts.signJwt"),
        ("run.servicesInvoker", "run.routes.invoke", "run.jobs.run"),
        ("batch.jobsEditor", "batch.jobs.create", "iam.serviceAccounts.actAs"),
        ("iam.roleAdmin", "iam.roles.update", "run.routes.invoke"),
        ("datastore.user", "datastore.entities.update", "datastore.databases.create"),
    ],
)  # fmt: skip
def test_a_role_holds_what_it_holds_on_google_cloud(role, holds, lacks):
    assert set(holds.split()) <= held(role) and not set(lacks.split()) & held(role)


def test_no_agent_of_google_s_has_a_role_here_and_no_name_is_made_up():
    for name in ("run.serviceAgent", "aiplatform.customCodeServiceAgent", "translator", ""):
        assert roles.predefined(f"roles/{name}") is None
    assert roles.predefined("run.invoker") is None


def test_the_table_names_its_source_and_date_and_how_it_is_made():
    head = roles.CONTENTS.read_text().splitlines()[:3]
    assert "https://github.com/iann0036/iam-dataset" in head[1] and "2026-08" in head[1]
    assert "tool/roles/make.py" in head[2]


def test_the_table_is_made_from_the_dump(tmp_path):
    dump = {
        "run.invoker": ["run.routes.invoke", "run.jobs.run", "nothing.that.matters"],
        "run.serviceAgent": ["run.routes.invoke"],
        "tags.viewer": ["tags.get"],
        "logging.viewer": ["logging.logEntries.list"],
    }
    for name, permissions in dump.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"includedPermissions": permissions}))
    made = succeeded(run(sys.executable, "-I", str(ROOT / "tool/roles/make.py"), str(tmp_path), "2030-01"))
    lines = made.stdout.splitlines()
    assert "as of 2030-01." in lines[1]
    assert lines[3:] == ["logging.viewer logging.logEntries.list", "run.invoker run.jobs.run run.routes.invoke"]
