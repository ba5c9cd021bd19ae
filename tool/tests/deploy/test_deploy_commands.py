"""The commands that deploy.sh issues on Google Cloud: what they are, and that gcloud knows them."""

import json
import os
import re
import shlex
import shutil

import pytest

from recorded_cloud import NAMES, policy, service
from tool.deploy import errors
from tool.testing import ROOT, run, succeeded


def printed(text):
    """The gcloud commands of a --dry-run, with the variables as a shell would set them."""
    text = text.replace("$PROJECT_NUMBER", "123456789012").replace("$YOU", "user:dev@example.com")
    return [shlex.split(line) for line in text.splitlines() if line.startswith("gcloud")]


def kinds(commands):
    """What the commands do, without what changes from run to run."""
    words = [" ".join(w for w in c if not w.startswith(("-", "/", ".build"))) for c in commands]
    return sorted(w for w in words if "set-iam-policy closed" not in w)  # its policy is empty from the beginning


def value(command, option):
    [found] = [w.partition("=")[2] for w in command if w.startswith(f"{option}=")]
    return found


def test_dry_run_prints_what_a_deploy_runs(cloud, first_deploy):
    dry = cloud.deploy_sh("--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert cloud.commands() == []
    assert kinds(first_deploy.changes()) == kinds(printed(dry.stdout))
    assert "enable run.googleapis.com" in dry.stdout


def test_dry_run_says_exactly_what_is_staged(cloud):
    (cloud.app / "functions" / "front" / ".env").write_text("SECRET=x")
    (cloud.app / "shared").mkdir()
    (cloud.app / "shared" / "greeting.py").write_text("")
    said = cloud.deploy_sh("--dry-run").stdout
    assert re.findall(r"^#   (front/.*)", said, re.M) == [
        "front/.gcloudignore",
        "front/main.py",
        "front/requirements.txt",
        "front/shared/greeting.py",
    ]


def test_dry_run_needs_no_gcloud(cloud):
    (cloud.folder / "gcloud").write_text("#!/bin/sh\necho called >&2\nexit 1\n")
    for verb in ("deploy", "destroy"):
        dry = cloud.deploy_sh("--dry-run", verb)
        assert (dry.returncode, dry.stderr) == (0, "")


def test_a_second_deploy_changes_nothing(deployed, first_deploy):
    again = deployed.deploy_sh()
    assert deployed.changes() == []
    assert "front is unchanged" in again.stdout
    # Each call of gcloud takes about a second: 44 and 16 for three functions.
    assert len(first_deploy.commands()) <= 44 and len(deployed.commands()) <= 16


def test_each_function_has_its_own_account_and_only_back_a_role(first_deploy):
    cloud = first_deploy
    deployed = {c[3]: c for c in cloud.changes() if c[1:3] == ["run", "deploy"]}
    accounts = {name: value(c, "--service-account") for name, c in deployed.items()}
    assert accounts == {name: f"{name}-sa@p-1.iam.gserviceaccount.com" for name in NAMES}
    assert {value(c, "--build-service-account") for c in deployed.values()} == {
        "projects/p-1/serviceAccounts/builder-sa@p-1.iam.gserviceaccount.com"
    }
    granted = [c for c in cloud.changes() if "add-iam-policy-binding" in c]
    assert {(value(c, "--member"), value(c, "--role")) for c in granted} == {
        ("serviceAccount:builder-sa@p-1.iam.gserviceaccount.com", "roles/run.builder"),
        ("serviceAccount:back-sa@p-1.iam.gserviceaccount.com", "roles/datastore.user"),
    }
    [data] = [c for c in granted if "--role=roles/datastore.user" in c]
    database = value(next(c for c in cloud.changes() if "databases" in c), "--database")
    condition = value(data, "--condition")
    assert condition.endswith(f"resource.name == 'projects/p-1/databases/{database}'")


def test_flags_and_variables_of_a_function_go_to_the_cloud(cloud):
    folder = cloud.app / "functions" / "front"
    (folder / "flags").write_text(
        "# small\n--memory=128Mi\n\n--vpc-connector=a b\r\n--tag=x|\n--concurrency=7 \t"
    )
    (folder / "variables").write_text('GREETING=it\'s a ## "day", ä\nCLOSED_URL\nEMPTY=')
    cloud.deploy_sh()
    [front] = [c for c in cloud.changes() if c[1:4] == ["run", "deploy", "front"]]
    assert value(front, "--memory") == "128Mi" and value(front, "--vpc-connector") == "a b"
    assert value(front, "--concurrency") == "7" and value(front, "--tag") == "x|"
    variables = value(front, "--set-env-vars")
    separator = variables[1:3]
    pairs = dict(p.split("=", 1) for p in variables[4:].split(separator))
    assert pairs["GREETING"] == 'it\'s a ## "day", ä' and pairs["EMPTY"] == ""
    assert pairs["THREADS"] == "7" and pairs["GOOGLE_CLOUD_PROJECT"] == "p-1"
    # The URLs of the functions whose lines name it, and of those that its variables ask for.
    assert {name for name in pairs if name.endswith("_URL")} == {"BACK_URL", "CLOSED_URL"}
    assert pairs["BACK_URL"] == "https://back-123456789012.us-east1.run.app"


def test_a_variable_can_take_its_value_from_the_shell_that_deploys(cloud):
    (cloud.app / "functions" / "front" / "variables").write_text("PAYMENTS_URL=$PAY\n")
    refused = cloud.deploy_sh()
    assert refused.returncode == 1 and cloud.changes() == []
    said = "functions/front/variables: PAYMENTS_URL=$PAY, but PAY is not set in this shell"
    assert said in refused.stderr
    cloud.env["PAY"] = "https://payments.example"
    cloud.deploy_sh()
    [front] = [c for c in cloud.changes() if c[1:4] == ["run", "deploy", "front"]]
    assert "PAYMENTS_URL=https://payments.example" in value(front, "--set-env-vars")
    del cloud.env["PAY"]
    assert cloud.deploy_sh("env").returncode == 0


def test_an_added_function_rebuilds_itself_and_its_callers_alone(deployed):
    shutil.copytree(deployed.app / "functions" / "closed", deployed.app / "functions" / "more")
    with open(deployed.app / "trust-map", "a") as file:
        file.write("\nmore  back  -\n")
    succeeded(deployed.deploy_sh())
    assert {c[3] for c in deployed.changes() if c[1:3] == ["run", "deploy"]} == {"back", "more"}


@pytest.mark.parametrize(
    "file, line, message",
    [
        ("flags", "memory=1", "functions/front/flags: 'memory=1' is not a flag"),
        ("flags", "--allow-unauthenticated", "write that into trust-map"),
        ("flags", "--no-invoker-iam-check", "write that into trust-map"),
        ("flags", "--service-account=x", "--service-account is set by deploy.sh"),
        ("flags", "--set-env-vars=A=1", "variables stand in functions/front/variables"),
        ("variables", "A", "functions/front/variables: 'A' is not NAME=value"),
        (
            "variables",
            "NO_URL",
            "'NO_URL' is not NAME=value, nor X_URL of a function X of trust-map",
        ),
        ("variables", "PORT=1", "PORT is set by Cloud Run or by deploy.sh"),
    ],
)
def test_a_wrong_flag_or_variable_is_named_before_anything_is_made(cloud, file, line, message):
    (cloud.app / "functions" / "front" / file).write_text(line + "\n")
    refused = cloud.deploy_sh()
    assert refused.returncode == 1 and message in refused.stderr
    assert cloud.commands() == []


def test_a_secret_is_granted_to_the_one_account_once_and_taken_back(cloud):
    (cloud.app / "functions" / "front" / "flags").write_text(
        "--set-secrets=KEY=payments-key:latest\n"
    )
    cloud.enable("secretmanager")
    cloud.deploy_sh()
    [granted] = [c for c in cloud.changes() if c[1] == "secrets"]
    assert granted[2:4] == ["add-iam-policy-binding", "payments-key"]
    member = "serviceAccount:front-sa@p-1.iam.gserviceaccount.com"
    assert value(granted, "--member") == member
    assert value(granted, "--role") == "roles/secretmanager.secretAccessor"

    reads = "roles/secretmanager.secretAccessor"
    readers = policy((member, reads), ("user:ada@example.com", reads))
    cloud.answer("secrets get-iam-policy payments-key", readers)
    cloud.answer("secrets list", [{"name": "projects/1/secrets/payments-key"}])
    cloud.forget()
    cloud.deploy_sh()
    assert cloud.changes() == []
    cloud.deploy_sh("destroy", "--quiet")
    [taken] = [c for c in cloud.changes() if c[1] == "secrets"]
    assert taken[2:4] == ["remove-iam-policy-binding", "payments-key"]
    assert value(taken, "--member") == member


def test_requirements_are_joined_line_by_line(cloud):
    (cloud.app / "requirements.txt").write_bytes(b"flask==3.1.3\r\nrequests==2.34.2")
    (cloud.app / "functions" / "front" / "requirements.txt").write_text("idna==3.20")
    cloud.deploy_sh("--dry-run")
    staged = cloud.app / ".build" / "front" / "requirements.txt"
    assert staged.read_bytes() == b"flask==3.1.3\nrequests==2.34.2\nidna==3.20\n"


def test_what_git_ignores_is_not_staged_and_what_is_new_is(cloud):
    folder = cloud.app / "functions" / "front"
    run("git", "init", "-q", cwd=cloud.app)
    shutil.copy(ROOT / ".gitignore", cloud.app)
    before = revision(cloud)
    (folder / ".venv").mkdir()
    for name in ("key.json", ".env", ".venv/x", ".DS_Store", "main.py.orig", "main.py~", ".main.py.swp"):
        (folder / name).write_text("secret")
    assert revision(cloud) == before
    (folder / "new file ä.txt").write_text("x")
    assert revision(cloud) != before
    staged = {p.name for p in (cloud.app / ".build" / "front").iterdir()}
    assert staged == {"main.py", "new file ä.txt", "requirements.txt", ".gcloudignore"}


def revision(cloud):
    """The name of the revision that front would get, without the time."""
    [front] = [
        c
        for c in printed(cloud.deploy_sh("--dry-run").stdout)
        if c[1:4] == ["run", "deploy", "front"]
    ]
    return value(front, "--revision-suffix").partition("-")[0]


def test_a_link_to_a_folder_is_refused(cloud):
    (cloud.app / "functions" / "front" / "data").symlink_to(cloud.app / "functions" / "back")
    refused = cloud.deploy_sh()
    assert refused.returncode == 1
    assert (
        "functions/front/data is a link to a folder, which gcloud would leave out" in refused.stderr
    )


def test_a_check_that_is_switched_off_is_switched_on(deployed):
    def switch_off(service):
        service["metadata"]["annotations"]["run.googleapis.com/invoker-iam-disabled"] = "true"

    deployed.change_service("front", switch_off)
    succeeded(deployed.deploy_sh())
    assert any(
        "--invoker-iam-check" in c and c[2:5] == ["services", "update", "front"]
        for c in deployed.changes()
    )


ANSWERING = r"""#!/bin/sh
while IFS='"' read -r option value _; do
  case $option$value in
    url*//front-*) answer='200 application/json' ;;
    url*//back-*) answer='000 ' ;;
    url*//closed-*) answer='403 text/html; charset=UTF-8' ;;
    output*) echo "Your client does not have permission" > "$value"; echo "$answer" ;;
  esac
done
"""


def test_each_answer_is_told_of_the_function_that_gave_it(deployed):
    deployed.program("curl", ANSWERING)
    said = deployed.deploy_sh("verify").stdout
    assert re.search(r"^  anonymous +200 WRONG +\? none +403 ok +$", said, re.M)
    assert re.search(r"^  you +200 ok +\? none +403 ok +$", said, re.M)


def test_a_policy_that_cannot_be_read_is_unknown_and_not_wrong(deployed):
    denied = "ERROR: (gcloud.run.services.get-iam-policy) PERMISSION_DENIED: no\n"
    deployed.answer("run services get-iam-policy closed", stderr=denied, status=1)
    verified = deployed.deploy_sh("verify")
    assert verified.returncode == 3 and "WRONG" not in verified.stdout
    assert "this is not what" not in verified.stderr
    assert "whether all is as trust-map says is not known: the policy of closed cannot be read" in verified.stderr


def another_revision(service):
    service["spec"]["template"]["metadata"]["name"] = "front-00007-abc"
    service["status"]["latestCreatedRevisionName"] = "front-00007-abc"
    service["status"]["latestReadyRevisionName"] = "front-00007-abc"


def another_account(service):
    account = "1-compute@developer.gserviceaccount.com"
    service["spec"]["template"]["spec"]["serviceAccountName"] = account


def another_ingress(service):
    service["metadata"]["annotations"]["run.googleapis.com/ingress"] = "internal"


def rolled_back(service):
    service["status"]["traffic"] = [{"revisionName": "front-old", "percent": 100}]


def newest_not_ready(service):
    service["status"]["latestReadyRevisionName"] = "back-old"


def not_ready(service):
    service["status"]["conditions"] = [{"type": "Ready", "status": "False"}]


@pytest.mark.parametrize(
    "drift",
    [
        {
            "front": (another_revision, "its revision front-00007-abc was not made by deploy.sh"),
            "back": (another_account, "it runs as 1-compute@developer.gserviceaccount.com, not as back-sa@"),
            "closed": (another_ingress, "its ingress is internal, not all"),
        },
        {
            "front": (rolled_back, "not all calls go to its latest revision"),
            "back": (newest_not_ready, "is not ready"),
            "closed": (not_ready, "is not ready"),
        },
    ],
)  # fmt: skip
def test_what_was_changed_by_hand_is_seen_and_put_right(deployed, drift):
    for name, (change, _) in drift.items():
        deployed.change_service(name, change)
    verified = deployed.deploy_sh("verify")
    assert verified.returncode == 1 and deployed.changes() == []
    about = re.split(
        rf"^  ({'|'.join(NAMES)}) .*\n",
        verified.stdout.partition("by the policies:")[2],
        flags=re.M,
    )
    about = dict(zip(about[1::2], about[2::2], strict=True))
    again = deployed.deploy_sh()
    for name in NAMES:
        said = drift.get(name, ((), ""))[1]
        assert (said in about[name]) if said else "Run ./deploy.sh" not in about[name]
        assert f"{name} is {'deployed.' if said else 'unchanged'}" in again.stdout
        assert not said or said not in again.stdout


def test_roles_that_the_map_does_not_give_are_taken_back(deployed):
    member = "serviceAccount:closed-sa@p-1.iam.gserviceaccount.com"
    deployed.grant(
        (member.replace("closed", "Closed"), "roles/editor"),
        (member, "roles/editor", "on my terms"),
        ("user:ada@example.com", "roles/editor"),
    )
    verified = deployed.deploy_sh("verify")
    assert verified.returncode == 1 and "trust-map says: see the note under closed" in verified.stderr
    assert "its service account has roles/editor, which trust-map does not give it" in verified.stdout
    deployed.forget()
    again = deployed.deploy_sh()
    [taken] = deployed.changes()
    assert taken[1:3] == ["projects", "remove-iam-policy-binding"]
    assert value(taken, "--member") == member and value(taken, "--role") == "roles/editor"
    assert f"took roles/editor back from {member}" in again.stderr


def test_the_case_of_an_address_means_nothing(cloud):
    cloud.answer("auth list", [{"account": "Dev@Example.com"}])
    invoker = policy(("user:dev@example.com", "roles/run.invoker"))
    cloud.answer("run services get-iam-policy front", invoker)
    cloud.deploy_sh()
    assert not any(c[2:5] == ["services", "set-iam-policy", "front"] for c in cloud.changes())


@pytest.mark.parametrize(
    "project, account",
    [
        ("p-1", "front-sa@p-1.iam.gserviceaccount.com"),
        ("example.com:p-1", "front-sa@p-1.example.com.iam.gserviceaccount.com"),
    ],
)
def test_a_project_of_a_domain_has_accounts_of_the_domain(cloud, project, account):
    dry = cloud.deploy_sh(f"--project={project}", "--dry-run")
    assert f"--service-account={account}" in dry.stdout


def test_a_project_can_be_given_by_number(cloud):
    cloud.deploy_sh("--project=123456789012")
    assert all("--project=p-1" in c for c in cloud.changes() if c[1] == "run")


CREDENTIALS = {
    "a service account's key": (
        {"client_email": "ci@p-1.iam.gserviceaccount.com"},
        "serviceAccount:ci@p-1.iam.gserviceaccount.com",
    ),
    "a federated identity that impersonates": (
        {
            "service_account_impersonation_url": "https://x/v1/projects/-/serviceAccounts/ci@p-1.iam.gserviceaccount.com:generateAccessToken"
        },
        "serviceAccount:ci@p-1.iam.gserviceaccount.com",
    ),
}


@pytest.mark.parametrize("content, member", CREDENTIALS.values(), ids=CREDENTIALS)
def test_credentials_of_a_ci_job_are_a_login(cloud, tmp_path, content, member):
    cloud.answer("auth list", [])
    (tmp_path / "credentials.json").write_text(json.dumps(content))
    cloud.env["CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE"] = str(tmp_path / "credentials.json")
    cloud.deploy_sh()
    assert cloud.members("front") == {member}


def test_where_nobody_can_say_who_you_are_the_map_has_to(cloud, tmp_path):
    cloud.answer("auth list", [])
    (tmp_path / "credentials.json").write_text('{"type": "external_account"}')
    cloud.env["CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE"] = str(tmp_path / "credentials.json")
    refused = cloud.deploy_sh()
    assert refused.returncode == 1 and 'instead of "you"' in refused.stderr
    map_file = cloud.app / "trust-map"
    map_file.write_text(map_file.read_text().replace("you  ", "group:team@example.com"))
    cloud.deploy_sh()
    assert cloud.members("front") == {"group:team@example.com"}


def test_a_federated_person_is_a_member_as_they_are(cloud):
    person = "principal://iam.googleapis.com/locations/global/workforcePools/w/subject/ada"
    cloud.answer("auth list", [{"account": person}])
    cloud.deploy_sh()
    assert cloud.members("front") == {person}


@pytest.mark.parametrize(
    "words, found, message",
    [
        ("auth list", [], "nobody is logged in. Run gcloud auth login"),
        ("version", {"Google Cloud SDK": "400.0.0"}, "gcloud 400 is too old, 528 is needed"),
        ("billing projects describe", {}, "project p-1 has no billing account"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_made(cloud, words, found, message):
    cloud.answer(words, found)
    refused = cloud.deploy_sh()
    assert refused.returncode == 1
    assert message in refused.stderr
    assert cloud.changes() == []


@pytest.mark.parametrize("words", ["auth list", "config list"])
def test_a_gcloud_that_does_not_work_is_named(cloud, words):
    cloud.answer(words, stderr="ERROR: gcloud failed to load\n", status=1)
    refused = run(str(ROOT / "deploy.sh"), f"--app={cloud.app}", env=cloud.env)
    assert refused.returncode == 1
    assert f"deploy.sh: gcloud does not work here. To see why, run gcloud {words}" in refused.stderr


@pytest.mark.parametrize("deploys", ["gcloud/deploy.py", "gcloud_deploy.py"])  # the second: of an older clone
def test_the_stand_in_of_any_clone_is_left_and_nothing_else(cloud, tmp_path, deploys):
    other, mine = tmp_path / "clone" / "local", tmp_path / "my" / "local" / "bin"
    (other / "bin").mkdir(parents=True)
    (other / deploys).parent.mkdir(exist_ok=True)
    (other / deploys).touch()
    mine.mkdir(parents=True)
    (other / "bin" / "gcloud").write_text("#!/bin/sh\necho the stand-in >&2; exit 9\n")
    (other / "bin" / "gcloud").chmod(0o755)
    (cloud.folder / "gcloud").rename(mine / "gcloud")
    cloud.env["PATH"] = f"{other}/bin:{ROOT}/tool/local/bin:{mine}:{cloud.env['PATH']}"
    assert "is deployed." in cloud.deploy_sh().stdout


def test_a_public_function_stays_public_while_it_is_deployed_again(cloud):
    cloud.deploy_sh("--public")
    (cloud.app / "functions" / "front" / "variables").write_text("A=1\n")
    cloud.forget()
    cloud.deploy_sh("--public")
    assert [c[1:4] for c in cloud.changes()] == [["run", "deploy", "front"]]
    assert not any("allow-unauthenticated" in word for c in cloud.changes() for word in c)


@pytest.mark.parametrize("kind", ["Cloud Run service", "service account"])
def test_what_is_not_ours_is_named_and_not_touched(cloud, kind):
    enabled = [{"config": {"name": f"{api}.googleapis.com"}} for api in ("run", "iam")]
    cloud.answer("services list --enabled", enabled)
    if kind == "service account":
        mine = {"email": "front-sa@p-1.iam.gserviceaccount.com", "description": "mine"}
        cloud.answer("service-accounts list", [mine])
    else:
        cloud.answer("run services list", [service("front", "us-east1", "somebody")])
    refused = cloud.deploy_sh()
    assert refused.returncode == 1
    assert f"project p-1 has a {kind} front" in refused.stderr
    assert "that this script did not make" in refused.stderr
    assert cloud.changes() == []


def test_env_tells_the_shell_and_gcloud_where_it_was_deployed(deployed):
    exported = deployed.deploy_sh("env").stdout
    shell = run(
        "bash",
        "-c",
        f'{exported}\necho "$CLOSED_URL $BACK_ACCOUNT $PROJECT_ID $REGION $CLOUDSDK_CORE_PROJECT"',
    )
    assert shell.stdout.split() == [
        "https://closed-123456789012.us-east1.run.app",
        "back-sa@p-1.iam.gserviceaccount.com",
        "p-1",
        "us-east1",
        "p-1",
    ]


def test_a_project_may_have_many_services_of_others(deployed):
    strangers = [service(f"stranger-{n}", "us-east1", "somebody") for n in range(2000)]
    ours = [deployed.read(f"services/{name}") for name in NAMES]
    deployed.answer("run services list", [*strangers, *ours])
    shown = deployed.deploy_sh("env")
    assert (shown.returncode, shown.stderr) == (0, "")


def test_where_the_organisation_forbids_all_users_nothing_loops(cloud):
    map_file = cloud.app / "trust-map"
    map_file.write_text(map_file.read_text().replace("closed   -  ", "closed   anonymous"))
    refusal = "ERROR: (gcloud) One or more users named in the policy do not belong to a permitted customer,  perhaps due to an organization policy.\n"
    cloud.answer("set-iam-policy closed", stderr=refusal, status=1)
    deployed = cloud.deploy_sh()
    assert deployed.returncode == 1
    assert "closed stays private: your organisation forbids allUsers" in deployed.stderr
    assert "--no-invoker-iam-check" in deployed.stderr


@pytest.mark.parametrize("refusal", [
    "One or more users named in the policy do not belong to a permitted customer,  perhaps due to an organization policy.",
    "PERMISSION_DENIED: The caller does not have permission",
])  # fmt: skip
def test_a_policy_that_is_refused_does_not_hide_that_the_function_is_deployed(deployed, refusal):
    (deployed.app / "functions" / "front" / "variables").write_text("A=1\n")
    refusal = f"ERROR: (gcloud.run.services.set-iam-policy) {refusal}\n"
    deployed.answer("set-iam-policy front", stderr=refusal, status=1)
    said = deployed.deploy_sh("--public")
    assert said.returncode == 1
    assert "front is deployed, but its policy is not the one of trust-map" in said.stderr
    assert "front is not deployed" not in said.stderr
    assert said.stderr.count("ERROR") == 1


def test_where_the_organisation_forbids_you_you_are_named(cloud):
    refusal = "ERROR: (gcloud) One or more users named in the policy do not belong to a permitted customer,  perhaps due to an organization policy.\n"
    cloud.answer("set-iam-policy front", stderr=refusal, status=1)
    deployed = cloud.deploy_sh()
    assert deployed.returncode == 1
    assert (
        "forbids one of these as a member in the policy of front: user:dev@example.com"
        in deployed.stderr
    )
    assert "allUsers" not in deployed.stderr


# ---- destroy


def test_destroy_asks_first(deployed):
    refused = deployed.deploy_sh("destroy")
    assert refused.returncode == 1
    assert "Go on? (y/N)" in refused.stdout
    assert "nothing was removed" in refused.stderr
    assert deployed.changes() == []


def test_destroy_removes_what_was_made_without_map_and_functions(deployed):
    shutil.rmtree(deployed.app / "functions")
    (deployed.app / "trust-map").write_text("nonsense")
    destroyed = deployed.deploy_sh("destroy", "--quiet")
    assert destroyed.returncode == 0, destroyed.stderr
    changes = [" ".join(c) for c in deployed.changes()]
    for name in NAMES:
        assert any(f"run services delete {name} " in c for c in changes)
        assert any(f"service-accounts delete {name}-sa@" in c for c in changes)
    assert any("delete builder-sa@" in c for c in changes)
    assert any("remove-iam-policy-binding" in c and "datastore.user" in c for c in changes)
    assert "Kept: the database" in destroyed.stdout and deployed.databases()


def test_secrets_that_cannot_be_listed_are_said_and_do_not_stop_a_destroy(cloud):
    (cloud.app / "functions" / "front" / "flags").write_text("--set-secrets=KEY=k:latest\n")
    cloud.enable("secretmanager")
    cloud.deploy_sh()
    denied = "ERROR: (gcloud.secrets.list) PERMISSION_DENIED: Permission 'secretmanager.secrets.list' denied\n"
    cloud.answer("secrets list", stderr=denied, status=1)
    destroyed = cloud.deploy_sh("destroy", "--quiet")
    assert destroyed.returncode == 0 and "ERROR" not in destroyed.stderr
    assert "The secrets of project p-1 cannot be listed" in destroyed.stderr
    cloud.forget()
    shutil.rmtree(cloud.folder / "accounts", ignore_errors=True)
    cloud.deploy_sh("destroy", "--quiet")
    assert not any(c[1] == "secrets" for c in cloud.commands())  # no service account is left that a policy could name


def test_destroy_removes_nothing_of_others(deployed):
    """Neither what strangers made, nor what a copy with a prefix made."""
    deployed.write("services/stranger", service("stranger", "us-east1", "somebody"))
    team = service("team-front", "us-east1", "team-function-trust-map")
    deployed.write("services/team-front", team)
    for name, description in (("closed2-sa", "mine"), ("team-front-sa", "team-function-trust-map 1")):
        email = f"{name}@p-1.iam.gserviceaccount.com"
        deployed.write(f"accounts/{email}", {"email": email, "description": description})
    assert deployed.deploy_sh("destroy", "--quiet").returncode == 0
    changes = [" ".join(command) for command in deployed.changes()]
    assert any("run services delete front " in change for change in changes)
    for foreign in ("stranger", "team-", "closed2"):
        assert not any(foreign in change for change in changes), changes


def test_what_another_region_uses_is_kept(deployed):
    elsewhere = deployed.read("services/front")
    elsewhere["metadata"]["labels"]["cloud.googleapis.com/location"] = "europe-west1"
    deployed.write("services/elsewhere", elsewhere)
    destroyed = deployed.deploy_sh("destroy", "--quiet", "--delete-data")
    assert "The functions in europe-west1 use them, too" in destroyed.stdout
    assert {c[2] for c in deployed.changes()} == {"services"}


def test_a_function_that_left_the_map_is_named_and_removed_by_its_name(deployed):
    map_file = deployed.app / "trust-map"
    map_file.write_text(re.sub("closed.*\n", "", map_file.read_text()))
    shutil.rmtree(deployed.app / "functions" / "closed")
    for verb in ("deploy", "verify"):
        said = deployed.deploy_sh(verb)
        again = "./deploy.sh destroy closed --project=p-1 --region=us-east1 --app="
        assert again + shlex.quote(str(deployed.app)) in said.stdout + said.stderr
    assert not any("delete" in c for c in deployed.changes())
    deployed.forget()
    removed = deployed.deploy_sh("destroy", "closed", "--quiet")
    assert removed.returncode == 0, removed.stderr
    assert [c[1:4] for c in deployed.changes()] == [
        ["run", "services", "delete"],
        ["iam", "service-accounts", "delete"],
    ]
    assert deployed.deploy_sh("destroy", "nothing", "--quiet").returncode == 1


def test_a_database_that_cannot_be_deleted_is_no_success(deployed):
    denied = "ERROR: (gcloud.firestore) PERMISSION_DENIED: Missing permission 'datastore.databases.delete'\n"
    deployed.answer("firestore databases delete", stderr=denied, status=1)
    failed = deployed.deploy_sh("destroy", "--quiet", "--delete-data")
    assert failed.returncode == 1
    assert "You lack the permission datastore.databases.delete" in failed.stderr
    assert "roles/datastore.owner" in failed.stderr


@pytest.mark.parametrize("verb", ["deploy", "destroy"])
def test_a_prefix_keeps_two_copies_in_one_project_apart(cloud, verb):
    cloud.env["PREFIX"] = "team-"
    changes = re.sub(
        r"--function=\w+|\.build/[\w-]+|#.*",
        "",
        cloud.deploy_sh(verb, "--dry-run", "--delete-data").stdout,
    )
    assert "team-front" in changes and "team-builder" in changes
    assert not re.search(r"(?<!team-)\b(front|back|closed|builder|data)-", changes)
    assert "=function-trust-map" not in changes


# ---- who could call a function

ABOVE = [
    {
        "id": "p-1",
        "type": "project",
        "policy": policy(
            ("user:dev@example.com", "roles/owner"),
            ("user:eve@example.com", "projects/p-1/roles/opener"),
        ),
    },
    {
        "id": "9",
        "type": "organization",
        "policy": policy(("group:ops@example.com", "organizations/9/roles/hidden")),
    },
]


@pytest.fixture
def granted(deployed):
    """A deployed project in which others have roles, including custom roles of the project and of the organisation."""
    deployed.answer("get-ancestors-iam-policy", ABOVE)
    owner = {"includedPermissions": ["run.routes.invoke", "run.services.update"]}
    deployed.answer("roles describe roles/owner", owner)
    opener = {"includedPermissions": ["run.routes.invoke"]}
    deployed.answer("roles describe opener --project=p-1", opener)
    denied = "ERROR: (gcloud.iam.roles.describe) PERMISSION_DENIED: You don't have permission\n"
    deployed.answer("roles describe hidden --organization=9", stderr=denied, status=1)
    return deployed


def test_roles_are_looked_into_wherever_they_are_kept(granted):
    said = granted.deploy_sh("who", "closed")
    assert said.returncode == 0, said.stderr
    assert [line.strip() for line in said.stdout.splitlines()][:4] == [
        "closed can be reached by",
        "user:dev@example.com",
        "may call closed (roles/owner on project p-1)",
        "this is your own roles/owner: taking it away would lock you out",
    ]
    eves = "projects remove-iam-policy-binding p-1 --member=user:eve@example.com --role=projects/p-1/roles/opener"
    assert f"      this ends it: gcloud {eves}\n" in said.stdout
    assert "may call closed (projects/p-1/roles/opener on project p-1)" in said.stdout
    assert "may call closed (organizations/9/roles/hidden on organization 9)" in said.stdout
    assert "Not known: what organizations/9/roles/hidden allows" in said.stdout
    assert granted.changes() == []
    cut = [line for line in granted.deploy_sh("who", "closed", "--cut").stdout.splitlines() if line[0] != "#"]
    assert len(cut) == 2 and f"gcloud {eves}" in cut
    lines = {shlex.join(c) for c in granted.commands()} | set(cut)
    assert unknown_to_gcloud(lines, granted.folder) == []


def test_verify_lists_the_same(granted):
    said = granted.deploy_sh("verify").stdout
    assert "  user:eve@example.com  projects/p-1/roles/opener (project p-1)" in said
    assert "organizations/9/roles/hidden, which cannot be looked into (organization 9)" in said


AGENT = "serviceAccount:service-{}@gcp-sa-pubsub.iam.gserviceaccount.com"


def test_a_stranger_who_is_named_like_an_agent_of_google_s_is_named(deployed):
    agent, stranger = AGENT.format("123456789012"), AGENT.format("9")
    deployed.grant((agent, "roles/opener"), (stranger, "roles/opener"))
    opener = {"includedPermissions": ["run.routes.invoke"]}
    deployed.answer("roles describe roles/opener", opener)
    verified = deployed.deploy_sh("verify").stdout
    assert "\n  Google's own service agents  roles/opener (project p-1)\n" in verified
    assert f"\n  {stranger}  roles/opener (project p-1)\n" in verified and agent not in verified
    said = deployed.deploy_sh("who", "closed").stdout
    assert f"\n  {stranger}\n" in said and f"--member={stranger} --role=roles/opener --condition=None\n" in said
    assert f"Google's own service agents of this project (1), for instance {agent}" in said


JOB = {
    "metadata": {"name": "nightly", "labels": {"cloud.googleapis.com/location": "us-east1"}},
    "spec": {"template": {"spec": {"template": {"spec": {"serviceAccountName": "front-sa@p-1.iam.gserviceaccount.com"}}}}},
}


def test_the_jobs_of_the_project_are_read(deployed):
    deployed.answer("run jobs list", [JOB])
    deployed.answer("roles describe roles/run.invoker", {"includedPermissions": ["run.routes.invoke"]})
    deployed.answer("run jobs get-iam-policy nightly", policy(("user:eve@example.com", "roles/runner")))
    deployed.answer("roles describe roles/runner", {"includedPermissions": ["run.jobs.runWithOverrides"]})
    said = deployed.deploy_sh("who", "back").stdout
    assert "could run the job nightly, which runs as front-sa@p-1.iam" in said
    command = "gcloud run jobs remove-iam-policy-binding nightly --region=us-east1 --project=p-1"
    assert f"this ends it: {command} --member=user:eve@example.com --role=roles/runner\n" in said
    lines = {shlex.join(c) for c in deployed.commands()} | {f"{command} --member=user:eve@example.com --role=roles/x"}
    assert unknown_to_gcloud(lines, deployed.folder) == []
    deployed.answer("run jobs list", stderr="ERROR: PERMISSION_DENIED: no\n", status=1)
    assert "Not known: the jobs of project p-1\n" in deployed.deploy_sh("who", "back").stdout


@pytest.mark.parametrize("words", [["who", "back"], ["who", "back", "--cut"], ["who", "back", "--format=json"]])
@pytest.mark.parametrize("hidden", ["projects get-", "services get-iam-policy back"])
def test_where_a_policy_that_decides_cannot_be_read_that_is_said_first(deployed, words, hidden):
    assert deployed.deploy_sh(*words).returncode == 0
    deployed.answer(hidden, stderr="ERROR: PERMISSION_DENIED: no\n", status=1)
    said = deployed.deploy_sh(*words)
    assert said.returncode == 3
    what = "the policy of function back" if "back" in hidden else "the policies of project p-1 and above it"
    if words[-1] == "--format=json":
        assert json.loads(said.stdout)["not_readable"] == [what]
    else:
        first = said.stdout.splitlines()[0].removeprefix("# ")
        assert first == f"Who can reach back is not known. You may not read {what}."


def test_what_you_may_not_read_is_not_known(granted):
    denied = {"stderr": "ERROR: PERMISSION_DENIED: no\n", "status": 1}
    granted.answer("get-iam-policy front-sa@", **denied)
    granted.answer("get-ancestors-iam-policy", **denied)
    owners = policy(
        ("user:dev@example.com", "roles/owner"), ("user:eve@example.com", "roles/owner", "day|night|")
    )
    granted.answer("projects get-iam-policy", owners)
    said = granted.deploy_sh("who", "back").stdout
    assert "user:dev@example.com" in said
    assert "user:eve@example.com\n      may call back (roles/owner on project p-1, if day|night|)\n" in said
    assert "Not known: the policies above project p-1" in said
    assert "Not known: the policy of account front-sa@p-1.iam.gserviceaccount.com" in said
    assert "They are not visible to you" in granted.deploy_sh("verify").stdout


def test_without_python_it_says_what_is_needed(cloud, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "readlink"):
        (tools / tool).symlink_to(shutil.which(tool))
    clone = tmp_path / "clone"  # it has no virtual environment yet
    clone.mkdir()
    shutil.copy(ROOT / "deploy.sh", clone)
    env = {**cloud.env, "PATH": str(tools)}
    env.pop("PYTHON", None)
    refused = run(str(clone / "deploy.sh"), "who", "front", env=env)
    assert refused.returncode == 1
    assert refused.stderr.startswith("deploy.sh: Python 3.11 or newer is needed.")


# ---- gcloud itself


def test_gcloud_s_own_linter_knows_every_command(first_deploy, deployed):
    deployed.deploy_sh("destroy", "--quiet", "--delete-data")
    commands = first_deploy.commands() + deployed.commands()
    for words in (["--public"], ["destroy", "--delete-data"]):
        commands += printed(deployed.deploy_sh("--dry-run", *words).stdout)
    # The linter takes everything after a # for a comment.
    lines = {shlex.join(c).replace("##", "@@") for c in commands }
    lines = {re.sub(r"\b(back|closed)\b", "front", line) for line in lines}  # one command of each kind
    assert len(lines) > 25
    assert unknown_to_gcloud(lines, deployed.folder) == []


def unknown_to_gcloud(lines, folder):
    """The errors that gcloud's linter finds in these commands. Skips the test if this machine has no gcloud."""
    gcloud = shutil.which("gcloud")
    if not gcloud:
        pytest.skip("left out: gcloud is not installed")
    file = folder / "commands.json"
    file.write_text(json.dumps([{"command_string": line} for line in sorted(lines)]))
    env = {**os.environ, "CLOUDSDK_CONFIG": str(folder)}
    # It runs in that folder, because it opens the files that the commands name.
    words = ("meta", "lint-gcloud-commands", f"--commands-file={file}")
    linted = run(gcloud, *words, env=env, cwd=folder)
    results = json.loads(linted.stdout)
    assert len(results) == len(lines)
    return [(r["command_string"], r["error_message"]) for r in results if not r["success"]]


def test_the_roles_of_a_deployer_cover_every_command(first_deploy, deployed):
    deployed.deploy_sh("destroy", "--quiet", "--delete-data")
    for command in first_deploy.changes() + deployed.changes():
        words = " ".join(command[1:])
        assert any(words.startswith(line.commands) for line in errors.needed()), command
