"""A verb reports only what it saw: what was not measured does not count as "as the map says"."""

import json
import re
import shutil
import subprocess

import jsonschema_rs
import pytest

from recorded_cloud import NAMES
from tool.testing import ROOT, succeeded

DENIED = {"stderr": "ERROR: (gcloud) PERMISSION_DENIED: no\n", "status": 1}


def curl(cloud, answers, page="Your client does not have permission"):
    """Replaces curl: each function gives the same answer, "STATUS TYPE", to every caller."""
    cases = "\n".join(f"    url*//{name}-*) answer='{answer}' ;;" for name, answer in answers.items())
    cloud.program(
        "curl",
        f"""#!/bin/sh
while IFS='"' read -r option value _; do
  case $option$value in
{cases}
    output*) echo "{page}" > "$value"; echo "$answer" ;;
  esac
done
""",
    )


# ---- verify in its three forms


@pytest.mark.parametrize("form", ["text", "json", "mermaid"])
def test_every_form_ends_as_the_text_does(deployed, form):
    assert deployed.deploy_sh("verify", f"--format={form}").returncode == 0
    opened = {"role": "roles/run.invoker", "members": ["group:ops@example.com"]}
    deployed.write("policies/closed", {"bindings": [opened]})
    wrong = deployed.deploy_sh("verify", f"--format={form}")
    assert wrong.returncode == 1 and "see the note under closed" in wrong.stderr
    deployed.answer("run services get-iam-policy closed", **DENIED)
    unknown = deployed.deploy_sh("verify", f"--format={form}")
    assert unknown.returncode == 3 and "the policy of closed cannot be read" in unknown.stderr


def test_json_holds_all_that_the_text_says(deployed):
    deployed.grant(("user:eve@example.com", "roles/owner"))
    owner = {"includedPermissions": ["run.routes.invoke"]}
    deployed.answer("roles describe roles/owner", owner)
    opened = {"role": "roles/run.invoker", "members": ["group:ops@example.com"]}
    deployed.write("policies/closed", {"bindings": [opened]})
    found = json.loads(deployed.deploy_sh("verify", "--format=json").stdout)
    jsonschema_rs.validate(json.loads((ROOT / "docs/verify.schema.json").read_text()), found)
    assert found["verdict"] == "wrong"
    [closed] = [f for f in found["functions"] if f["function"] == "closed"]
    assert closed["policy"] == ["group:ops@example.com"]
    assert closed["problems"][0].startswith("its policy is not the one of trust-map")
    assert found["inherited"] == [{
        "member": "user:eve@example.com", "role": "roles/owner", "condition": None,
        "on": "project", "id": "p-1", "role_is_known": True,
    }]  # fmt: skip


# ---- what was not measured


def test_without_curl_nothing_is_as_the_map_says(deployed, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "sh", "dirname", "readlink", "git"):
        (tools / tool).symlink_to(shutil.which(tool))
    (deployed.folder / "curl").unlink()
    deployed.env["PATH"] = f"{deployed.folder}:{tools}"
    verified = deployed.deploy_sh("verify")
    assert verified.returncode == 3 and "curl is not installed" in verified.stderr
    assert "as the map says" not in verified.stdout


def test_where_no_answer_comes_it_is_not_known(deployed):
    curl(deployed, {"front": "000 ", "back": "403 text/html", "closed": "403 text/html"})
    verified = deployed.deploy_sh("verify")
    assert verified.returncode == 1  # back refuses front, and that is wrong
    curl(deployed, dict.fromkeys(NAMES, "000 "))
    verified = deployed.deploy_sh("verify")
    assert verified.returncode == 3
    assert re.search(r"not known: anonymous and you and .* -> front and back and closed: no answer came\n", verified.stderr)


def test_what_cannot_be_measured_behind_ingress_is_right_by_its_policy(deployed):
    (deployed.app / "functions/closed/flags").write_text("--ingress=internal\n")
    succeeded(deployed.deploy_sh())
    answers = {"front": "403 text/html", "back": "403 text/html", "closed": "404 text/html"}
    curl(deployed, answers, page="The requested URL was not found on this server.")
    deployed.env["PATIENCE"] = "1"
    verified = deployed.deploy_sh("verify", "--format=json")
    assert "waiting for front" in verified.stderr and "waiting for closed" not in verified.stderr
    calls = [c for c in json.loads(verified.stdout)["calls"] if c["function"] == "closed"]
    assert {call["how"] for call in calls} == {"behind ingress"} and len(calls) == 5
    assert {call["verdict"] for call in calls} == {"ok"}


def test_the_last_sentence_names_what_is_right_by_policy_alone(deployed):
    deployed.answer("--impersonate-service-account=back-sa@", **DENIED)
    said = succeeded(deployed.deploy_sh("verify")).stdout
    assert said.endswith(
        "Every call that could be made was answered as the map says. Not measured, right by"
        " policy: back -> front and back and closed.\n"
    )


def test_a_call_that_never_comes_is_waited_for_once(deployed):
    """All cells wait at the same time. Otherwise it would take fifteen times as long."""
    curl(deployed, dict.fromkeys(NAMES, "000 "))
    deployed.env["PATIENCE"] = "2"
    said = deployed.deploy_sh("verify").stderr
    waited = [line for line in said.splitlines() if "waiting for" in line]
    assert len(waited) == len(set(waited)) == 15  # each waits once, and all at the same time


# ---- who you are


def test_a_federated_person_has_a_row_that_is_true(deployed):
    person = "principal://iam.googleapis.com/locations/global/workforcePools/w/subject/ada"
    deployed.answer("auth list", [{"account": person}])
    invoker = {"role": "roles/run.invoker", "members": [person]}
    deployed.write("policies/front", {"bindings": [invoker]})
    verified = deployed.deploy_sh("verify", "--format=json")
    [you] = [c for c in json.loads(verified.stdout)["calls"] if c["caller"] == "you" and c["function"] == "front"]
    assert you["expected"] == "in"


def test_where_nobody_says_who_you_are_no_command_has_an_empty_member(deployed, tmp_path):
    (tmp_path / "token").write_text("x")
    deployed.env["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"] = str(tmp_path / "token")
    deployed.answer("auth list", [])
    deployed.answer("--impersonate-service-account", **DENIED)
    verified = deployed.deploy_sh("verify")
    assert "--member= " not in verified.stdout and "--member=YOU " in verified.stdout


# ---- destroy, dry runs, errors


@pytest.mark.parametrize("api, what", [("run", "the functions"), ("iam", "the service accounts")])
def test_what_an_api_that_is_off_hides_is_said(deployed, api, what):
    enabled = [name for name in deployed.read("enabled") if not name.startswith(f"{api}.")]
    deployed.write("enabled", enabled)
    destroyed = deployed.deploy_sh("destroy", "--quiet")
    assert destroyed.returncode == 1
    assert f"{what} cannot be seen, and may be left: the API is off" in destroyed.stderr
    assert f"gcloud services enable {api}.googleapis.com --project=p-1" in destroyed.stderr


def test_a_dry_run_takes_project_and_region_of_gcloud(cloud):
    cloud.answer("config list", {"core": {"project": "p-9"}, "run": {"region": "europe-west9"}})
    command = [str(ROOT / "deploy.sh"), f"--app={cloud.app}", "--dry-run"]
    dry = subprocess.run(command, env=cloud.env, capture_output=True, text=True, timeout=60)
    assert dry.returncode == 0, dry.stderr
    assert "--project=p-9 --region=europe-west9" in dry.stdout and cloud.changes() == []


@pytest.mark.parametrize(
    "error, said",
    [
        ("There was a problem refreshing your current auth tokens: ('invalid_grant: Bad Request')", "Your login has expired. Run gcloud auth login"),
        ("This API method requires billing to be enabled. Please enable billing on project #1", "The project has no billing account, or it is closed"),
        ("PERMISSION_DENIED: Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: x", "VPC Service Controls of your organisation forbid this call"),
    ],
)  # fmt: skip
def test_an_error_is_named_as_what_it_is_and_not_waited_for(cloud, error, said):
    cloud.answer("services enable", stderr=f"ERROR: (gcloud.services.enable) {error}\n", status=1)
    failed = cloud.deploy_sh()
    assert failed.returncode == 1 and said in failed.stderr
    assert "waiting" not in failed.stderr and "You lack" not in failed.stderr


@pytest.mark.parametrize(
    "who, made",
    [
        ("User ada@example.com", False),
        ("Group ops@example.com", False),
        ("Service account nightly@p-1.iam.gserviceaccount.com", True),
        ("Service account nightly@elsewhere.iam.gserviceaccount.com", False),
    ],
)
def test_only_an_account_of_this_project_can_be_made(cloud, who, made):
    error = f"ERROR: (gcloud) INVALID_ARGUMENT: {who} does not exist.\n"
    cloud.answer("set-iam-policy front", stderr=error, status=1)
    said = cloud.deploy_sh().stderr
    assert ("gcloud iam service-accounts create nightly --project=p-1" in said) == made
    assert "does not exist. Correct it" in said


@pytest.mark.parametrize(
    "setting",
    ["CLOUDSDK_CORE_USER_OUTPUT_ENABLED=false", "CLOUDSDK_CORE_VERBOSITY=none", "CLOUDSDK_RUN_PLATFORM=gke", "CLOUDSDK_CORE_FORMAT=yaml"],
)
def test_a_setting_of_gcloud_s_does_not_reach_it(cloud, setting):
    name, _, text = setting.partition("=")
    cloud.env[name] = text
    real = (cloud.folder / "gcloud").read_text()
    check = f'[ "${{{name}-}}" = "{text}" ] && echo "ERROR: {name}" >&2 && exit 1\n'
    cloud.program("gcloud", real.replace("\n", f"\n{check}", 1))
    succeeded(cloud.deploy_sh())
