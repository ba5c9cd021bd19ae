"""docs/recipes.md: follows each recipe in a copy, step by step; then runs the tests of the copy."""

import base64
import contextlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import types

import pytest
import requests
from cryptography import x509
from google.auth import crypt, jwt
from google.auth.transport.requests import Request
from google.oauth2.id_token import verify_token

from fake_firestore import FakeFirestore
from fakes import Fake, as_json
from test_readme import TEXT, Shell, blocks, matches
from tool.local import tokens
from tool.testing import ROOT, LocalProject, copied, run, succeeded

RECIPES = (ROOT / "docs" / "recipes.md").read_text()
CHANGES, HOW_DO_I = RECIPES.split("\n## How do I …?\n")
QUESTIONS = re.findall(r"^### (.+)", HOW_DO_I, re.M)
HEADINGS = [h for h in re.findall(r"^\*\*(.+?)\*\*", CHANGES, re.M) if h != "Before any of these changes"]


def steps(heading):
    """The (sentence, code) of each numbered step under a bold heading."""
    section = CHANGES.partition(f"**{heading}**")[2].partition("\n**")[0]
    yield from numbered(section)


def numbered(section):
    for step in re.split(r"^\d\. ", section, flags=re.M)[1:]:
        sentence, _, rest = step.partition("\n\n")
        code = rest.partition("   ```")[2].partition("\n")[2].partition("   ```")[0]
        yield " ".join(sentence.split()), re.sub("^   ", "", code, flags=re.M)


def perform(clone, sentence, code):
    """Does what a step says, as a reader would."""
    names = re.findall(r"`([^`]+)`", sentence)
    files = [clone.root / name for name in names]
    if sentence.startswith("Create "):
        files[0].parent.mkdir(parents=True, exist_ok=True)
        files[0].write_text(code)
    elif sentence.startswith("Write "):
        assert files[0].exists()
        files[0].write_text(code)
    elif sentence.startswith("Delete "):
        for file in files:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    elif sentence.startswith("Rename "):
        files[0].rename(files[1])
    elif sentence.startswith("Run "):
        succeeded(run("bash", "-c", names[0], env=clone.env, cwd=clone.root))
    elif ", change the line of " in sentence:
        left, changed = re.subn(rf"^{names[1]}\b.*\n", code, files[0].read_text(), flags=re.M)
        assert changed == 1
        files[0].write_text(left)
    elif ", below " in sentence:
        before, line, after = files[0].read_text().partition(f"{names[1]}\n")
        assert line
        files[0].write_text(before + line + code + after)
    elif ", add the line" in sentence:
        files[0].write_text(files[0].read_text() + code)
    elif ", delete the line " in sentence:
        left, deleted = re.subn(rf"^ *{re.escape(names[1])}(?!\w).*\n", "", files[0].read_text(), flags=re.M)
        assert deleted == 1
        files[0].write_text(left)
    elif ", replace " in sentence:
        *_, old, new = names
        for file in files[:-2]:
            if "if you kept them" in sentence and not file.exists():
                continue
            replaced, times = re.subn(rf"\b{old}\b", new, file.read_text())
            assert times, file
            file.write_text(replaced)
    else:
        pytest.fail(f"no such step: {sentence}")


def follow(heading, clone):
    done = list(steps(heading))
    assert done
    for sentence, code in done:
        perform(clone, sentence, code)


def outcome_of_tests(clone, *words):
    """What tests/run prints in the copy, without colours."""
    env = {k: v for k, v in clone.env.items() if not k.startswith("PYTEST_")}
    env["MYPY_CACHE_DIR"] = str(ROOT / ".mypy_cache")  # what mypy knows about the packages is true in each copy
    done = subprocess.run(
        [str(clone.root / "tests" / "run"), "-q", *words],
        env=env,
        cwd=clone.root,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=3600,  # a hang is a failure
    )
    return succeeded(done).stdout


def test_the_recipes_are_the_promised_ones():
    assert HEADINGS == [
        "Add a function",
        "Leave out the demo page",
        "Leave out search",
        "Rename",
        "Start your own app",
    ]


def pytest_generate_tests(metafunc):
    """Puts all recipes that change the sample into one copy, one after the other; with --full, each has its own."""
    if "recipes" in metafunc.fixturenames:
        *changes, own = HEADINGS
        copies = [[own], changes]
        if metafunc.config.getoption("--full"):
            copies = [[heading] for heading in HEADINGS[::-1]]
        metafunc.parametrize("recipes", copies, ids=[", ".join(c) for c in copies])


def the_added_function_is_called_as_the_map_says(clone):
    assert clone.request("GET", "login", "/quote").json().keys() == {"quote"}
    assert clone.request("GET", "quotes", caller="login").status_code == 200
    for caller in ("user-profiles", "search", "you", None):
        assert clone.request("GET", "quotes", caller=caller).status_code == 403
    assert clone.request("GET", "search", caller="quotes").status_code == 403


def the_own_app_works(clone):
    ordered = clone.request("POST", "orders", "/tea")
    assert (ordered.status_code, ordered.json()) == (201, {"ordered": "tea", "left": 7})
    assert clone.request("GET", "stock", "/tea").status_code == 403


SEEN = {
    "Add a function": the_added_function_is_called_as_the_map_says,
    "Start your own app": the_own_app_works,
}


@pytest.mark.long
def test_after_a_recipe_the_tests_are_green(recipes, clone, full):
    """In the real fork, all tests run, including the tool's. In the others only the app's, or with --full all."""
    if recipes == ["Start your own app"]:
        (clone.root / ".venv").unlink()  # as on another machine, where no package of this app is installed
    follow("Before any of these changes", clone)
    for heading in recipes:
        follow(heading, clone)
        if heading in SEEN:
            before = clone.env
            clone.enter()
            SEEN[heading](clone)
            clone.env = before
    clone.end()
    for part in ("deploy.sh", "tool"):
        assert run("diff", "-r", "-x", "__pycache__", ROOT / part, clone.root / part).stdout == ""
    whole = full or recipes == ["Start your own app"]
    options = ["--full"] if full else []
    said = outcome_of_tests(clone, *(["-n3", *options] if whole else ["-n0", "tests"]))
    skipped = re.findall(r"^SKIPPED .*", said, re.M)
    assert all("left out: " in line for line in skipped), skipped
    if recipes == ["Start your own app"]:  # nothing of the demo is left
        app = [clone.root / "trust-map", *(clone.root / "functions").rglob("*.py")]
        assert not any(re.search("login|profiles|search", f.read_text()) for f in app)


# ---- How do I …?


def test_what_the_answers_say_is_seen(clone):
    """Follows all answers in one deployed clone; each starts with the app as it is in the repository. The commands
    are run in bash, and then in zsh, if that is installed."""
    succeeded(clone.deploy_sh())
    clone.enter()
    shells = [Shell(kind, clone.root, clone.env) for kind in ("bash", "zsh") if shutil.which(kind)]
    try:
        (setting,) = re.findall("^YOU=\"Authorization.*", TEXT, re.M)
        for shell in shells:
            assert shell.run(setting).strip() == ""
        for question in QUESTIONS:
            section, _ = recipe(question)
            perform_all(section, clone)
            for shell in shells:
                for _, mark, block, output in blocks(section):
                    if not mark:
                        said = shell.run(block)
                        should = f"{block}\nprints, and docs/recipes.md should show:\n{said}"
                        assert matches(said, output or ""), should
                make_again_what_the_blocks_used_up(section, clone)
            as_it_was(clone)
    finally:
        for shell in shells:
            shell.close()


def perform_all(section, clone, beginning=""):
    for sentence, code in numbered(re.sub(r"^```.*?^```$", "", section, flags=re.M | re.S)):
        if sentence.startswith(beginning):
            perform(clone, sentence, code)


def make_again_what_the_blocks_used_up(section, clone):
    perform_all(section, clone, "Create ")
    with contextlib.closing(sqlite3.connect(clone.root / ".local" / "data.db")) as data, data:
        data.execute("DROP TABLE IF EXISTS notes")


def recipe(question):
    """The text of a recipe, and the content of each file that it creates."""
    section = HOW_DO_I.partition(f"### {question}\n")[2].partition("\n### ")[0]
    created = re.findall(r"^\d\. Create `([^`]+)`.*?   ```\w*\n(.*?)^   ```", section, re.M | re.S)
    return section, {name: re.sub("^   ", "", code, flags=re.M) for name, code in created}


def client_of(code, name):
    """A client of the function whose main.py a recipe shows."""
    module = types.ModuleType(name)
    exec(code, module.__dict__)
    return module.app.test_client()


@pytest.fixture
def fake_firestore(monkeypatch):
    fake = FakeFirestore()
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", fake.address)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
    yield fake
    fake.close()


@pytest.mark.parametrize("kind", ["sqlite", "firestore"])
def test_the_recipe_keeps_data_in_both_stores(kind, fake_firestore, own_logging, monkeypatch, tmp_path):
    monkeypatch.setenv("STORE", {"sqlite": f"sqlite:{tmp_path}/data.db"}.get(kind, "firestore:notes"))
    _, files = recipe("Keep data in another function")
    notes = client_of(files["functions/notes/main.py"], "notes")
    assert notes.put("/milk", json={"note": "one"}).status_code == 404
    assert notes.post("/milk", json={"note": "one"}).status_code == 201
    assert notes.post("/milk", json={"note": "two"}).status_code == 409
    assert notes.put("/milk", json={"note": "three"}).status_code == 200
    assert notes.post("/tea", json={"note": "four"}).status_code == 201
    assert notes.get("/").json == {"milk": "three", "tea": "four"}
    assert bool(fake_firestore.documents) == (kind == "firestore")


ISSUER, AUDIENCE = "https://issuer.example", "shop"
GOOD = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada"}


def as_part(content):
    """A part of a token, before it is signed."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def as_jwks(certificate):
    """Its public key as JWKS, which an issuer without certificates publishes."""
    from jwt.algorithms import RSAAlgorithm

    key = x509.load_pem_x509_certificate(certificate).public_key()
    return {"keys": [{**RSAAlgorithm.to_jwk(key, as_dict=True), "kid": "1", "use": "sig"}]}


@pytest.fixture(params=["x509", "JWKS"])
def account(request, receiver, metadata, own_logging, monkeypatch):
    """Calls the front function of the recipe with a token: a valid one of its issuer, if no argument says otherwise."""
    section, files = recipe("Pass the user's identity on")
    code, published = files["functions/account/main.py"], lambda certificate: {"1": certificate.decode()}
    if request.param == "JWKS":
        pytest.importorskip("jwt", reason="left out: PyJWT is not installed")
        code += re.search(r"^```python jwks\n(.*?)^```$", section, re.M | re.S)[1]
        published = as_jwks
    issuer, stranger = Fake(), tokens.key_pair("stranger")[0]
    private, certificate = tokens.key_pair("issuer")
    issuer.answer = as_json(200, published(certificate))
    for name, value in {"ISSUER": ISSUER, "AUDIENCE": AUDIENCE, "CERTIFICATES": f"http://{issuer.address}"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ORDERS_URL", f"http://{receiver.address}")
    client = client_of(code, "account")

    def ask(claims=GOOD, key=private, token=None, lifetime=3600):
        now = int(time.time())
        claims = {"iat": now - 7200, **({"exp": now + lifetime} if lifetime else {}), **claims}
        token = token or jwt.encode(crypt.RSASigner.from_string(key, "1"), claims).decode()
        headers = {"Authorization": f"Bearer {token}", "X-User": "mallory"}
        return client.get("/orders", headers=headers)

    ask.issuer, ask.stranger = issuer, stranger
    yield ask
    issuer.close()


def test_the_recipe_passes_the_subject_of_a_verified_user_on(account, receiver):
    assert account().status_code == 200
    [asked] = receiver.requests
    assert asked.headers["X-User"] == "ada"
    claims = jwt.decode(asked.headers["Authorization"].removeprefix("Bearer "), verify=False)
    assert claims["email"] == "caller@example.com"  # the caller is the function, not the user


@pytest.mark.parametrize(
    "change",
    [
        {"lifetime": -60},
        {"lifetime": None},
        {"claims": {**GOOD, "aud": "another app"}},
        {"claims": {**GOOD, "iss": "https://another.example"}},
        {"claims": {"aud": AUDIENCE, "sub": "ada"}},
        {"claims": {"iss": ISSUER, "sub": "ada"}},
        {"claims": {"iss": ISSUER, "aud": AUDIENCE}},
        {"token": "nonsense"},
        {"token": f"{as_part({'alg': 'none', 'kid': '1'})}.{as_part({**GOOD, 'iat': 0, 'exp': 4e9})}."},
    ],
    ids=["expired", "no expiry", "another audience", "another issuer", "no issuer", "no audience", "no subject", "none", "unsigned"],
)
def test_the_recipe_refuses_every_other_token(account, receiver, change):
    assert account(**change).status_code == 401
    assert receiver.requests == []


def test_the_recipe_refuses_a_forged_token(account, receiver):
    assert account(key=account.stranger).status_code == 401
    assert receiver.requests == []


def test_the_recipe_says_when_it_cannot_verify(account, receiver):
    account.issuer.answer = as_json(500, {})
    assert account().status_code == 503
    assert receiver.requests == []


def test_google_auth_reads_a_jwks_with_pyjwt_only_and_then_takes_a_token_without_expiry(monkeypatch):
    """Therefore the recipe does not use it to verify such tokens."""
    pytest.importorskip("jwt", reason="left out: PyJWT is not installed")
    private, certificate = tokens.key_pair("issuer")
    token = jwt.encode(crypt.RSASigner.from_string(private, "1"), GOOD).decode()
    issuer = Fake()
    issuer.answer = as_json(200, as_jwks(certificate))

    def verified():
        where = f"http://{issuer.address}"
        return verify_token(token, Request(requests.Session()), audience=AUDIENCE, certs_url=where)

    try:
        assert verified() == GOOD
        monkeypatch.setitem(sys.modules, "jwt", None)  # as if it were not installed
        with pytest.raises(ImportError, match="pyjwt"):
            verified()
    finally:
        issuer.close()


# ---- What the function of a recipe sends, in a deployed clone


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    clone = LocalProject(copied(tmp_path_factory.mktemp("recipes") / "clone"))
    try:
        succeeded(clone.deploy_sh())
        clone.enter()
        yield clone
    finally:
        clone.end()


@pytest.fixture
def followed(deployed):
    """Follows a recipe, sets a variable, and deploys the result. Returns the clone."""

    def follow(question, variable, value):
        perform_all(recipe(question)[0], deployed)
        deployed.env[variable] = value
        succeeded(deployed.deploy_sh())
        return deployed

    before = dict(deployed.env)
    yield follow
    deployed.env = before
    as_it_was(deployed)


def token_of(request):
    [sent] = [value for name, value in request.headers.items() if name.lower() == "authorization"]
    return sent.removeprefix("Bearer ")


@pytest.mark.xdist_group("deployed recipes")
def test_a_service_outside_gets_the_key_and_no_token(followed, receiver):
    receiver.answer = as_json(200, {"sky": "blue"})
    clone = followed("Call a service outside, with a key", "WEATHER_URL", f"http://{receiver.address}")
    assert clone.request("GET", "search", "/weather").json() == {"weather": "blue"}
    [asked] = receiver.requests
    assert asked.headers["X-Api-Key"] == "the key"  # the value of the secret
    assert "eyJ" not in str(asked)  # and no token in any other header
    receiver.answer = as_json(500, {})
    assert clone.request("GET", "search", "/weather").status_code == 502
    receiver.answer = receiver.hang  # for a minute
    assert clone.request("GET", "search", "/weather").status_code == 504


@pytest.mark.xdist_group("deployed recipes")
def test_a_service_that_is_not_in_the_map_gets_a_token_for_it_alone(followed, receiver):
    receiver.answer, url = as_json(200, {"paid": True}), f"http://{receiver.address}"
    clone = followed("Call a service that is not in the map", "PAYMENTS_URL", url)
    assert clone.request("POST", "search", "/pay").json() == {"paid": True}
    [asked] = receiver.requests
    assert (asked.path, json.loads(asked.body)) == ("/charges", {"cents": 100})
    claims = jwt.decode(token_of(asked), verify=False)
    assert (claims["aud"], claims["email"]) == (url, clone.email("search"))


@pytest.mark.xdist_group("deployed recipes")
def test_a_task_is_made_with_an_access_token_and_calls_as_the_queue_s_account(followed, receiver):
    receiver.answer = as_json(200, {"name": "a task"})
    clone = followed("Do work later", "TASKS_URL", f"http://{receiver.address}/v2/later/tasks")
    made = clone.request("POST", "login", "/later")
    assert (made.status_code, made.json()) == (202, {"task": "a task"})
    [asked] = receiver.requests
    assert (asked.method, asked.path) == ("POST", "/v2/later/tasks")
    assert token_of(asked).startswith("ya29.")  # Google's access tokens begin like this, ID tokens do not
    account = f"later-queue@{clone.env['PROJECT_ID']}.iam.gserviceaccount.com"
    search = clone.url("search")
    as_account = {"serviceAccountEmail": account, "audience": search}
    call = {"httpMethod": "GET", "url": f"{search}/?q=password", "oidcToken": as_account}
    assert json.loads(asked.body) == {"task": {"httpRequest": call}}
    receiver.answer = as_json(403, {})  # as if login may not act as that service account
    refused = clone.request("POST", "login", "/later")
    assert (refused.status_code, "answered 403" in refused.json()["error"]) == (502, True)


def as_it_was(clone):
    for folder in (clone.root / "functions").iterdir():
        if not (ROOT / "functions" / folder.name).exists():
            succeeded(clone.deploy_sh("destroy", folder.name))
    for folder in ("functions", "environments"):
        shutil.rmtree(clone.root / folder)
        shutil.copytree(ROOT / folder, clone.root / folder)
    shutil.copy(ROOT / "trust-map", clone.root)


def test_actionlint_finds_nothing_in_the_workflows(tmp_path):
    if not shutil.which("actionlint"):
        pytest.skip("left out: actionlint is not installed")
    section = HOW_DO_I.partition("### Deploy from GitHub\n")[2].partition("\n### ")[0]
    [(_, workflow)] = numbered(re.sub(r"^```.*?^```$", "", section, flags=re.M | re.S))
    (tmp_path / "deploy.yml").write_text(workflow)
    for file in (tmp_path / "deploy.yml", *(ROOT / ".github" / "workflows").iterdir()):
        succeeded(run("actionlint", str(file)))


def test_the_tool_knows_no_function_of_this_app_by_name():
    names = r"user.profiles|\bsearch\b|\blogin\b(?!_|-)"
    tool = [ROOT / "deploy.sh", *(ROOT / "tool").rglob("*")]
    for file in tool:
        if (
            file.suffix in (".py", ".sh", ".awk", ".txt", "")
            and file.is_file()
            and "tests" not in file.parts
        ):
            for line in file.read_text(errors="replace").splitlines():
                if (
                    re.search(names, line)
                    and "gcloud auth login" not in line
                    and "re.search(" not in line
                ):
                    pytest.fail(f"{file.relative_to(ROOT)}: {line}")
