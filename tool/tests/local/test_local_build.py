"""A build fails as in the cloud, with the line that matters, and the last good revision keeps serving."""

import json
import os
import pathlib
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from tool.testing import run, succeeded
from toys import ECHO, call

GOOD = "def entry(request):\n    return 'good'\n"


@pytest.fixture(scope="module")
def works(local):
    """The URL of a function that works, and that everybody may call."""
    local.up("works")
    succeeded(local.deploy("works", GOOD, entry="entry"))
    local.let_in("allUsers", "works")
    return local.url("works")


@pytest.mark.parametrize(
    "code, requirements, message",
    [
        (
            "import flask\n\ndef entry(:\n",
            "",
            "Build failed: works: main.py line 3: invalid syntax",
        ),
        ("import no_such_module\n", "", "No module named 'no_such_module'"),
        (
            "raise SystemExit('QUOTES_URL is not set: give it')\n",
            "",
            "port: QUOTES_URL is not set: give it",
        ),
        ("import os\nos.environ['QUOTES_URL']\n", "", "port: main.py line 2: KeyError: 'QUOTES_URL'"),
        (
            "def other(request):\n    return ''\n",
            "",
            "is expected to contain a function named 'entry'",
        ),
        ("import os\nos._exit(3)\n", "", "port: it ended without a word"),
        (
            GOOD,
            "flask==3.0.3\nwerkzeug<2\n",
            "Build failed: works: Because flask==3.0.3 depends on werkzeug>=3.0.0",
        ),
        (GOOD, "no such requirement\n", "Build failed: works:"),
        (GOOD, "-r more.txt\n", "more.txt"),
    ],
    ids=[
        "syntax",
        "import",
        "exit",
        "variable",
        "entry",
        "silent",
        "contradiction",
        "malformed",
        "missing",
    ],
)
def test_what_fails_is_said_in_one_line_and_the_last_good_revision_serves_on(
    local, works, code, requirements, message
):
    failed = local.deploy("works", code, entry="entry", requirements=requirements)
    assert failed.returncode == 1
    assert failed.stdout == ""
    [error, log] = failed.stderr.splitlines()
    assert error.startswith("ERROR: (gcloud.run.deploy) ") and message in error
    assert log.startswith("  Its log: ") and os.path.exists(log.removeprefix("  Its log: "))
    if "Build failed" not in error:
        assert "Container Healthcheck failed: works failed to start and listen on the port" in error

    assert call(works).text == "good"
    status = json.loads(local.gcloud("run services describe works REGION --format=json"))["status"]
    assert status["latestReadyRevisionName"].startswith("works-00001-")
    if "Build failed" not in error:
        assert status["latestCreatedRevisionName"] != status["latestReadyRevisionName"]
        assert status["conditions"][0]["status"] == "False"
        assert message.removeprefix("port: ") in status["conditions"][0]["message"]


def test_after_a_failure_a_good_deploy_serves(local, works):
    code = GOOD.replace("good", "better")
    succeeded(local.deploy("works", code, entry="entry"))
    assert call(works).text == "better"
    conditions = local.read("run services describe works REGION")["status"]["conditions"]
    assert [(c["type"], c["status"]) for c in conditions] == [
        ("Ready", "True"),
        ("ConfigurationsReady", "True"),
        ("RoutesReady", "True"),
    ]


def test_a_function_has_what_it_asks_for_and_nothing_of_others(local):
    """Like a container in the cloud, the environment of a function has no packages of other functions."""
    local.up("asks", "not-asks")
    code = "import iniconfig\n" + GOOD
    asking = local.deploy("asks", code, entry="entry", requirements="iniconfig\n")
    assert asking.returncode == 0, asking.stderr
    failed = local.deploy("not-asks", code, entry="entry", requirements="functions-framework\n")
    assert "ModuleNotFoundError: No module named 'iniconfig'" in failed.stderr
    # A package that was removed from requirements.txt is gone.
    failed = local.deploy("asks", code, entry="entry", requirements="")
    assert "ModuleNotFoundError: No module named 'iniconfig'" in failed.stderr


def test_with_the_same_requirements_a_deploy_needs_no_network(local, works):
    offline = dict(local.env, UV_OFFLINE="1", UV_NO_CACHE="1", ALL_PROXY="http://127.0.0.1:9")
    local.env, env = offline, local.env
    try:
        succeeded(local.deploy("works", GOOD, entry="entry"))
        failed = local.deploy("works", GOOD, entry="entry", requirements="functions-framework>=3\n")
    finally:
        local.env = env
    assert failed.returncode == 1 and "Build failed" in failed.stderr


def test_packages_beside_main_and_requirements_that_include_others_work(local):
    local.up("parts")
    folder = local.source(
        "parts",
        "from shared.word import WORD\ndef entry(request):\n    return WORD\n",
        "-r more.txt\n",
    )
    (folder / "shared").mkdir()
    (folder / "shared" / "word.py").write_text("WORD = 'word'\n")
    (folder / "more.txt").write_text("functions-framework\n")
    local.gcloud("iam service-accounts create parts-sa")
    words = f"run deploy parts --source={folder} --function=entry REGION --service-account={local.email('parts')} --quiet"
    local.gcloud(words)
    local.let_in("allUsers", "parts")
    assert call(local.url("parts")).text == "word"
    # A change in an included file makes a new environment.
    (folder / "more.txt").write_text("functions-framework\niniconfig\n")
    (folder / "main.py").write_text("import iniconfig\ndef entry(request):\n    return 'two'\n")
    local.gcloud(words)
    assert call(local.url("parts")).text == "two"


def test_what_gcloud_would_not_upload_is_not_there(local, works, tmp_path):
    listing = "import pathlib\ndef entry(request):\n    return ' '.join(sorted(str(p) for p in pathlib.Path('.').rglob('*')))\n"
    folder = local.source("works", listing)
    (folder / ".gcloudignore").write_text(
        "# no tests\n.gcloudignore\n*.pyc\n__pycache__/\n/data/big\n!keep.pyc\n"
    )
    (folder / "data").mkdir()
    for file in ("data/big", "data/small", "a.pyc", "keep.pyc", "big"):
        (folder / file).write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file.py").write_text("")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "link.py").symlink_to(tmp_path / "elsewhere" / "file.py")
    (folder / "dangling").symlink_to(tmp_path / "nothing")
    succeeded(local.deploy("works", listing, entry="entry"))
    names = {name for name in call(local.url("works")).text.split() if "__pycache__" not in name}
    assert names == {
        "big",
        "data",
        "data/small",
        "keep.pyc",
        "link.py",
        "main.py",
        "requirements.txt",
    }
    for file in folder.iterdir():
        if file.name not in ("main.py", "requirements.txt", "data"):
            file.unlink()


def test_builds_side_by_side_do_not_disturb_each_other(local):
    names = [f"beside-{number}" for number in range(4)]
    local.up(*names)
    requirements = "functions-framework\niniconfig\npackaging\n"
    with ThreadPoolExecutor() as pool:
        deployed = list(
            pool.map(lambda name: local.deploy(name, ECHO, requirements=requirements), names)
        )
    for result in deployed:
        succeeded(result)
    for name in names:
        local.gcloud(f"run services delete {name} REGION --quiet")


def test_an_environment_that_was_cut_short_is_made_again(local, works):
    own = "functions-framework\niniconfig\n"
    before = set((local.state / "environments").glob("*"))
    succeeded(local.deploy("works", GOOD, entry="entry", requirements=own))
    [place] = set((local.state / "environments").glob("*")) - before - {place_of_locks(local)}
    (place / "built").unlink()
    (place / "bin" / "python").unlink()
    succeeded(local.deploy("works", GOOD, entry="entry", requirements=own))
    assert call(works).text == "good"


def test_what_is_locked_is_built_once_for_all_projects_of_a_clone(local, works, other):
    """And what is not locked is resolved again by each project."""
    other.up("again", "anew")
    succeeded(other.deploy("again", GOOD, entry="entry"))
    succeeded(other.deploy("anew", GOOD, entry="entry", requirements="functions-framework\n"))
    assert environment_of(other, "again") == environment_of(local, "inner")
    assert environment_of(other, "anew").is_relative_to(other.state)


def environment_of(local, name):
    [made] = (local.state / "revisions").glob(f"{name}-*.json")
    return pathlib.Path(json.loads(made.read_text())["environment"])


def place_of_locks(local):
    return local.state / "environments" / "locks"


def test_the_revision_is_named_as_it_is_asked_for(local, works):
    succeeded(local.deploy("works", GOOD, "--revision-suffix=abc-123", entry="entry"))
    names = "spec.template.metadata.name,status.latestCreatedRevisionName,status.latestReadyRevisionName"
    shown = local.gcloud(f"run services describe works REGION --format='value({names})'")
    assert shown.split() == ["works-abc-123"] * 3
    again = local.deploy("works", GOOD, "--revision-suffix=abc-123", entry="entry")
    assert again.returncode == 1 and "already exists" in again.stderr


def test_a_call_that_is_inside_is_answered_while_the_next_revision_takes_over(
    local, works, tmp_path
):
    succeeded(local.deploy("works", ECHO))
    inside, until = tmp_path / "inside", tmp_path / "until"
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(call, works, path=f"/?inside={inside}&until={until}")
        while not inside.exists():
            assert not answer.done(), answer.result().text
        succeeded(local.deploy("works", GOOD, entry="entry"))
        assert call(works).text == "good"
        until.touch()
        assert answer.result().status_code == 200


def test_a_dead_function_is_not_ready_and_up_brings_it_back(local, works):
    succeeded(local.deploy("works", GOOD, entry="entry"))
    service = json.loads((local.state / "services" / "works.json").read_text())
    pid = int((local.state / "run" / service["serving"]["revision"]).read_text().split()[0])
    os.killpg(pid, signal.SIGKILL)
    assert run("pgrep", "-g", str(pid)).returncode in (0, 1)
    answer = call(works)
    assert answer.status_code == 503
    shown = json.loads(local.gcloud("run services describe works REGION --format=json"))
    assert shown["status"]["conditions"][0]["status"] == "False"
    assert (
        "works does not run. Run ./deploy.sh --local" in shown["status"]["conditions"][0]["message"]
    )
    local.up()
    assert call(works).text == "good"


def test_a_roll_back_lasts_until_all_goes_to_the_latest_again(local):
    local.up("rolls")
    succeeded(local.deploy("rolls", GOOD, "--revision-suffix=one", entry="entry"))
    local.let_in("allUsers", "rolls")
    url, better = local.url("rolls"), GOOD.replace("good", "better")
    succeeded(local.deploy("rolls", better, "--revision-suffix=two", entry="entry"))
    assert call(url).text == "better"
    local.gcloud("run services update-traffic rolls REGION --to-revisions=rolls-one=100")
    assert call(url).text == "good"
    traffic = "run services describe rolls REGION --format='value(status.traffic[0].latestRevision)'"
    assert local.gcloud(traffic) == ""
    succeeded(local.deploy("rolls", better, "--revision-suffix=three", entry="entry"))
    assert call(url).text == "good"
    local.gcloud("run services update-traffic rolls REGION --to-latest")
    assert call(url).text == "better" and local.gcloud(traffic) == "True"
    said = local.refused("run services update-traffic rolls REGION --to-revisions=rolls-no=100")
    assert "rolls-no of Service rolls is not found" in said


# ---- flags


def test_variables_arrive_as_they_are_given(local, works):
    succeeded(local.deploy("works", ECHO, "--set-env-vars=^##^A=1,2##B=x y'\"$HOME##C="))
    given = call(works).json()["environ"]
    assert (given["A"], given["B"], given["C"]) == ("1,2", "x y'\"$HOME", "")
    local.gcloud("run services update works REGION --update-env-vars=A=3 --remove-env-vars=B")
    given = call(works).json()["environ"]
    assert given["A"] == "3" and "B" not in given and given["C"] == ""


def test_a_secret_arrives_as_a_variable_where_the_account_may_read_it(local, works):
    flag = "--set-secrets=API_KEY=payments-key:latest"
    missing = local.deploy("works", ECHO, flag)
    assert missing.returncode == 1 and "secretmanager.secretAccessor" in missing.stderr
    said = local.refused("secrets describe payments-key")
    assert "NOT_FOUND" in said and str(local.secrets / "payments-key") in said
    local.secrets.mkdir(exist_ok=True)
    (local.secrets / "payments-key").write_text("hidden value")
    binding = (
        f"payments-key --member={local.member('works')} --role=roles/secretmanager.secretAccessor"
    )
    local.gcloud(f"secrets add-iam-policy-binding {binding}")
    succeeded(local.deploy("works", ECHO, flag))
    assert call(works).json()["environ"]["API_KEY"] == "hidden value"
    for file in local.state.rglob("*"):
        if file.is_file() and "environments" not in file.parts:
            assert b"hidden value" not in file.read_bytes(), file
    (local.secrets / "payments-key").unlink()
    gone = local.deploy("works", ECHO, flag)
    assert gone.returncode == 1 and str(local.secrets / "payments-key") in gone.stderr
    assert call(works).status_code == 200
    local.secrets.rmdir()


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--concurrency=0", "--concurrency is a number from 1 to 1000"),
        ("--concurrency=1001", "--concurrency is a number from 1 to 1000"),
        ("--max-instances=many", "--max-instances is a number"),
        ("--timeout=2h", "--timeout is at most 3600 seconds"),
        ("--timeout=soon", "--timeout is at most 3600 seconds"),
        ("--ingress=everywhere", "--ingress is one of all, internal"),
        ("--set-env-vars=A", "Bad syntax for dict arg: [A]"),
        ("--set-env-vars=PORT=1", "reserved env names were provided: PORT"),
        ("--set-secrets=/etc/key=a:latest", "as variables only"),
        ("--set-secrets=KEY=a", "No secret version specified for KEY"),
        ("--base-image=nodejs22", "runs Python, not nodejs22"),
        ("--service-account=nobody@example.com", "Unknown service account: nobody@example.com"),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused(local, works, flag, message):
    refused = local.deploy("works", GOOD, flag, entry="entry")
    assert refused.returncode == 1
    assert message in refused.stderr


def test_a_flag_without_effect_here_is_said_once(local, works):
    flags = (
        "--vpc-connector=c",
        "--execution-environment=gen2",
        "--memory=1Gi",
        "--cpu=2",
        "--min-instances=1",
    )
    deployed = succeeded(local.deploy("works", GOOD, *flags, entry="entry"))
    assert (
        deployed.stderr
        == "WARNING: no effect on this machine: --vpc-connector --execution-environment\n"
    )
    unknown = local.deploy("works", GOOD, "--entry-point=entry", entry="entry")
    assert unknown.returncode == 2 and "--entry-point" in unknown.stderr


def test_allow_unauthenticated_opens_and_without_either_flag_the_policy_stays(local):
    local.up("opens")
    for flags, status in (
        ((), 403),
        (("--allow-unauthenticated",), 200),
        ((), 200),
        (("--no-allow-unauthenticated",), 403),
    ):
        succeeded(local.deploy("opens", GOOD, *flags, entry="entry"))
        assert call(local.url("opens")).status_code == status
    local.gcloud("run services delete opens REGION --quiet")


def test_a_function_that_never_worked_can_be_mended(local):
    local.up("mended")
    assert local.deploy("mended", "import nothing_there\n", entry="entry").returncode == 1
    assert call(local.url("mended")).status_code == 404
    status = local.read("run services describe mended REGION")["status"]
    assert "latestReadyRevisionName" not in status
    assert status["conditions"][0]["status"] == "False"
    assert "no revision that works" in local.refused(
        "run services update mended REGION --timeout=5"
    )
    succeeded(local.deploy("mended", GOOD, entry="entry"))
    assert call(local.url("mended")).status_code == 403
    local.gcloud("run services delete mended REGION --quiet")
