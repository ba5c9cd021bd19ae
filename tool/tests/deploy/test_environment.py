"""environments/NAME: what differs, what is missing, and where to write it."""

import json
import os
import re
import shlex
import shutil

import pytest

from local_toy import Local
from recorded_cloud import binding
from test_deploy_commands import value
from tool.deploy import environment
from tool.testing import ROOT, run, succeeded

READS = "roles/secretmanager.secretAccessor"


def write(cloud, path, text):
    (cloud.app / path).parent.mkdir(parents=True, exist_ok=True)
    (cloud.app / path).write_text(text)


def deploys(cloud):
    return {c[3]: c for c in cloud.changes() if c[1:3] == ["run", "deploy"]}


# ---- the file


@pytest.mark.parametrize(
    "text, values",
    [
        ("A=1\n# B=2\n\n C=x=y \n", {"A": "1", "C": "x=y"}),
        ("export A=1\r\nB=\r\n", {"A": "1", "B": ""}),
        ("A=5 $ and # no comment\n", {"A": "5 $ and # no comment"}),
        ("A=one\u2028two\x0cthree\n", {"A": "one\u2028two\x0cthree"}),
    ],
)
def test_a_line_is_a_name_and_a_value(text, values):
    assert environment.parsed(text) == (values, {}, [])


@pytest.mark.parametrize(
    "line, problem",
    [
        ("A", "it is not NAME=value"),
        ("1A=x", "it is not NAME=value"),
        ("A = x", "it is not NAME=value"),
        ('A="x"', "A: quotes would be a part of the value; leave them out"),
        ("secret a b=x", "it is not NAME=value"),
    ],
)
def test_a_wrong_line_is_named_and_its_value_is_not_repeated(line, problem):
    assert environment.parsed(f"\n{line}\n")[2] == [(2, problem)]


def test_a_value_may_be_a_dollar_and_names_stand_anywhere():
    here = environment.Environment("x", {"A": "1", "B": "$A"}, {}, {"A": "shell", "C": "3"})
    assert here.expanded("$A-${B}-$C-$$A") == ("1-$A-3-$A", ())
    assert here.expanded("$D $PROJECT", left=("PROJECT",)) == ("$D $PROJECT", ("D",))


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("stagin", None, "there is no environments/stagin; did you mean staging?"),
        ("broken", b"\xff\xfeA\x00", "environments/broken cannot be read as text in UTF-8"),
        ("wrong", b"A=1\nB\n", "environments/wrong: line 2: it is not NAME=value"),
        ("n" * 300, None, "there is no environments/nnn"),
        ("secret", b"secret k=v\n", "environments/secret: a line secret NAME=value is for --local only"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(cloud, name, content, said):
    write(cloud, "environments/staging", "")
    if content:
        (cloud.app / "environments" / name).write_bytes(content)
    refused = cloud.deploy_sh(f"--environment={name}")
    assert refused.returncode == 1 and cloud.commands() == []
    assert said in refused.stderr


@pytest.mark.parametrize("make", [lambda file: file.write_bytes(b"\xff\xfeA\x00"), os.mkfifo, lambda file: file.symlink_to("nowhere")])
@pytest.mark.parametrize("file", ["flags", "variables"])
def test_a_file_of_a_function_that_is_no_text_is_named(cloud, file, make):
    (cloud.app / "functions/front" / file).unlink(missing_ok=True)
    make(cloud.app / "functions/front" / file)
    refused = cloud.deploy_sh()
    assert refused.returncode == 1 and cloud.commands() == []
    assert refused.stderr.endswith(f"functions/front/{file}: it cannot be read as text in UTF-8\n")


def test_windows_writes_a_mark_first_and_that_is_no_part_of_a_name(cloud):
    write(cloud, "functions/front/variables", "GREETING=$A\n")
    (cloud.app / "environments").mkdir()
    (cloud.app / "environments/x").write_bytes("\ufeffA=1\r\nB=2\r\n".encode())
    succeeded(cloud.deploy_sh("--environment=x"))
    assert "GREETING=1" in value(deploys(cloud)["front"], "--set-env-vars")


@pytest.mark.parametrize("make", [lambda file: file.mkdir(), lambda file: file.symlink_to("nowhere"), os.mkfifo])
def test_an_environment_for_this_machine_that_cannot_be_read_is_not_left_out(toy, make):
    (toy / "environments").mkdir()
    make(toy / "environments/local")
    refused = Local(toy).deploy_sh()
    assert refused.returncode == 1
    assert "environments/local cannot be read as text in UTF-8" in refused.stderr


# ---- what it means


def test_a_name_means_the_same_in_map_flags_and_variables(cloud):
    text = (cloud.app / "trust-map").read_text()
    write(cloud, "trust-map", text.replace("closed   -  ", "closed   $OPS"))
    write(cloud, "functions/front/flags", "--memory=$MEMORY\n--set-secrets=KEY=$KEY:latest\n")
    write(cloud, "functions/front/variables", "GREETING=hello $WHO, it costs $$5\n")
    write(cloud, "environments/staging", "OPS=group:a@example.com,group:b@example.com\nMEMORY=1Gi\nKEY=staging-key\n")
    cloud.env |= {"WHO": "you", "MEMORY": "2Gi"}
    cloud.enable("secretmanager")
    succeeded(cloud.deploy_sh("--environment=staging"))
    front = deploys(cloud)["front"]
    assert value(front, "--memory") == "1Gi"  # the file wins over the shell
    assert value(front, "--set-secrets") == "KEY=staging-key:latest"
    assert "GREETING=hello you, it costs $5" in value(front, "--set-env-vars")
    assert cloud.members("closed") == {"group:a@example.com", "group:b@example.com"}
    assert cloud.read("secrets/staging-key")["bindings"] == [
        binding("serviceAccount:front-sa@p-1.iam.gserviceaccount.com", READS)
    ]


def test_a_value_of_several_lines_reaches_the_function_whole(cloud):
    key = "-----BEGIN PUBLIC KEY-----\nMII##,=x\n-----END PUBLIC KEY-----\n"
    write(cloud, "functions/front/variables", "KEY=$KEY\n")
    cloud.env["KEY"] = key
    succeeded(cloud.deploy_sh())
    given = value(deploys(cloud)["front"], "--set-env-vars")
    separator = given[1:3]
    assert f"KEY={key}" in given[4:].split(separator)


@pytest.mark.parametrize(
    "options, shell, expected",
    [
        ([], {}, ("file-", "p-file", "europe-west1")),
        ([], {"PREFIX": "shell-", "PROJECT": "p-shell", "REGION": "us-west1"}, ("shell-", "p-shell", "us-west1")),
        (["--project=p-1", "--region=us-east1"], {"PROJECT": "p-shell", "REGION": "us-west1"}, ("file-", "p-1", "us-east1")),
    ],
)
def test_an_option_wins_then_the_shell_then_the_file(cloud, options, shell, expected):
    write(cloud, "environments/e", "PREFIX=file-\nPROJECT=p-file\nREGION=europe-west1\n")
    command = [str(ROOT / "deploy.sh"), f"--app={cloud.app}", "--environment=e", "--dry-run", *options]
    dry = succeeded(run(*command, env={**cloud.env, **shell})).stdout
    prefix, project, region = expected
    assert f"gcloud run deploy {prefix}front --project={project} --region={region}" in dry


def test_a_shell_of_one_environment_deploys_another_to_the_region_that_its_file_says(deployed):
    write(deployed, "environments/production", "REGION=europe-west1\n")
    words = f"--app={shlex.quote(str(deployed.app))} --project=p-1"
    enter = f'cd {shlex.quote(str(ROOT))}; eval "$(./deploy.sh env {words} --region=us-east1)"'
    deploy = f"./deploy.sh {words} --environment=production --dry-run"
    for typed, region in (("", "europe-west1"), ("REGION=us-west1", "us-west1")):
        dry = succeeded(run("bash", "-c", f"{enter}; {typed} {deploy}", env=deployed.env)).stdout
        assert f"gcloud run deploy front --project=p-1 --region={region}" in dry


def test_commands_that_are_printed_name_the_environment(cloud):
    write(cloud, "environments/staging", "PREFIX=staging-\n")
    said = succeeded(cloud.deploy_sh("--environment=staging")).stdout
    assert re.search(r'eval "\$\(\./deploy\.sh env .*--environment=staging\)"', said)


def test_a_diff_compares_what_is_opened_there(cloud):
    write(cloud, "trust-map", (cloud.app / "trust-map").read_text().replace("closed   -  ", "closed   $OPS"))
    write(cloud, "environments/production", "OPS=group:ops@example.com\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "before"]):
        succeeded(run("git", *identity, *words, cwd=cloud.app))
    command = [str(ROOT / "deploy.sh"), f"--app={cloud.app}", "diff", "HEAD", "--environment=production"]
    succeeded(run(*command))
    write(cloud, "environments/production", "OPS=group:ops@example.com,group:all@example.com\n")
    said = run(*command)
    assert (said.returncode, said.stdout) == (1, "opened: group:all@example.com may call closed\n")


# ---- what is missing


@pytest.fixture
def demanding(cloud):
    """An app that needs a variable, a secret, a service account and a role."""
    text = (cloud.app / "trust-map").read_text()
    nightly = "serviceAccount:nightly@$PROJECT.iam.gserviceaccount.com"
    text = text.replace("closed   -        -", f"closed   {nightly}  roles/pubsub.publishr")
    write(cloud, "trust-map", text)
    write(cloud, "functions/front/variables", "PAYMENTS_URL=$PAY\n")
    write(cloud, "functions/front/flags", "--set-secrets=KEY=payments-key:latest\n")
    cloud.enable("run", "iam", "secretmanager")
    cloud.answer("run regions list", [{"locationId": "us-east1"}, {"locationId": "us-east4"}])
    return cloud


NOT_FOUND = {"stderr": "ERROR: (gcloud) NOT_FOUND: it was not found.\n", "status": 1}
MISSING = {
    "flag": "functions/back/flags: --memory=9Zi is not a size",
    "variable": "functions/front/variables: PAYMENTS_URL=$PAY, but PAY is not set in this shell",
    "secret": "the secret payments-key has no enabled version. Make it: printf VALUE | gcloud secrets create payments-key --data-file=- --project=p-1",
    "version": "the secret payments-key has no enabled version. Make it: printf VALUE | gcloud secrets versions add payments-key --data-file=- --project=p-1",
    "account": "trust-map names the service account nightly@p-1.iam.gserviceaccount.com, which does not exist. Make it: gcloud iam service-accounts create nightly --project=p-1",
    "role": "trust-map names the role roles/pubsub.publishr, which does not exist",
    "role on a project": "trust-map names the role roles/pubsub.publishr, which cannot be granted on a project",
    "billing": "project p-1 has no billing account",
    "region": "Cloud Run has no region us-east1; did you mean us-east4?",
}


def lacks(cloud, kinds):
    """Supplies everything except these."""
    if "flag" in kinds:
        write(cloud, "functions/back/flags", "--memory=9Zi\n")
    if "variable" not in kinds:
        cloud.env["PAY"] = "https://payments.example"
    cloud.answer("secrets versions list payments-key", [{"name": "1"}])
    if "secret" in kinds:
        cloud.answer("secrets versions list payments-key", **NOT_FOUND)
    if "version" in kinds:
        cloud.answer("secrets versions list payments-key", [])
    if "account" not in kinds:
        email = "nightly@p-1.iam.gserviceaccount.com"
        cloud.write(f"accounts/{email}", {"email": email})
    if "role" in kinds:
        cloud.answer("iam roles describe roles/pubsub.publishr", **NOT_FOUND)
    if "role on a project" in kinds:
        cloud.answer("iam list-grantable-roles", [])
    if "billing" in kinds:
        cloud.answer("billing projects describe", {})
    if "region" in kinds:
        cloud.answer("run regions list", [{"locationId": "us-east4"}])


@pytest.mark.parametrize("kind", MISSING)
def test_what_is_missing_is_named_with_what_supplies_it(demanding, kind):
    lacks(demanding, [kind])
    refused = demanding.deploy_sh()
    assert refused.returncode == 1 and demanding.changes() == []
    assert [m for m in MISSING.values() if m in refused.stderr] == [MISSING[kind]]


def test_all_that_is_missing_is_named_at_once(demanding):
    kinds = [kind for kind in MISSING if kind not in ("version", "role on a project")]
    lacks(demanding, kinds)
    refused = demanding.deploy_sh()
    assert refused.returncode == 1 and demanding.changes() == []
    for kind in kinds:
        assert MISSING[kind] in refused.stderr


@pytest.mark.parametrize("options", [["--local"], ["--project=p-1"]])
def test_a_service_account_that_nobody_can_make_is_named(cloud, options):
    text = (cloud.app / "trust-map").read_text()
    email = "serviceAccount:clock@$PROJECT.iam.gserviceaccount.com"
    write(cloud, "trust-map", text.replace("closed   -  ", f"closed   {email}  "))
    try:
        refused = run(str(ROOT / "deploy.sh"), f"--app={cloud.app}", *options, env=cloud.env)
    finally:
        Local(cloud.app).end()
    assert refused.returncode == 1 and cloud.changes() == []
    assert "which nobody can make: its name needs 6 to 30" in refused.stderr


def test_in_a_new_project_a_region_that_does_not_exist_is_named_before_anything_is_in_it(cloud):
    cloud.answer("run regions list", [{"locationId": "us-east4"}])
    refused = cloud.deploy_sh()
    assert refused.returncode == 1 and refused.stderr.endswith(f"{MISSING['region']}\n")
    assert [" ".join(change[1:3]) for change in cloud.changes()] == ["services enable"]


def test_in_a_new_project_the_commands_enable_the_api_that_they_need(demanding):
    lacks(demanding, ["secret", "account"])
    demanding.write("enabled", [])
    said = demanding.deploy_sh().stderr
    for api, kind in (("secretmanager", "secret"), ("iam", "account")):
        command = MISSING[kind].partition("Make it: ")[2]
        enables = f"gcloud services enable {api}.googleapis.com --project=p-1"
        assert f"Make it: {enables} && {command}\n" in said


def test_names_without_a_value_are_named_together_wherever_they_stand(cloud):
    text = (cloud.app / "trust-map").read_text()
    clock = "serviceAccount:$CLOCK@$PROJECT.iam.gserviceaccount.com"
    write(cloud, "trust-map", text.replace("closed   -        -", f"closed   {clock}  roles/$ROLE"))
    write(cloud, "functions/front/variables", "PAYMENTS_URL=$PAY\n")
    write(cloud, "functions/front/flags", "--set-secrets=KEY=$KEY:latest,B=payments-key:latest\n")
    cloud.enable("secretmanager")
    cloud.answer("secrets versions list payments-key", **NOT_FOUND)
    write(cloud, "environments/e", "")
    refused = cloud.deploy_sh("--environment=e")
    assert refused.returncode == 1 and cloud.changes() == []
    named = re.findall(r"(\w+) is not set in this shell, nor in environments/e\.", refused.stderr)
    assert named == ["CLOCK", "ROLE", "KEY", "PAY"]
    # Nobody is told to make something with a $ in its name.
    assert re.findall(r"Make it: (.*)", refused.stderr) == [MISSING["secret"].partition("Make it: ")[2]]
    unknown = cloud.deploy_sh("verify", "--environment=e")
    assert unknown.returncode == 1 and "column 2, $CLOCK: CLOCK is not set" in unknown.stderr


def test_where_nothing_is_missing_it_is_deployed_and_asked_again_for_little(demanding):
    lacks(demanding, [])
    succeeded(demanding.deploy_sh())
    demanding.forget()
    succeeded(demanding.deploy_sh())
    asked = [" ".join(c[1:4]) for c in demanding.commands()]
    assert asked.count("secrets versions list") == 1
    assert not any("regions" in a or "roles/pubsub" in a or "billing" in a for a in asked)


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "Write it into .secrets/a-key, or as a line secret a-key=VALUE into environments/local\n"),
        (["--environment=dev"], "Write it into .secrets/a-key\n"),  # then environments/local is not read
    ],
)
def test_a_secret_of_this_machine_is_written_where_it_is_read(toy, words, said):
    (toy / "functions/front/flags").write_text("--set-secrets=KEY=a-key:latest\n")
    (toy / "environments").mkdir()
    (toy / "environments/dev").write_text("PREFIX=dev-\n")
    local = Local(toy)
    try:
        refused = local.deploy_sh(*words)
        assert not local.state.exists()  # everything that it started was ended
    finally:
        local.end()
    assert refused.returncode == 1 and refused.stderr.endswith(f"no value on this machine. {said}")


def test_what_runs_goes_on_when_a_later_deploy_lacks_something(toy):
    local = Local(toy)
    try:
        succeeded(local.deploy_sh())
        (toy / "functions/front/flags").write_text("--set-secrets=KEY=a-key:latest\n")
        assert "nothing was changed" in local.deploy_sh().stderr
        (toy / "functions/front/flags").unlink()
        succeeded(local.deploy_sh("verify"))
    finally:
        local.end()


def test_a_function_does_not_run_in_the_terminal_without_its_variable(toy):
    (toy / "functions/front/variables").write_text("GREETING=$GREETING\n")
    local = Local(toy)
    try:
        local.env["GREETING"] = "hello"
        succeeded(local.deploy_sh())
        del local.env["GREETING"]
        refused = local.deploy_sh("run", "front")
        shown = local.gcloud("run services describe front --region=us-central1 --format=json").stdout
    finally:
        local.end()
    assert refused.returncode == 1 and "but GREETING is not set in this shell" in refused.stderr
    assert '"hello"' in shown


def test_what_cannot_be_seen_is_not_called_missing(demanding):
    lacks(demanding, [])
    denied = {"stderr": "ERROR: (gcloud) PERMISSION_DENIED: no\n", "status": 1}
    demanding.answer("secrets versions list payments-key", **denied)
    demanding.answer("iam roles describe roles/pubsub.publishr", **denied)
    succeeded(demanding.deploy_sh())


def test_a_dry_run_lists_what_must_be_there(demanding):
    lacks(demanding, [])
    dry = succeeded(demanding.deploy_sh("--dry-run")).stdout
    listed = re.findall(r"^#   (.*)", dry.partition("# Enabling")[0], re.M)
    assert listed == [
        "the secret payments-key, with an enabled version",
        "the service account nightly@p-1.iam.gserviceaccount.com",
        "the role roles/pubsub.publishr",
    ]


@pytest.mark.parametrize(
    "flag, said",
    [
        ("--memory=9Zi", "--memory=9Zi is not a size"),
        ("--memory=64Mi", "--memory=64Mi is not a size"),
        ("--cpu=2\n--memory=128Mi", "--cpu=2 needs --memory=512Mi or more"),
        ("--cpu=4", "--cpu=4 needs --memory=2Gi or more"),
        ("--cpu=8\n--memory=2Gi", "--cpu=8 needs --memory=4Gi or more"),
        ("--memory=8Gi", "--memory=8Gi needs more CPUs than 1: with --cpu=1 it is at most 4Gi"),
        ("--cpu=0.4\n--concurrency=1\n--memory=1Gi", "--memory=1Gi needs more CPUs than 0.4"),
        ("--cpu=3", "--cpu=3 is not a number of CPUs"),
        ("--cpu=0.5", "--cpu=0.5 needs --concurrency=1"),
        ("--concurrency=1001", "--concurrency=1001 is not a number from 1 to 1000"),
        ("--timeout=2h", "--timeout=2h is not a time"),
        ("--ingress=outside", "--ingress=outside is none of all, internal"),
        ("--max-instances=0", "--max-instances=0 is not a number from 1"),
    ],
)
def test_a_value_that_cloud_run_refuses_is_named_before_anything_is_made(cloud, flag, said):
    write(cloud, "functions/front/flags", flag)
    refused = cloud.deploy_sh()
    assert refused.returncode == 1 and cloud.changes() == []
    assert f"functions/front/flags: {said}" in refused.stderr


@pytest.mark.parametrize(
    "flags", ["--memory=1G", "--memory=1.5Gi", "--memory=16Gi\n--cpu=4", "--memory=32Gi\n--cpu=8", "--cpu=500m\n--concurrency=1", "--timeout=5m", "--concurrency=default", "--min-instances=0"]
)
def test_a_value_that_cloud_run_takes_passes(cloud, flags):
    write(cloud, "functions/front/flags", flags)
    succeeded(cloud.deploy_sh("--dry-run"))


# ---- some functions only


def test_a_deploy_with_names_is_about_these_functions_only(deployed):
    for name in ("front", "back"):
        write(deployed, f"functions/{name}/variables", "A=1\n")
    said = succeeded(deployed.deploy_sh("deploy", "back"))
    assert set(deploys(deployed)) == {"back"} and "front is" not in said.stdout
    found = json.loads(succeeded(deployed.deploy_sh("verify", "--format=json")).stdout)
    assert len(found["calls"]) == 15
    assert "no function bak, but front back closed. Did you mean back?" in deployed.deploy_sh("deploy", "bak").stderr


def test_a_first_deploy_of_one_function_makes_the_accounts_that_its_policy_names(cloud):
    succeeded(cloud.deploy_sh("deploy", "back"))
    made = {file.name.partition("-sa@")[0] for file in (cloud.folder / "accounts").iterdir()}
    assert made == {"back", "front", "builder"} and set(deploys(cloud)) == {"back"}


def test_a_table_that_is_too_wide_is_a_line_for_each_function(cloud):
    with open(cloud.app / "trust-map", "a") as trust_map:
        for n in range(10, 20):
            shutil.copytree(cloud.app / "functions/closed", cloud.app / f"functions/more_{n}")
            trust_map.write(f"\nmore-{n}  -  -\n")
    succeeded(cloud.deploy_sh())
    opened = {"role": "roles/run.invoker", "members": ["allUsers"]}
    cloud.write("policies/closed", {"bindings": [opened]})
    said = cloud.deploy_sh("verify").stdout
    assert "  front     you (200 ok), of 15 callers\n" in said
    assert "  more-10   nobody, of 15 callers\n" in said
    assert "      anonymous: 200 WRONG\n" in said
    assert max(map(len, said.partition("Who may")[0].splitlines())) < 200
