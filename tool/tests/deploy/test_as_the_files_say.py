"""A deploy makes a service match the files, in whatever state it was before."""

import json
import shutil

import pytest

from recorded_cloud import binding, policy
from test_deploy_commands import value
from tool.testing import succeeded

READS = "roles/secretmanager.secretAccessor"
FRONT = "serviceAccount:front-sa@p-1.iam.gserviceaccount.com"


def write_flags(cloud, *lines, name="front"):
    (cloud.app / "functions" / name / "flags").write_text("\n".join(lines))


def template(cloud, name="front"):
    return cloud.read(f"services/{name}")["spec"]["template"]


def deploys(cloud):
    return [c[3] for c in cloud.changes() if c[1:3] == ["run", "deploy"]]


# ---- a line that was taken out of flags


@pytest.mark.parametrize(
    "flag, ended_by",
    [
        ("--min-instances=1", "--min-instances=0"),
        ("--vpc-connector=c", "--clear-vpc-connector"),
        ("--no-cpu-throttling", "--cpu-throttling"),
    ],
)
def test_what_a_line_asked_for_ends_with_the_line(deployed, flag, ended_by):
    write_flags(deployed, flag)
    succeeded(deployed.deploy_sh())
    assert template(deployed)["metadata"]["annotations"]
    write_flags(deployed)
    deployed.forget()
    succeeded(deployed.deploy_sh())
    [deploy] = [c for c in deployed.changes() if c[1:4] == ["run", "deploy", "front"]]
    assert ended_by in deploy
    assert template(deployed)["metadata"]["annotations"] == {}


def test_a_setting_that_no_file_asks_for_is_seen_and_ended(deployed):
    """An older edition may have left it. The name of the revision does not show it, because a deploy made it."""
    def left(service):
        service["spec"]["template"]["metadata"]["annotations"] = {
            "run.googleapis.com/vpc-access-connector": "c"
        }

    deployed.change_service("front", left)
    verified = deployed.deploy_sh("verify")
    assert verified.returncode == 1
    assert "it has a VPC connector, which no file asks for. Run ./deploy.sh" in verified.stdout
    assert "front is deployed." in succeeded(deployed.deploy_sh()).stdout
    assert template(deployed)["metadata"]["annotations"] == {}


def test_what_no_flag_ends_is_named_and_left(deployed):
    write_flags(deployed, "--execution-environment=gen2")
    succeeded(deployed.deploy_sh())
    write_flags(deployed)
    succeeded(deployed.deploy_sh())
    verified = succeeded(deployed.deploy_sh("verify"))
    assert "it has an execution environment, which no file asks for. No flag ends that" in verified.stdout
    deployed.forget()
    succeeded(deployed.deploy_sh())
    assert deploys(deployed) == []


def test_what_cloud_run_sets_by_itself_is_nobody_s_line(deployed):
    def by_itself(service):
        service["spec"]["template"]["metadata"]["annotations"] = {
            "run.googleapis.com/startup-cpu-boost": "True",
            "autoscaling.knative.dev/maxScale": "5",
            "run.googleapis.com/base-images": "{}",
        }

    deployed.change_service("front", by_itself)
    succeeded(deployed.deploy_sh("verify"))
    succeeded(deployed.deploy_sh())
    assert deploys(deployed) == []


# ---- secrets


@pytest.fixture
def with_secret(deployed):
    deployed.enable("secretmanager")
    write_flags(deployed, "--set-secrets=KEY=payments-key:latest")
    succeeded(deployed.deploy_sh())
    assert deployed.read("secrets/payments-key")["bindings"] == [binding(FRONT, READS)]
    deployed.forget()
    return deployed


def test_a_secret_that_no_file_asks_for_is_neither_read_nor_granted(with_secret):
    write_flags(with_secret)
    said = succeeded(with_secret.deploy_sh())
    assert "front: took back the secret payments-key" in said.stdout
    assert template(with_secret)["spec"]["containers"] == [{"env": []}]
    assert with_secret.read("secrets/payments-key")["bindings"] == []
    # The grant is taken back last, because a revision that still serves may be reading the secret.
    kinds = [c[1] for c in with_secret.changes()]
    assert kinds.index("run") < kinds.index("secrets")


def test_a_new_version_of_a_secret_starts_a_new_revision_and_says_why(with_secret):
    def version(number):
        with_secret.write("versions/payments-key", [{"name": f"projects/1/secrets/payments-key/versions/{number}"}])

    version(1)
    # As after an older edition, which did not note the version.
    with_secret.change_service("front", lambda service: service["metadata"]["labels"].pop("secrets"))
    said = succeeded(with_secret.deploy_sh()).stdout
    assert "front: it is not known which values of payments-key it has, so a new revision starts" in said
    with_secret.forget()
    succeeded(with_secret.deploy_sh())
    assert deploys(with_secret) == []
    asked = [c for c in with_secret.commands() if c[1:4] == ["secrets", "versions", "list"]]
    assert len(asked) == 1  # nothing is asked about functions without secrets
    version(2)
    said = succeeded(with_secret.deploy_sh()).stdout
    assert "front: there is a new value of payments-key, so a new revision starts" in said
    assert len(deploys(with_secret)) == 1
    write_flags(with_secret, "--set-secrets=KEY=payments-key:1")  # with a fixed version, a newer one does not matter
    succeeded(with_secret.deploy_sh())
    with_secret.forget()
    version(3)
    succeeded(with_secret.deploy_sh())
    assert deploys(with_secret) == []


def test_where_versions_are_hidden_nothing_is_deployed_for_them(with_secret):
    with_secret.answer("secrets versions list", stderr="ERROR: PERMISSION_DENIED: no", status=1)
    succeeded(with_secret.deploy_sh())
    assert deploys(with_secret) == []


def test_a_grant_that_an_interrupted_deploy_has_left_is_seen_and_taken_back(with_secret):
    write_flags(with_secret)
    denied = "ERROR: (gcloud.secrets) PERMISSION_DENIED: no"
    with_secret.fault("secrets remove-iam-policy-binding", denied)
    assert with_secret.deploy_sh().returncode == 1
    verified = with_secret.deploy_sh("verify")
    assert verified.returncode == 1
    assert "its service account may still read the secret payments-key" in verified.stdout
    with_secret.forget()
    succeeded(with_secret.deploy_sh())
    assert deploys(with_secret) == []
    assert with_secret.read("secrets/payments-key")["bindings"] == []


def test_a_secret_that_was_added_by_hand_is_seen(deployed):
    def by_hand(service):
        reference = {"name": "other", "key": "latest"}
        variable = {"name": "KEY", "valueFrom": {"secretKeyRef": reference}}
        service["spec"]["template"]["spec"]["containers"] = [{"env": [variable]}]

    deployed.change_service("front", by_hand)
    verified = deployed.deploy_sh("verify")
    assert verified.returncode == 1
    assert "it reads the secret other, which no file asks for" in verified.stdout
    succeeded(deployed.deploy_sh())
    assert template(deployed)["spec"]["containers"] == [{"env": []}]


@pytest.mark.parametrize(
    "line, names",
    [
        ("--set-secrets=A=one:1,B=two:latest", ["one", "two"]),
        ("--set-secrets=A=one:1\n--set-secrets=/b/c=two:latest", ["one", "two"]),
        ("--set-secrets=^;^A=one:1;B=two:latest", ["one", "two"]),
    ],
)
def test_each_secret_that_the_flags_name_is_granted(cloud, line, names):
    write_flags(cloud, line)
    dry = succeeded(cloud.deploy_sh("--dry-run")).stdout
    for name in names:
        assert f"gcloud secrets add-iam-policy-binding {name} " in dry


@pytest.mark.parametrize("flag", ["--update-secrets=A=b:1", "--remove-secrets=A", "--clear-secrets"])
def test_other_ways_to_name_secrets_are_refused(cloud, flag):
    write_flags(cloud, flag)
    refused = cloud.deploy_sh()
    assert refused.returncode == 1 and cloud.commands() == []
    assert f"functions/front/flags: write --set-secrets instead of {flag.partition('=')[0]}" in refused.stderr


@pytest.mark.parametrize("flag", ["--set-secrets=A", "--set-secrets=A=value", "--set-secrets=B=b:1,A=:1"])
def test_a_secret_is_named_with_its_version(cloud, flag):
    write_flags(cloud, flag)
    refused = cloud.deploy_sh()
    assert refused.returncode == 1 and cloud.commands() == []
    assert "functions/front/flags: --set-secrets: A needs a secret and its version" in refused.stderr
    assert "value" not in refused.stderr


@pytest.mark.parametrize(
    "lines, said",
    [
        ("export A=1", "'export A=1' is not NAME=value"),
        ("A =1", "'A =1' is not NAME=value"),
        ("A=1\nB=2\nA=3", "A has a line already"),
    ],
)
def test_a_line_of_variables_that_means_something_else_is_refused(cloud, lines, said):
    (cloud.app / "functions/front/variables").write_text(lines)
    refused = cloud.deploy_sh()
    assert refused.returncode == 1 and cloud.commands() == []
    assert f"functions/front/variables: {said}" in refused.stderr


@pytest.mark.parametrize("flag", ["--memory 1Gi", "--update-labels=made-by=me"])
def test_a_flag_that_could_not_work_is_refused(cloud, flag):
    write_flags(cloud, flag)
    assert cloud.deploy_sh().returncode == 1 and cloud.commands() == []


# ---- roles and accounts


def test_a_condition_that_was_widened_is_seen_and_put_right(deployed):
    granted = deployed.read("granted")
    [data] = [b for b in granted if b["role"] == "roles/datastore.user"]
    right = dict(data["condition"])
    data["condition"]["expression"] = "true"
    deployed.write("granted", granted)
    verified = deployed.deploy_sh("verify")
    assert verified.returncode == 1
    assert "its service account has roles/datastore.user, which trust-map does not give it" in verified.stdout
    succeeded(deployed.deploy_sh())
    conditions = [b["condition"] for b in deployed.read("granted") if b["role"] == "roles/datastore.user"]
    assert conditions == [right]


def test_an_account_that_was_disabled_is_seen_and_enabled(deployed):
    email = "accounts/front-sa@p-1.iam.gserviceaccount.com"
    deployed.write(email, {**deployed.read(email), "disabled": True})
    verified = deployed.deploy_sh("verify")
    assert verified.returncode == 1 and "its service account is disabled" in verified.stdout
    succeeded(deployed.deploy_sh())
    assert "disabled" not in deployed.read(email)


def test_what_a_deleted_account_has_left_behind_is_removed(deployed):
    dead = "deleted:serviceAccount:front-sa@p-1.iam.gserviceaccount.com?uid=1"
    deployed.grant((dead, "roles/editor"))
    said = succeeded(deployed.deploy_sh())
    assert f"took roles/editor back from {dead}" in said.stderr
    deployed.write("policies/front", policy((dead, "roles/run.invoker"), ("user:dev@example.com", "roles/run.invoker")))
    assert f"front: removed {dead}" in succeeded(deployed.deploy_sh()).stdout


# ---- what a deploy leaves alone


def test_a_tag_is_left_alone_and_said(deployed):
    def tagged(service):
        service["status"]["traffic"].append({"revisionName": "front-old", "tag": "stable"})

    deployed.change_service("front", tagged)
    for verb in ("deploy", "verify"):
        said = succeeded(deployed.deploy_sh(verb))
        assert "the tag stable keeps front-old at a URL of its own" in said.stdout
    assert deploys(deployed) == []


def test_what_runs_in_another_region_is_named_with_the_command_that_removes_it(deployed):
    elsewhere = deployed.read("services/back")
    elsewhere["metadata"]["labels"]["cloud.googleapis.com/location"] = "europe-west1"
    deployed.write("services/elsewhere", elsewhere)
    said = succeeded(deployed.deploy_sh()).stderr
    assert "back also runs in europe-west1, with the same service account" in said
    assert "./deploy.sh destroy back --project=p-1 --region=europe-west1" in said


# ---- two apps in one project


@pytest.fixture
def another(deployed, tmp_path):
    """The same project, but another app, which has only the function `more`."""
    app = tmp_path / "another"
    shutil.copytree(deployed.app / "functions/closed", app / "functions/more")
    shutil.copy(deployed.app / "requirements.txt", app)
    (app / "trust-map").write_text("# app: another\nmore  you  -\n")
    text = (app / "functions/more/main.py").read_text()
    (app / "functions/more/main.py").write_text(text.replace("closed", "more"))
    first = deployed.app
    deployed.app = app
    yield deployed
    deployed.app = first


def test_another_app_in_the_project_is_left_alone(another):
    said = succeeded(another.deploy_sh())
    assert "no longer in trust-map" not in said.stderr
    succeeded(another.deploy_sh("destroy", "--quiet", "--delete-data"))
    there = {file.name for file in (another.folder / "services").iterdir()}
    assert there == {"front", "back", "closed"} and another.databases()
    emails = {file.name.partition("-sa@")[0] for file in (another.folder / "accounts").iterdir()}
    assert emails == {"front", "back", "closed", "builder"}


def test_a_function_of_another_app_is_not_taken_over(another):
    (another.app / "trust-map").write_text("# app: another\nfront  you  -\n")
    (another.app / "functions/more").rename(another.app / "functions/front")
    refused = another.deploy_sh()
    assert refused.returncode == 1 and another.changes() == []
    assert "has a function front of the app sample" in refused.stderr


def test_what_an_edition_without_names_made_is_the_app_s_whose_map_lists_it(another):
    for name in ("front", "back", "closed"):
        another.change_service(name, lambda service: service["metadata"]["labels"].pop("app"))
    for file in (another.folder / "accounts").iterdir():
        account = json.loads(file.read_text())
        account["description"] = account["description"].partition(" app=")[0]
        file.write_text(json.dumps(account))
    assert "front" not in succeeded(another.deploy_sh()).stderr
    succeeded(another.deploy_sh("destroy", "--quiet"))
    assert (another.folder / "services/front").exists()


# ---- keys


PEM = "-----BEGIN PRIVATE KEY-----\nMII...\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "name, text",
    [
        ("service-account.pem", PEM),
        ("notes.txt", "before\n" + PEM.replace("PRIVATE", "RSA PRIVATE")),
        ("settings.json", json.dumps({"type": "service_account", "private_key": PEM})),
    ],
)
def test_a_private_key_stays_here_whatever_it_is_called(cloud, name, text):
    (cloud.app / "functions/front" / name).write_text(text)
    (cloud.app / "functions/front/public.pem").write_text(PEM.replace("PRIVATE", "PUBLIC"))
    said = succeeded(cloud.deploy_sh("--dry-run"))
    staged = {file.name for file in (cloud.app / ".build/front").iterdir()}
    assert name not in staged and "public.pem" in staged
    assert f"front: functions/front/{name} holds a private key, and is left out" in said.stderr


def test_a_prefix_that_is_too_long_is_named_before_anything_is_made(cloud):
    cloud.env["PREFIX"] = "a" * 21 + "-"
    refused = cloud.deploy_sh()
    assert refused.returncode == 1 and cloud.commands() == []
    assert "builder's service account" in refused.stderr and "may have at most 30 characters" in refused.stderr


def test_the_first_deploy_states_what_an_earlier_one_may_have_left(first_deploy):
    for deploy in (c for c in first_deploy.changes() if c[1:3] == ["run", "deploy"]):
        assert "--clear-secrets" in deploy and value(deploy, "--min-instances") == "0"
