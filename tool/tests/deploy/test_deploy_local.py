"""deploy.sh with the toy app on this machine: what it makes, waits for, shows and takes back."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import time

import pytest
import requests

from local_toy import TITLES, Local, after_change, start, under, url
from recorded_cloud import NAMES, TOY
from tool.testing import ROOT, run, succeeded

# All tests of this file run in one process, so that the app is deployed only once.
pytestmark = pytest.mark.xdist_group("test_deploy_local")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """Deployed once, for all tests. Each leaves it as it was."""
    local = Local(shutil.copytree(TOY, tmp_path_factory.mktemp("app") / "o'brien & söhne"))
    try:
        succeeded(local.deploy_sh())
        yield local
    finally:
        local.end()


def shell(local, line):
    """Runs a line in a shell that evaluated the output of "env"."""
    eval_line = f'eval "$({shlex.join(local.command("env"))})"'
    return run("bash", "-c", f"{eval_line}; {line}", env=local.env)


def test_env_leaves_out_what_is_not_deployed_and_gives_the_rest(deployed):
    succeeded(deployed.deploy_sh("destroy", "closed"))
    said = shell(deployed, 'echo "$FRONT_URL ${CLOSED_URL:-none}"; gcloud config get project')
    assert said.stdout.split() == [url(deployed, "front"), "none", "local-project"]
    assert "closed is not deployed" in said.stderr
    succeeded(deployed.deploy_sh())


def test_a_second_clone_is_not_taken_for_the_first(deployed, tmp_path):
    other = Local(shutil.copytree(TOY, tmp_path / "other"))
    destroy = shlex.join(other.command("destroy"))
    for line in (destroy, f"LOCAL_STATE={shlex.quote(str(tmp_path / 'mine'))} {destroy}"):
        assert shell(deployed, line).stdout == "There is no local project.\n"
    succeeded(deployed.deploy_sh("verify"))


def test_a_shell_of_the_local_project_does_not_deploy_to_the_cloud_by_mistake(deployed):
    words = shlex.join([str(ROOT / "deploy.sh"), f"--app={deployed.app}"])
    refused = shell(deployed, words)
    assert refused.returncode == 1 and "Add --local" in refused.stderr


def test_it_can_be_called_by_a_link(deployed, tmp_path):
    (tmp_path / "link").symlink_to(ROOT / "deploy.sh")
    (tmp_path / "link to it").symlink_to("link")
    assert run(str(tmp_path / "link to it"), "help").returncode == 0


# ---- what a deploy makes


def test_the_printed_map_is_what_was_measured(deployed):
    assert rows(succeeded(deployed.deploy_sh("verify"))) == {
        "anonymous": ["403 ok", "403 ok", "403 ok"],
        "you": ["200 ok", "403 ok", "403 ok"],
        "front": ["403 ok", "200 ok", "403 ok"],
        "back": ["403 ok", "403 ok", "403 ok"],
        "closed": ["403 ok", "403 ok", "403 ok"],
    }


def test_a_function_finds_its_settings_and_nothing_of_this_shell(deployed):
    token = deployed.gcloud("auth print-identity-token").stdout.strip()
    headers = {"Authorization": f"Bearer {token}"}
    found = requests.get(url(deployed, "front"), headers=headers, timeout=20).json()["environment"]
    assert found["BACK_URL"] == url(deployed, "back") and found["THREADS"] == "80"
    assert found["K_SERVICE"] == "front" and found["GOOGLE_CLOUD_PROJECT"] == "local-project"
    assert "STORE" not in found and not any("LOCAL" in name for name in found)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_env_survives_any_folder(deployed, shell):
    if not shutil.which(shell):
        pytest.skip(f"left out: {shell} is not installed")
    line = f'eval "$({shlex.join(deployed.command("env"))})"; gcloud config get project; echo "$LOCAL_STATE"'
    env = {**deployed.env, "no_proxy": "example.com"}
    said = run(shell, "-c", f'{line}; echo "$no_proxy"', env=env)
    assert said.stdout.split("\n")[:3] == [
        "local-project", str(deployed.state), "127.0.0.1,localhost,example.com",
    ]  # fmt: skip


def test_a_second_deploy_changes_nothing_and_says_so(deployed):
    before = len((deployed.state / "audit.log").read_text().splitlines())
    said = succeeded(deployed.deploy_sh()).stdout
    assert all(f"{name} is unchanged" in said for name in NAMES)
    commands = (deployed.state / "audit.log").read_text().splitlines()[before:]
    changing = [
        c
        for c in commands
        if re.search(r" (deploy|create|enable|set-iam|add-iam|remove-iam|update)\b", c)
    ]
    assert changing == []


def test_a_stray_binding_is_taken_away_and_said(deployed):
    for member in ("allUsers", "user:mallory@example.com"):
        assert deployed.gcloud(
            f"run services add-iam-policy-binding closed --region=us-central1 --member={member} --role=roles/run.invoker"
        ).returncode == 0  # fmt: skip
    assert requests.options(url(deployed, "closed"), timeout=20).status_code == 200
    verified = deployed.deploy_sh("verify")
    assert verified.returncode == 1 and "anonymous -> closed" in verified.stderr
    drawn = deployed.deploy_sh("verify", "--format=mermaid")
    assert drawn.returncode == 1 and drawn.stdout.count(" closed\n") == 1  # one arrow for everyone, and no further ones
    assert "200 WRONG" in verified.stdout
    said = succeeded(deployed.deploy_sh()).stdout
    assert "closed: removed allUsers user:mallory@example.com" in said
    assert deployed.members("closed") == set()
    assert requests.options(url(deployed, "closed"), timeout=20).status_code == 403


def test_public_opens_what_you_may_call_and_only_that_until_the_next_deploy(deployed):
    try:
        succeeded(deployed.deploy_sh("--public"))
        answers = {n: requests.options(url(deployed, n), timeout=20).status_code for n in NAMES}
        assert answers == {"front": 200, "back": 403, "closed": 403}
    finally:
        succeeded(deployed.deploy_sh())
    assert requests.options(url(deployed, "front"), timeout=20).status_code == 403


# ---- errors


def as_the_map_says(local):
    local.set_policy("front", "user:you@example.com")
    local.set_policy("back", "serviceAccount:front-sa@local-project.iam.gserviceaccount.com")
    local.set_policy("closed")


@pytest.fixture
def disturbed(deployed):
    """For a test that makes commands fail, or bindings take time. Afterwards, everything is as it was."""
    yield deployed
    deployed.env.pop("PATIENCE", None)
    for file in ("faults.json", "propagation.json"):
        (deployed.state / file).unlink(missing_ok=True)
    as_the_map_says(deployed)


def test_what_passes_by_itself_is_waited_for(disturbed):
    disturbed.gcloud("run services delete closed --region=us-central1 --quiet")
    disturbed.set_policy("front")
    disturbed.faults(
        ("run deploy closed", 1, "ABORTED: Conflict for resource 'closed'"),
        ("set-iam-policy front", 1, "UNAVAILABLE: The service is currently unavailable."),
    )
    said = succeeded(disturbed.deploy_sh())
    assert "waiting for another change to end" in said.stderr
    assert disturbed.members("front") == {"user:you@example.com"}


def test_a_binding_that_takes_time_is_waited_for_both_ways(disturbed, tmp_path):
    disturbed.env["PATIENCE"] = "120"
    disturbed.set_policy("back")
    disturbed.set_policy("closed", "allUsers")
    (disturbed.state / "propagation.json").write_text("600")
    with open(tmp_path / "said", "w") as file:
        deploy = subprocess.Popen(disturbed.command(), env=disturbed.env, stdout=file, stderr=file)
    for sentence in ("waiting for back to let front in", "waiting for closed to refuse anonymous"):
        while sentence not in (tmp_path / "said").read_text():
            assert deploy.poll() is None, (tmp_path / "said").read_text()
            time.sleep(0.05)
    (disturbed.state / "propagation.json").unlink()
    as_the_map_says(disturbed)
    assert deploy.wait(120) == 0, (tmp_path / "said").read_text()


def test_a_binding_that_does_not_come_is_named(disturbed):
    disturbed.env["PATIENCE"] = "1"
    disturbed.set_policy("back")
    (disturbed.state / "propagation.json").write_text("600")
    failed = disturbed.deploy_sh()
    assert failed.returncode == 1 and "front -> back" in failed.stderr


# ---- who could call a function

TOKENS = "roles/iam.serviceAccountTokenCreator"
EVE = "--member=user:eve@example.com"


def test_an_opened_door_is_shown_with_what_closes_it(deployed):
    front = "front-sa@local-project.iam.gserviceaccount.com"
    succeeded(deployed.gcloud(f"iam service-accounts add-iam-policy-binding {front} {EVE} --role={TOKENS}"))
    said = succeeded(deployed.deploy_sh("who", "back")).stdout
    assert f"serviceAccount:{front}, as trust-map says" in said
    assert "  user:eve@example.com\n" in said and f"may make ID tokens of {front}" in said
    [eve] = reached_by(deployed, "back", "user:eve@example.com")
    [command] = eve["ends"]
    assert len(eve["ways"][0]["steps"]) == 2 and f"this ends it: {command}\n" in said
    succeeded(deployed.gcloud(command.removeprefix("gcloud ")))
    assert "user:eve" not in succeeded(deployed.deploy_sh("who", "back")).stdout
    nobody = "Who can reach closed? Nobody was found, by the ways looked at.\n"
    assert succeeded(deployed.deploy_sh("who", "closed")).stdout.startswith(nobody)
    assert "no function nothing, but front back closed" in deployed.deploy_sh("who", "nothing").stderr
    assert "who needs a function: front back closed" in deployed.deploy_sh("who").stderr


def reached_by(local, name, *principals):
    """What "who" finds about these principals; without any, about all."""
    shown = json.loads(succeeded(local.deploy_sh("who", name, "--format=json")).stdout)
    return [one for one in shown["reached_by"] if not principals or one["principal"] in principals]


EVES = (
    f"projects {{}}-iam-policy-binding local-project {EVE} --role=roles/run.admin --condition=None",
    f"projects {{}}-iam-policy-binding local-project {EVE} --role=roles/run.developer {under('at night')}",
    f"projects {{}}-iam-policy-binding local-project {EVE} --role=roles/run.developer --condition=None",
    f"run services {{}}-iam-policy-binding closed --region=us-central1 {EVE} --role=roles/run.invoker",
    f"iam service-accounts {{}}-iam-policy-binding closed-sa@local-project.iam.gserviceaccount.com {EVE} --role=roles/iam.serviceAccountUser",
)
BROWSER = f"projects {{}}-iam-policy-binding local-project --member=user:zoe@example.com --role=roles/browser {under('x')}"


@pytest.fixture
def opened(deployed):
    """eve may call closed in several ways. Callers of front may, too, through its code."""
    front = "serviceAccount:front-sa@local-project.iam.gserviceaccount.com"
    lines = [
        *EVES, BROWSER,
        f"run services {{}}-iam-policy-binding closed --region=us-central1 --member={front} --role=roles/run.invoker",
    ]  # fmt: skip
    for line in lines:
        succeeded(deployed.gcloud(line.format("add")))
    yield deployed
    for line in lines:
        deployed.gcloud(line.format("remove"))  # the test may have removed it already
    as_the_map_says(deployed)


def test_all_commands_that_are_printed_for_a_principal_together_end_its_ways(opened):
    [eve] = reached_by(opened, "closed", "user:eve@example.com")
    assert len(eve["ends"]) == 3
    for command in eve["ends"]:
        assert reached_by(opened, "closed", "user:eve@example.com")
        succeeded(opened.gcloud(command.removeprefix("gcloud ")))
    assert not reached_by(opened, "closed", "user:eve@example.com")


def test_a_cut_leaves_the_map_s_callers_and_none_of_it_can_be_left_out(opened):
    cut = succeeded(opened.deploy_sh("who", "closed", "--cut")).stdout
    commands = [line.removeprefix("gcloud ") for line in cut.splitlines() if line.startswith("gcloud")]
    assert len(commands) == 4
    before = {one["principal"] for one in reached_by(opened, "closed")}
    assert {"user:you@example.com", "user:eve@example.com"} < before
    for number, command in enumerate(commands):
        assert reached_by(opened, "closed"), f"{number} of them are enough"
        succeeded(opened.gcloud(command))
    assert reached_by(opened, "closed") == []
    assert "There is nothing to take away from closed" in opened.deploy_sh("who", "closed", "--cut").stdout
    # The same is true for other functions: what the map itself makes stays.
    back = opened.deploy_sh("who", "back", "--cut").stdout
    for line in (line for line in back.splitlines() if line.startswith("gcloud")):
        assert "--role=roles/run.invoker" not in line


def test_with_public_everyone_is_shown_behind_the_code_that_is_open(deployed):
    try:
        succeeded(deployed.deploy_sh("--public"))
        [everyone] = reached_by(deployed, "back", "allUsers")
        assert everyone["ways"][0]["sure"] == "through code" and len(everyone["ends"]) == 1
        assert "anonymous → front, through its code:" in deployed.deploy_sh("who", "back").stdout
        assert "allUsers, as trust-map says" in deployed.deploy_sh("who", "back", "--public").stdout
    finally:
        succeeded(deployed.deploy_sh())


def test_a_role_of_the_project_s_own_is_looked_into(deployed):
    role = "projects/local-project/roles/opener"
    binding = f"local-project --member=user:you@example.com --role={role}"
    succeeded(deployed.gcloud("iam roles create opener --project=local-project --permissions=run.routes.invoke"))
    succeeded(deployed.gcloud(f"projects add-iam-policy-binding {binding} --condition=None"))
    said = succeeded(deployed.deploy_sh("verify"))
    assert f"  user:you@example.com  {role} (project local-project)" in said.stdout
    assert rows(said)["you"] == ["200 ok", "200 inherited", "200 inherited"]
    assert f"may call closed ({role} on project local-project)" in deployed.deploy_sh("who", "closed").stdout
    succeeded(deployed.gcloud(f"projects remove-iam-policy-binding {binding}"))


def test_the_map_is_also_a_picture_and_json(deployed):
    drawn = succeeded(deployed.deploy_sh("verify", "--format=mermaid")).stdout.splitlines()
    assert [" ".join(line.split()) for line in drawn] == [
        "flowchart LR", "you --> front", "front --> back", 'closed["closed<br>lets nobody in"]',
    ]  # fmt: skip
    found = json.loads(succeeded(deployed.deploy_sh("verify", "--format=json")).stdout)
    assert len(found["calls"]) == 15 and found["unknown"] == found["inherited"] == []
    assert found["calls"][3] == {
        "caller": "you", "function": "front", "answer": "in", "status": 200,
        "how": "called", "expected": "in", "verdict": "ok",
    }  # fmt: skip
    assert found["functions"][2] == {
        "function": "closed", "policy": [], "problems": [], "notes": [],
    }  # fmt: skip


@pytest.fixture
def powerless(deployed):
    """A project in which you may not act as any service account, as is true for a new owner on Google Cloud."""
    binding = f"local-project --member=user:you@example.com --role={TOKENS}"
    succeeded(deployed.gcloud(f"projects remove-iam-policy-binding {binding}"))
    yield deployed
    succeeded(deployed.gcloud(f"projects add-iam-policy-binding {binding} --condition=None"))


def makers(local):
    """Who may make tokens for each function's service account."""
    emails = [f"{name}-sa@local-project.iam.gserviceaccount.com" for name in NAMES]
    shown = [local.gcloud(f"iam service-accounts get-iam-policy {email} --format=json") for email in emails]
    return [json.loads(succeeded(one).stdout).get("bindings", []) for one in shown]


def test_as_everyone_measures_all_and_takes_back_what_it_needed(powerless):
    assert rows(powerless.deploy_sh("verify"))["front"] == ["refused, by policy", "in, by policy", "refused, by policy"]
    front = "front-sa@local-project.iam.gserviceaccount.com"
    you = "--member=user:you@example.com"
    succeeded(powerless.gcloud(f"iam service-accounts add-iam-policy-binding {front} {you} --role={TOKENS}"))
    before = makers(powerless)
    done = succeeded(powerless.deploy_sh("verify", "--as-everyone"))
    assert rows(done)["back"] == ["403 ok", "403 ok", "403 ok"] and "by policy" not in rows(done)["front"]
    assert done.stderr.startswith("Until verify ends, you may make tokens")
    assert makers(powerless) == before  # front's binding, which was there before, stays
    succeeded(powerless.gcloud(f"iam service-accounts remove-iam-policy-binding {front} {you} --role={TOKENS}"))


def test_what_cannot_be_taken_back_is_an_error_with_its_command(powerless):
    denied = "PERMISSION_DENIED: Permission 'iam.serviceAccounts.setIamPolicy' denied"
    powerless.faults(("remove-iam-policy-binding front-sa", 9, denied))
    try:
        failed = powerless.deploy_sh("verify", "--as-everyone")
        assert failed.returncode == 1
        assert failed.stderr.count("Taken back: ") == 2
        [command] = re.findall("This ends it: gcloud (.*)", failed.stderr)
    finally:
        (powerless.state / "faults.json").unlink()
    assert makers(powerless)[0] != []
    succeeded(powerless.gcloud(command))
    assert makers(powerless) == [[], [], []]


def test_what_was_never_granted_is_not_called_taken_back(powerless):
    denied = "PERMISSION_DENIED: Permission 'iam.serviceAccounts.setIamPolicy' denied"
    powerless.faults(("add-iam-policy-binding back-sa", 9, denied))
    try:
        failed = powerless.deploy_sh("verify", "--as-everyone")
    finally:
        (powerless.state / "faults.json").unlink()
    assert failed.returncode == 1 and "you may not let yourself act as back" in failed.stderr
    taken = re.findall("Taken back: your tokens of (\\w+)-sa@", failed.stderr)
    assert taken == ["front"] and makers(powerless) == [[], [], []]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_as_everyone_takes_back_when_it_is_interrupted(powerless, sent):
    process = start(powerless, "verify", "--as-everyone")
    after_change(powerless, 2, f"kill -{sent.value} {process.pid}")
    said = process.communicate(timeout=120)
    (powerless.state / "after_change.json").unlink()
    assert process.returncode == 128 + sent, said
    assert makers(powerless) == [[], [], []]
    assert said[1].count("Taken back: ") == 2


# ---- conditions whose titles contain a bar, which could be mistaken for a separator of columns

PROJECT = "projects {}-iam-policy-binding local-project"
CLOSED = "run services {}-iam-policy-binding closed --region=us-central1"
CLOSED_SA = "serviceAccount:closed-sa@local-project.iam.gserviceaccount.com"
OF_CLOSED = dict(zip(("roles/run.admin", "roles/viewer", "roles/browser", "roles/editor", "roles/run.viewer"), TITLES, strict=True))


def bind(local, verb, policy, member, role, title):
    words = f"{policy.format(verb)} --member={member} --role={role} {under(title)}"
    return local.gcloud(words)


@pytest.fixture
def barred(deployed):
    """Some eves may call every function, and some mallories closed, each under a condition of her own."""
    grants = [
        (policy, f"user:{name}{number}@example.com", "roles/run.invoker", title)
        for policy, name in ((PROJECT, "eve"), (CLOSED, "mallory"))
        for number, title in enumerate(TITLES)
    ]
    for grant in grants:
        succeeded(bind(deployed, "add", *grant))
    yield deployed
    for grant in grants:
        bind(deployed, "remove", *grant)  # a deploy may have removed it already


@pytest.fixture
def drifted(barred):
    """In addition, the service account of closed has roles, and you may call front, only under such conditions."""
    for role, title in OF_CLOSED.items():
        succeeded(bind(barred, "add", PROJECT, CLOSED_SA, role, title))
    barred.set_policy("front")
    front = CLOSED.replace("closed", "front")
    succeeded(bind(barred, "add", front, "user:you@example.com", "roles/run.invoker", "|"))
    yield barred
    for role, title in OF_CLOSED.items():
        bind(barred, "remove", PROJECT, CLOSED_SA, role, title)
    as_the_map_says(barred)


def bindings(local, of):
    shown = local.gcloud(f"{of.format('get').replace('-binding', '')} --format=json")
    return json.loads(succeeded(shown).stdout).get("bindings", [])


def test_who_shows_a_grant_whose_condition_holds_a_bar(barred):
    text = succeeded(barred.deploy_sh("who", "closed")).stdout
    shown = json.loads(succeeded(barred.deploy_sh("who", "closed", "--format=json")).stdout)
    found = {one["principal"]: one for one in shown["reached_by"]}
    assert len(found) == 2 * len(TITLES) and not any(one["certain"] for one in found.values())
    for number, title in enumerate(TITLES):
        for name, on in (("eve", "project local-project"), ("mallory", "function closed")):
            grant = f"roles/run.invoker on {on}, if {title}"
            assert found[f"user:{name}{number}@example.com"]["ways"][0]["steps"][0]["by"] == [grant]
            assert f"may call closed ({grant})\n" in text


def test_verify_names_what_is_granted_under_a_condition_that_holds_a_bar(drifted):
    verified = drifted.deploy_sh("verify")
    said = verified.stdout
    assert verified.returncode == 1
    assert "see the note under front, see the note under closed" in verified.stderr
    assert "its policy is not the one of trust-map, which lets in: user:you@example.com. Run" in said
    assert re.search(r"^  front +user:you@example.com \(if \|\)$", said, re.M)
    for number, title in enumerate(TITLES):
        assert f"user:mallory{number}@example.com (if {title})" in said
        every = f"  user:eve{number}@example.com  roles/run.invoker (if {title}) (project local-project)\n"
        assert every in said
    for role in OF_CLOSED:
        assert f"its service account has {role}, which trust-map does not give it" in said


def test_deploy_takes_back_what_is_granted_under_a_condition_that_holds_a_bar(drifted):
    said = drifted.deploy_sh()
    assert said.returncode == 0, said.stderr
    for role in OF_CLOSED:
        assert f"took {role} back from {CLOSED_SA}" in said.stderr
    assert not any(CLOSED_SA in binding["members"] for binding in bindings(drifted, PROJECT))
    assert bindings(drifted, CLOSED) == []
    front = CLOSED.replace("closed", "front")
    assert bindings(drifted, front) == [{"role": "roles/run.invoker", "members": ["user:you@example.com"]}]


def test_destroy_takes_back_a_role_whose_condition_holds_a_bar(drifted):
    try:
        succeeded(drifted.deploy_sh("destroy", "closed"))
        assert not any("closed-sa@" in str(binding) for binding in bindings(drifted, PROJECT))
    finally:
        succeeded(drifted.deploy_sh())


# ---- environments, and members that are not functions


def test_a_local_project_in_another_region_is_found_by_every_command_that_is_printed(deployed):
    there = Local(deployed.app)
    there.state = deployed.app / ".local-elsewhere"
    words = ("--project=elsewhere", "--region=asia-east1")
    try:
        said = succeeded(there.deploy_sh(*words)).stdout
        assert f"./deploy.sh env --local {' '.join(words)} --app=" in said
        refused = there.deploy_sh(words[0])
        assert refused.returncode == 1
        ends = f"./deploy.sh destroy --local {' '.join(words)} --app="
        assert f"the local project is in asia-east1; a local project has one region. To have another, destroy this one first: {ends}" in refused.stderr
        kept = succeeded(there.deploy_sh("destroy", words[0])).stdout
        assert f"This removes those in asia-east1: {ends}" in kept and there.state.exists()
        succeeded(there.deploy_sh("destroy", *words))
        assert not there.state.exists()
    finally:
        there.end()


def test_environments_live_side_by_side_and_end_alone(deployed):
    """One without a prefix, one with a prefix in the same project, and one in a project of its own."""
    dev, prod = Local(deployed.app), Local(deployed.app)
    dev.env["PREFIX"] = "dev-"
    prod.state = deployed.app / ".local-shop-prod"
    try:
        for said in (dev.deploy_sh(), prod.deploy_sh("--project=shop-prod")):
            assert "Every call that could be made was answered as the map says" in said.stdout
        members = {"serviceAccount:dev-front-sa@local-project.iam.gserviceaccount.com"}
        assert dev.members("dev-back") == members
        ended = succeeded(dev.deploy_sh("destroy")).stdout
        assert ended.endswith("Kept: the local project, for back closed front\n")
        assert "Run PREFIX=dev- ./deploy.sh --local --app=" in dev.deploy_sh("verify").stderr
        succeeded(deployed.deploy_sh("verify"))
        succeeded(prod.deploy_sh("destroy", "--project=shop-prod"))
        assert not prod.state.exists()
        said = prod.deploy_sh("verify", "--project=shop-prod").stderr
        assert "Run ./deploy.sh --local --project=shop-prod --app=" in said
    finally:
        prod.end()
        dev.deploy_sh("destroy")


@pytest.fixture
def schedule(deployed):
    """A service account that belongs to no function."""
    succeeded(deployed.gcloud("iam service-accounts create schedule"))
    text = (deployed.app / "trust-map").read_text()
    yield "schedule@local-project.iam.gserviceaccount.com"
    (deployed.app / "trust-map").write_text(text)
    shutil.rmtree(deployed.app / ".groups", ignore_errors=True)
    as_the_map_says(deployed)
    deployed.gcloud(
        "iam service-accounts delete schedule@local-project.iam.gserviceaccount.com --quiet"
    )


def test_an_account_that_the_map_names_is_made_on_this_machine(deployed, schedule):
    """A fresh clone of an app deploys without manual steps."""
    trust_map = deployed.app / "trust-map"
    trust_map.write_text(re.sub("closed +-", "closed serviceAccount:nightly@$PROJECT.iam.gserviceaccount.com", trust_map.read_text()))
    succeeded(deployed.deploy_sh())
    nightly = "nightly@local-project.iam.gserviceaccount.com"
    assert deployed.members("closed") == {f"serviceAccount:{nightly}"}
    succeeded(deployed.gcloud(f"iam service-accounts delete {nightly} --quiet"))


def test_a_secret_has_a_value_for_development_and_a_file_of_one_s_own_wins(deployed):
    flags, env = deployed.app / "functions/front/flags", deployed.app / "environments"
    before, name = flags.read_text(), "payments-key"
    flags.write_text(f"{before}\n--set-secrets=KEY={name}:latest\n")
    try:
        refused = deployed.deploy_sh()
        assert refused.returncode == 1 and f"a line secret {name}=VALUE into environments/local" in refused.stderr
        env.mkdir()
        (env / "local").write_text(f"secret {name}=for development\n")
        succeeded(deployed.deploy_sh())
        assert environment_of(deployed)["KEY"] == "for development"
        (deployed.app / ".secrets").mkdir()
        (deployed.app / ".secrets" / name).write_text("my own")
        (deployed.app / "functions/front/variables").write_text("A=1\n")
        succeeded(deployed.deploy_sh())
        assert environment_of(deployed)["KEY"] == "my own"
    finally:
        flags.write_text(before)
        (deployed.app / "functions/front/variables").unlink(missing_ok=True)
        for folder in (env, deployed.app / ".secrets"):
            shutil.rmtree(folder, ignore_errors=True)
        succeeded(deployed.deploy_sh())


def environment_of(local):
    """The environment variables that front gets."""
    token = local.gcloud("auth print-identity-token").stdout.strip()
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(url(local, "front"), headers=headers, timeout=20).json()["environment"]


def test_members_that_are_no_functions_are_let_in_and_shown(deployed, schedule):
    trust_map, groups = deployed.app / "trust-map", deployed.app / ".groups"
    text, group = trust_map.read_text(), "group:admins@example.com"
    groups.mkdir()
    members = f"{group},serviceAccount:schedule@$PROJECT.iam.gserviceaccount.com"
    trust_map.write_text(re.sub("closed +-", f"closed {members}", text))
    assert rows(succeeded(deployed.deploy_sh())) == {
        "anonymous": ["403 ok", "403 ok", "403 ok"],
        "you": ["200 ok", "403 ok", "403 ok"],  # not in the group
        "front": ["403 ok", "200 ok", "403 ok"],
        "back": ["403 ok", "403 ok", "403 ok"],
        "closed": ["403 ok", "403 ok", "403 ok"],
        group: ["refused, by policy", "refused, by policy", "in, by policy"],
        f"serviceAccount:{schedule}": ["403 ok", "403 ok", "200 ok"],
    }
    (groups / "admins@example.com").write_text("You@Example.com\n")
    assert rows(succeeded(deployed.deploy_sh("verify")))["you"] == ["200 ok", "403 ok", "200 ok"]
    # If the person who deploys is named in the map, "you" is that person.
    trust_map.write_text(re.sub("closed +-", "closed user:you@example.com", text))
    found = rows(succeeded(deployed.deploy_sh()))
    assert found["you"] == ["200 ok", "403 ok", "200 ok"] and len(found) == 5


def rows(result):
    """The measured map: caller to cells."""
    table = result.stdout.partition("(ok: as trust-map says)\n")[2].partition("\n\n")[0].splitlines()
    cells = [re.split(r"\s{2,}", line.strip()) for line in table[1:]]
    return {caller: rest for caller, *rest in cells}
