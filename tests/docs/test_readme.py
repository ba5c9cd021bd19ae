"""README.md and the pages after it stay true: their commands are run in order, and must print what the pages show."""

import itertools
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys

import pytest
import requests

from names import LOGIN, SEARCH, USER_PROFILES
from test_openapi import operations
from tool.deploy.sentences import NOT_LOOKED_AT
from tool.testing import FUNCTIONS, ROOT, run

WALK = ("README.md", "docs/tutorial.md", "docs/identity.md", "docs/deploy.md")  # in one shell, in this order
TEXT = "\n".join((ROOT / page).read_text() for page in WALK)
BLOCK = re.compile(r"^```([\w./-]*)(?: ([\w -]+))?\n(.*?)^```$", re.M | re.S)
SHAPES = {  # what changes from run to run
    r"http://127\.0\.0\.1:\d+|http://localhost:\d+": "URL",
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*(Z|\+00:00)?": "TIME",
    r"\b\d{20,21}\b": "ID",
    r"etag: \S+": "etag: ETAG",
    r"\b[0-9a-f]{40}\b": "KEY",
    r'"(exp|iat)": \d+': r'"\1": SECONDS',
    r"\bin \d+ ms": "in N ms",
    r"\.\.\. \d+ s|\. \d+ s": "... N s",
    r" +$": "",
}


def blocks(text=TEXT):
    """(language, mark, content, output) of each block. A block without a language is the output of the one before."""
    found = [match.groups() for match in BLOCK.finditer(text)]
    for (language, mark, content), (next_language, _, output) in itertools.pairwise(
        [*found, ("sh", "", "")]
    ):
        if language:
            yield language, mark, content, None if next_language else output


def commands(mark):
    return [
        (content, output) for kind, its, content, output in blocks() if (kind, its) == ("sh", mark)
    ]


def shape(text):
    for pattern, name in SHAPES.items():
        text = re.sub(pattern, name, text, flags=re.M)
    return text.strip()


def matches(said, promised):
    """Whether the texts match, apart from what changes from run to run; a line ... matches any lines."""
    parts = [re.escape(part) for part in re.split(r"^\.\.\.\n", shape(promised) + "\n", flags=re.M)]
    return re.fullmatch(r"(?:.*\n)*?".join(parts), shape(said) + "\n")


class Shell:
    """One shell for all blocks, as a reader uses it."""

    END = "--- end of the block"

    def __init__(self, kind, folder, env):
        self.folder = folder
        self.shell = subprocess.Popen(
            [kind],
            env=env,
            cwd=folder,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, block):
        (self.folder / ".block").write_text(block)
        self.shell.stdin.write(f". ./.block < /dev/null\necho; echo '{self.END}'\n")
        self.shell.stdin.flush()
        lines = []
        while (line := self.shell.stdout.readline()).strip() != self.END:
            assert line, "the shell has ended"
            lines.append(line)
        return "".join(lines)

    def close(self):
        self.shell.communicate()


@pytest.mark.parametrize("kind", ["bash", "zsh"])
def test_every_command_prints_what_the_readme_says(clone, kind):
    if not shutil.which(kind):
        pytest.skip(f"left out: {kind} is not installed")
    (clone.root / ".venv").unlink()  # as on a new machine
    shell = Shell(kind, clone.root, clone.env)
    try:
        for block, output in commands(None):
            said = shell.run(block)
            assert matches(said, output or ""), f"{block}\nprints, and the page should show:\n{said}"
    finally:
        shell.close()


OTHERS = ("CONTRIBUTING.md", "docs/recipes.md", "docs/troubleshooting.md", "docs/production.md", "tool/README.md")


@pytest.mark.parametrize("page", [*WALK, *OTHERS])
def test_every_link_leads_where_it_says(page):
    for text, target in re.findall(r"\[([^]]*)\]\(([^)]+)\)", (ROOT / page).read_text()):
        if target.startswith("https://"):
            continue
        name, _, place = target.partition("#")
        file = (ROOT / page).parent / name if name else ROOT / page
        assert file.exists(), target
        if place and file.suffix != ".md":
            line = file.read_text().splitlines()[int(place.removeprefix("L")) - 1]
            assert text.strip("`") in line, target
        elif place:
            headings = re.findall("^#+ (.+)", file.read_text(), re.M)
            assert place in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings], target


def test_all_that_who_does_not_look_at_is_explained():
    page = (ROOT / "docs/troubleshooting.md").read_text()
    assert [what for what in NOT_LOOKED_AT if f"\n- *{what}*: " not in page] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_path_and_method_is_in_the_description_that_is_linked(load, tmp_path, name):
    load(name, STORE=f"sqlite:{tmp_path}/data.db")
    rules = sys.modules["main"].app.url_map.iter_rules()
    assert {(operation.method.upper(), operation.path) for operation in operations(name)} == {
        (method, re.sub(r"<(?:.*:)?(.*?)>", r"{\1}", rule.rule))
        for rule in rules
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }


def test_every_block_is_run_or_marked_and_correct():
    marks = (None, "cloud", "foreground", "by-hand")
    for content, _ in itertools.chain.from_iterable(map(commands, marks)):
        assert run("bash", "-n", "-c", content).returncode == 0, content
    assert {mark for kind, mark, *_ in blocks() if kind == "sh"} == set(marks)
    [(cloud, _)] = commands("cloud")
    dry = run("bash", "-c", cloud.splitlines()[0])
    assert dry.returncode == 0 and "gcloud run deploy search" in dry.stdout
    # What runs in the foreground is run by test_page.py and tool/tests.
    assert [block for block, _ in commands("foreground")] == [
        "gcloud run services proxy login --region=$REGION --port=8080\n",
        "./deploy.sh --local --watch\n",
    ]


def as_words(commands):
    """The words of each command; what changes from run to run is replaced by a name."""
    lines = commands.replace("\\\n", "").splitlines()
    text = [re.sub(r"\b([0-9a-f]{12}-)?\d{10}\b", "NOW", line) for line in lines]
    return [shlex.split(line) for line in text if line and not line.startswith("#")]


def test_the_commands_by_hand_are_those_of_a_first_deploy():
    [(by_hand, _)] = commands("by-hand")
    dry = run(str(ROOT / "deploy.sh"), "--dry-run", "--project=my-project")
    assert as_words(by_hand) == as_words(dry.stdout), dry.stderr


def test_the_picture_is_what_verify_draws(project):
    [picture] = [content for kind, _, content, _ in blocks() if kind == "mermaid"]
    drawn = project.deploy_sh("verify", "--format=mermaid").stdout
    assert picture == drawn, f"README.md should show:\n{drawn}"


def test_what_is_shown_of_a_file_stands_in_it():
    shown = [(kind, content) for kind, _, content, _ in blocks() if (ROOT / kind).is_file()]
    assert [kind for kind, _ in shown] == ["trust-map", "functions/login/main.py", "shared/auth.py"]
    for kind, content in shown:
        assert content in (ROOT / kind).read_text(), f"{kind} does not hold what README.md shows of it"


def test_gcloud_knows_every_command(tmp_path):
    gcloud = shutil.which("gcloud")
    if not gcloud:
        pytest.skip("left out: gcloud is not installed")
    shown = [*blocks(), *blocks((ROOT / "docs" / "recipes.md").read_text())]
    # The commands by hand are the tool's own, and the tool's tests check them.
    text = "".join(content for kind, mark, content, _ in shown if kind == "sh" and mark != "by-hand")
    word = r"""[^\n|)"'<>]|"[^"\n]*"|'[^'\n]*'"""
    found = re.findall(rf"(?<![\w-])gcloud (?:{word})+", text.replace("\\\n", ""))
    values = {
        "REGION": "us-central1",
        "LOGIN_ACCOUNT": "login-sa@p.iam.gserviceaccount.com",
        "USER_PROFILES_URL": "https://user-profiles-1.us-central1.run.app",
        "KEY_ID": "0123456789abcdef",
        "SEARCH_URL": "https://search-1.us-central1.run.app",
        "ARRIVED_URL": "https://arrived-1.us-central1.run.app",
        "RECEIVED_URL": "https://received-1.us-central1.run.app",
        "SEARCH_ACCOUNT": "search-sa@p.iam.gserviceaccount.com",
        "PROJECT_ID": "p",
        "POOL": "projects/1/locations/global/workloadIdentityPools/github",
        "BEFORE": "search-1",
        "account": "login-sa@p.iam.gserviceaccount.com",
    }
    lines = {re.sub(r"\$(\w+)", lambda m: values[m[1]], " ".join(line.split())) for line in found}
    assert len(lines) > 6
    (tmp_path / "lines").write_text(json.dumps([{"command_string": line} for line in sorted(lines)]))
    env = {**os.environ, "CLOUDSDK_CONFIG": str(tmp_path)}
    words = ("meta", "lint-gcloud-commands", f"--commands-file={tmp_path}/lines")
    results = json.loads(run(gcloud, *words, env=env, cwd=tmp_path).stdout)
    assert [r["command_string"] for r in results if not r["success"]] == []


def test_the_roles_of_a_deployer_are_those_of_the_tool():
    table = TEXT.partition("| role | for |")[2].partition("\n\n")[0]
    lines = (ROOT / "tool" / "deploy" / "roles.txt").read_text().splitlines()
    wanted = {line.partition("|")[0].strip() for line in lines if line.startswith("roles/")}
    assert set(re.findall(r"`(roles/[\w.]+)`", table)) == wanted


# ---- troubleshooting: the tests cause each message that can be seen on this machine


def with_wrong_audience(project, tmp_path):
    url = project.url(SEARCH)
    headers = {"Authorization": f"Bearer {project.token(LOGIN, project.url(USER_PROFILES))}"}
    answer = requests.get(url, headers=headers, timeout=20)
    return f"{answer.headers} {answer.text}"


def without_token(project, tmp_path):
    return project.request("GET", LOGIN, caller=None).text + project.log(LOGIN)


def without_binding(project, tmp_path):
    member = f"--member=serviceAccount:{project.email(LOGIN)} --role=roles/run.invoker"
    project.gcloud(
        f"run services remove-iam-policy-binding user-profiles --region=$REGION {member}"
    )
    account = {"username": "ada", "password": "a pass phrase"}
    refused = project.request("POST", LOGIN, json=account)
    project.gcloud(f"run services add-iam-policy-binding user-profiles --region=$REGION {member}")
    assert refused.status_code == 502
    return refused.text + project.log(USER_PROFILES)


def asking_search(project, tmp_path):
    return project.request("GET", LOGIN, "/search").text


def healthz(project, tmp_path):
    return project.request("GET", LOGIN, "/healthz").text


def gcloud_error(line):
    return lambda project, tmp_path: project.gcloud(line, check=False).stderr


def impersonation_of_a_stranger(project, tmp_path):
    line = "auth print-identity-token --impersonate-service-account=stranger@example.com"
    return project.gcloud(line, check=False).stderr


def google_auth_without_anything(project, tmp_path):
    program = (
        "import google.oauth2.id_token as i; i.fetch_id_token_credentials('https://a.example')"
    )
    env = {**os.environ, "GCE_METADATA_HOST": "127.0.0.1:9", "GCE_METADATA_IP": "127.0.0.1:9"}
    env["GCE_METADATA_DETECT_RETRIES"] = "1"
    return run(sys.executable, "-c", program, env=env).stderr


def a_taken_port(project, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        line = f"run services proxy login --region=$REGION --port={port}"
        return project.gcloud(line, check=False).stderr.replace(str(port), "8080")


def a_taken_name(project, tmp_path):
    account = {"username": "ada-t", "password": "a pass phrase", "display_name": "Ada"}
    project.request("POST", LOGIN, "/signup", json=account)
    return project.request("POST", LOGIN, "/signup", json={**account, "password": "another one"}).text


def verify_before_a_deploy(project, tmp_path):
    env = {**project.env, "LOCAL_STATE": str(tmp_path / "state")}
    return run(str(ROOT / "deploy.sh"), "verify", "--local", env=env).stderr


PROVOKED = {
    "Your client does not have permission to the requested URL": with_wrong_audience,
    "The access token could not be verified": with_wrong_audience,
    "Your client does not have permission to get URL": without_token,
    "Empty Authorization header value": without_token,
    "lacks {run.routes.invoke} permission": without_binding,
    "user-profiles does not let this function in": without_binding,
    "search does not let login in": asking_search,
    "The requested URL was not found on this server": healthz,
    "Invalid account type for `--audiences`": gcloud_error(
        "auth print-identity-token --audiences=a"
    ),
    "Permission 'iam.serviceAccounts.getAccessToken' denied": impersonation_of_a_stranger,
    "Neither metadata server or valid service account credentials are found": google_auth_without_anything,
    "does not exist": gcloud_error(
        "run services add-iam-policy-binding login --region=$REGION --role=roles/run.invoker"
        " --member=serviceAccount:new@local-project.iam.gserviceaccount.com"
    ),
    "port 8080 cannot be opened": a_taken_port,
    "This username is taken": a_taken_name,
    "nothing is deployed on this machine yet": verify_before_a_deploy,
}
ELSEWHERE = {  # messages that other tests cause and check
    "No identity to call user-profiles with": "tests/functions/login/test_login.py",
    "Container Healthcheck failed": "tool/tests/local/test_local_build.py",
    "your organisation forbids allUsers": "tool/tests/deploy/test_deploy_commands.py",
}
TROUBLE = (ROOT / "docs" / "troubleshooting.md").read_text()


@pytest.mark.parametrize("message", PROVOKED)
def test_a_message_is_the_one_that_is_explained(project, tmp_path, message):
    assert message in TROUBLE
    assert message in PROVOKED[message](project, tmp_path)


def test_every_explained_message_is_provoked():
    for bold in re.findall(r"^- \*\*(.*?)\*\*", TROUBLE, re.M):
        *_, message = re.findall(r"``(.+?) ``|`([^`]+)`", bold)[-1:]
        message = message[0] or message[1]
        where = ELSEWHERE.get(message)
        assert message in ((ROOT / where).read_text() if where else PROVOKED), bold
