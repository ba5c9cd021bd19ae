"""The commands that deploy.sh issues on Google Cloud: what they are, and that gcloud knows them."""

import json
import os
import re
import shlex
import shutil
import stat

import pytest
from local.testing import FUNCTIONS, ROOT, copied, run

# Stands where gcloud is looked for: notes each command, and answers so that the script goes on.
RECORDER = """#!/usr/bin/env bash
line=$(printf '%q ' "$@"); echo "$line" >> "$RECORD/commands"   # at one stroke: several run at once
case "$*" in
  --version) echo 'Google Cloud SDK 528.0.0' ;;
  'auth list'* | 'config get account') echo dev@example.com ;;
  'billing projects describe'*) echo True ;;
  'projects describe'*) echo 123456789012 ;;
  'services list'*) cat "$RECORD/enabled" 2> /dev/null ;;
  'services enable'*) printf '%s\\n' "$@" > "$RECORD/enabled" ;;
  'firestore databases create'*) touch "$RECORD/database" ;;
  'firestore databases describe'*) [ -e "$RECORD/database" ] && echo FIRESTORE_NATIVE ;;
  'functions deploy'*) all=$*; label=${all##*source=}; echo "${label%% *}|ACTIVE" > "$RECORD/$3" ;;
  'functions describe'*) cat "$RECORD/$3" ;;
  'functions list'*)
    cat "$RECORD/functions" 2> /dev/null
    for name in $FUNCTIONS; do
      [ ! -e "$RECORD/$name" ] || echo "$name|function-trust-map|$(cat "$RECORD/$name")"
    done ;;
  'run services set-iam-policy'*) cp "$5" "$RECORD/$4.policy" ;;
  'run services get-iam-policy'*)
    grep -o '"[a-zA-Z][a-zA-Z]*:[^"]*"\\|"allUsers"' "$RECORD/$4.policy" 2> /dev/null |
      sed 's/"//g; s:$:|roles/run.invoker|:' ;;
  'run services list'*)
    for name in $FUNCTIONS; do [ ! -e "$RECORD/$name" ] || echo $name; done ;;
  'run services describe'*disabled*) cat "$RECORD/off" 2> /dev/null ;;
  'projects get-iam-policy'*) cat "$RECORD/granted" 2> /dev/null ;;
  'iam service-accounts list'*) cat "$RECORD/accounts" 2> /dev/null ;;
  'auth print-identity-token'*) echo "token of nobody" ;;
esac
exit 0
"""


@pytest.fixture
def cloud(tmp_path):
    """deploy.sh on a Google Cloud that only takes notes."""
    for name, text in (("gcloud", RECORDER), ("curl", "#!/bin/sh\nprintf '000 '\n")):
        script = tmp_path / name
        script.write_text(text)
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    environment = {
        **os.environ,
        "RECORD": str(tmp_path),
        "PATIENCE": "0",
        "FUNCTIONS": " ".join(FUNCTIONS),
    }
    environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"

    class Cloud:
        folder = tmp_path
        env = environment

        def deploy_sh(self, *words):
            return run(
                str(ROOT / "deploy.sh"), "--project=p-1", "--region=us-east1", *words, env=self.env
            )

        def commands(self):
            lines = (tmp_path / "commands").read_text().splitlines()
            return [["gcloud", *shlex.split(line)] for line in lines]

    return Cloud()


READING = ("list", "describe", "get-iam-policy", "get-ancestors-iam-policy", "print-identity-token")


def changing(commands):
    return [c for c in commands if not set(READING) & set(c) and "--version" not in c]


def printed(text):
    """The gcloud commands of a --dry-run, with the variables as a shell would set them."""
    lines = [line for line in text.splitlines() if line.startswith("gcloud")]
    return [shlex.split(line.replace("$PROJECT_NUMBER", "123456789012")) for line in lines]


def test_dry_run_prints_what_a_deploy_runs(cloud):
    dry = cloud.deploy_sh("--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert not (cloud.folder / "commands").exists()
    cloud.deploy_sh()

    def kinds(commands):
        words = [" ".join(w for w in c if not w.startswith("-")) for c in commands]
        # IAM refuses "login" as an id, which is tried first. search's policy is empty as it is.
        return sorted(
            w for w in words if "create login" not in w and "set-iam-policy search" not in w
        )

    assert kinds(changing(cloud.commands())) == kinds(printed(dry.stdout))
    assert "enable run.googleapis.com" in dry.stdout


def test_dry_run_needs_no_gcloud(cloud):
    (cloud.folder / "gcloud").write_text("#!/bin/sh\necho called >&2\nexit 1\n")
    for verb in ("deploy", "destroy"):
        dry = cloud.deploy_sh("--dry-run", verb)
        assert (dry.returncode, dry.stderr) == (0, "")


def test_a_second_deploy_changes_nothing(cloud):
    cloud.deploy_sh()
    made = "function-trust-map"
    names = (*FUNCTIONS, "builder")
    emails = [f"{n}@p-1.iam.gserviceaccount.com" for n in names]
    (cloud.folder / "accounts").write_text("\n".join(f"{e}|{made}" for e in emails))
    roles = "logging.logWriter artifactregistry.writer storage.objectViewer".split()
    granted = [f"serviceAccount:{emails[-1]}|roles/{role}|" for role in roles]
    data = emails[names.index("user-profiles")]
    granted.append(f"serviceAccount:{data}|roles/datastore.user|profiles")
    (cloud.folder / "granted").write_text("\n".join(granted))
    (cloud.folder / "commands").unlink()
    cloud.deploy_sh()
    assert changing(cloud.commands()) == []


def test_each_function_has_its_own_account_and_only_user_profiles_a_role(cloud):
    cloud.deploy_sh()
    commands = changing(cloud.commands())
    deployed = {c[3]: c for c in commands if c[1:3] == ["functions", "deploy"]}
    accounts = {
        name: next(w for w in c if w.startswith("--service-account="))
        for name, c in deployed.items()
    }
    assert len(set(accounts.values())) == len(FUNCTIONS)
    for command in deployed.values():
        assert "--no-allow-unauthenticated" in command
        assert any(word.startswith("--max-instances=") for word in command)
    granted = [c for c in commands if "add-iam-policy-binding" in c]
    roles = {(c[4].partition(":")[2].partition("@")[0], c[5]) for c in granted}
    assert {who for who, role in roles} == {"builder", "user-profiles"}
    [data] = [c for c in granted if "--role=roles/datastore.user" in c]
    assert (
        "--condition=title=profiles,expression=resource.name == 'projects/p-1/databases/profiles'"
        in data
    )


def test_a_check_that_is_switched_off_is_switched_on(cloud):
    cloud.deploy_sh()
    (cloud.folder / "off").write_text("true")
    deployed = cloud.deploy_sh()
    updates = [c for c in cloud.commands() if c[1:4] == ["run", "services", "update"]]
    assert {c[4] for c in updates} == set(FUNCTIONS)
    assert all("--invoker-iam-check" in c for c in updates)
    assert "the invoker check is switched off" in deployed.stdout  # for the recorder keeps it so
    assert deployed.returncode == 1


def test_dry_run_prints_commands_as_they_can_be_run(cloud):
    script = cloud.deploy_sh("--dry-run").stdout
    ran = run("bash", "-e", "-c", script, env={**os.environ, **cloud.env})
    assert ran.returncode == 0, ran.stderr
    flags = {word for c in cloud.commands() for word in c}
    assert any("https://login-123456789012.us-east1.run.app" in flag for flag in flags)
    policy = json.loads((cloud.folder / "login.policy").read_text())
    assert policy["bindings"][0]["members"] == ["user:dev@example.com"]


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("functions", "search|somebody||ACTIVE", "function or service search"),
        ("accounts", "builder@p-1.iam.gserviceaccount.com|mine", "service account builder"),
    ],
)
def test_what_is_not_ours_is_never_overwritten(cloud, file, content, message):
    (cloud.folder / "enabled").write_text("cloudfunctions.googleapis.com\niam.googleapis.com\n")
    (cloud.folder / file).write_text(content)
    refused = cloud.deploy_sh()
    assert refused.returncode == 1
    assert f"project p-1 has a {message} that this script did not make" in refused.stderr
    assert changing(cloud.commands()) == []


@pytest.mark.parametrize(
    "pattern, instead, message",
    [
        ("'auth list'*", "", "nobody is logged in: run gcloud auth login"),
        ("--version", "echo Google Cloud SDK 400.0.0", "gcloud 400 is too old, 492 is needed"),
        ("'billing projects describe'*", "echo", "project p-1 has no billing account"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_made(cloud, pattern, instead, message):
    recorder = cloud.folder / "gcloud"
    branch = f'case "$*" in\n  {pattern}) {instead} ;;\n'
    recorder.write_text(RECORDER.replace('case "$*" in\n', branch))
    refused = cloud.deploy_sh()
    assert refused.returncode == 1
    assert f"deploy.sh: {message}" in refused.stderr
    assert changing(cloud.commands()) == []


def test_env_tells_the_shell_and_gcloud_where_it_was_deployed(cloud):
    cloud.deploy_sh()
    exported = cloud.deploy_sh("env").stdout.splitlines()
    assert "export SEARCH_URL='https://search-123456789012.us-east1.run.app'" in exported
    assert "export PROJECT_ID='p-1'" in exported and "export REGION='us-east1'" in exported
    assert "export CLOUDSDK_CORE_PROJECT='p-1'" in exported


def test_destroy_asks_first(cloud):
    refused = cloud.deploy_sh("destroy")
    assert refused.returncode == 1
    assert "Go on? (y/N)" in refused.stdout
    assert "nothing was removed" in refused.stderr
    assert changing(cloud.commands()) == []


def test_where_the_organisation_forbids_it_nothing_loops(cloud, tmp_path):
    script = copied(tmp_path / "clone") / "deploy.sh"
    script.write_text(script.read_text().replace("search         -  ", "search    anonymous  "))
    refusal = "{ echo do not belong to a permitted customer >&2; exit 1; }"
    strict = f"""'run services set-iam-policy'*) if grep -q allUsers "$5"; then {refusal}; fi;"""
    recorder = cloud.folder / "gcloud"
    recorder.write_text(RECORDER.replace("'run services set-iam-policy'*)", strict))
    deployed = run(str(script), "--project=p-1", "--region=us-east1", env=cloud.env)
    assert deployed.returncode == 1
    assert "search stays private: your organisation forbids allUsers" in deployed.stderr


def test_destroy_removes_nothing_of_others(cloud):
    """Neither a stranger's, nor what a copy of this with a prefix has made."""
    cloud.deploy_sh()
    (cloud.folder / "commands").unlink()
    others = ("function-of-a-stranger", "team-login|team-function-trust-map||ACTIVE")
    (cloud.folder / "functions").write_text("\n".join([*others, ""]))
    emails = {name: f"{name}@p-1.iam.gserviceaccount.com" for name in ("search", "team-login")}
    (cloud.folder / "accounts").write_text(
        f"{emails['search']}|mine\n{emails['team-login']}|team-function-trust-map\n"
    )
    granted = [f"serviceAccount:{email}|roles/editor|" for email in emails.values()]
    (cloud.folder / "granted").write_text("\n".join(granted))
    assert cloud.deploy_sh("destroy", "--quiet").returncode == 0
    changes = [" ".join(command) for command in changing(cloud.commands())]
    assert any("functions delete login" in change for change in changes)
    for foreign in ("stranger", "team-", emails["search"]):
        assert not any(foreign in change for change in changes), changes


def test_gcloud_s_own_linter_knows_every_command(cloud, project):
    (cloud.folder / "off").write_text("true")
    cloud.deploy_sh()
    cloud.deploy_sh("destroy", "--quiet", "--delete-data")
    commands = cloud.commands()
    for words in (["--public"], ["destroy", "--delete-data"], []):
        commands += printed(cloud.deploy_sh("--dry-run", *words).stdout)
    # What deploy.sh says to the local target is what it says to the cloud, but for other values.
    audit = (project.state / "audit.log").read_text().splitlines()
    commands += [c for c in map(shlex.split, audit) if "made-by" in " ".join(c) or "--region" in c]
    # The linter takes what follows a # for a comment; and --version is no command.
    lines = {shlex.join(c).replace("##", "@@") for c in commands if "--version" not in c}
    # What is said of each function is linted once.
    lines = {re.sub(r"\b(user-profiles|search)\b", "login", line) for line in lines}
    assert len(lines) > 30
    assert unknown_to_gcloud(lines, cloud.folder) == []


def unknown_to_gcloud(lines, folder):
    """What the linter of this machine's gcloud, if it has one, says against these commands."""
    gcloud = shutil.which("gcloud")
    if not gcloud:
        pytest.skip("left out: gcloud is not installed")
    file = folder / "commands.json"
    file.write_text(json.dumps([{"command_string": line} for line in sorted(lines)]))
    env = {**os.environ, "CLOUDSDK_CONFIG": str(folder)}
    # In that folder, for it opens the files that the commands name.
    words = ("meta", "lint-gcloud-commands", f"--commands-file={file}")
    linted = run(gcloud, *words, env=env, cwd=folder)
    results = json.loads(linted.stdout)
    assert len(results) == len(lines)
    return [r for r in results if not r["success"]]
