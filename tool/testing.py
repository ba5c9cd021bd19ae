"""A pytest plugin for the tests of any app: it calls the deployed app as any caller.

pyproject.toml loads it with -p tool.testing. The fixtures: `project` (the app, deployed once by
deploy.sh itself), `clone` (a copy of the repository that a test may change).
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import requests

from tool.deploy.google_cloud import without_stand_in
from tool.deploy.trust_map import parsed
from tool.local.runtime import ports

ROOT = pathlib.Path(__file__).resolve().parent.parent
Result = subprocess.CompletedProcess[str]

# In a shell that ran "deploy.sh env --local", gcloud is the stand-in. The tests need the real one, if there is one.
os.environ["PATH"] = without_stand_in(os.environ["PATH"])
os.environ.pop("LOCAL_STATE_OF", None)  # from that shell, too


def trust_map(app: pathlib.Path = ROOT) -> dict[str, set[str]]:
    """Who may call whom, according to the app's trust-map: function to callers."""
    lines, _ = parsed((app / "trust-map").read_text())
    return {line.name: set(line.invoked_by) - {"-"} for line in lines}


TRUST_MAP = trust_map()
FUNCTIONS = tuple(TRUST_MAP)


def is_let_in(caller: str | None, name: str) -> bool:
    """Whether the trust map lets the caller (None: nobody in particular) call the function."""
    return "anonymous" in TRUST_MAP[name] or caller in TRUST_MAP[name]


def variable(name: str) -> str:
    """How a function's variables begin, as deploy.sh names them."""
    return name.upper().replace("-", "_")


def urls(address: str) -> dict[str, str]:
    """The environment of a function that finds all others at one address."""
    return {f"{variable(name)}_URL": f"http://{address}" for name in FUNCTIONS}


def run(
    *command: str, env: dict[str, str] | None = None, cwd: pathlib.Path = ROOT
) -> Result:
    """Runs a command to its end. The result has returncode, stdout and stderr."""
    with subprocess.Popen(
        command,
        env=env,
        cwd=cwd,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            said = process.communicate(timeout=180)
        except subprocess.TimeoutExpired:  # a loop or a hang is a failure
            process.terminate()  # deploy.sh ends what it has started
            raise
    return subprocess.CompletedProcess(command, process.returncode, *said)


def succeeded(result: Result) -> Result:
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cloud",
        action="store_true",
        help="run the end-to-end tests against what ./deploy.sh env names; they leave profiles behind",
    )
    parser.addoption(
        "--running",
        action="store_true",
        help="use the local project of this clone, deployed where it is not current; profiles stay in it",
    )
    parser.addoption(
        "--full", action="store_true", help="run the load tests at full size: it takes some minutes"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "project" in getattr(item, "fixturenames", ()):  # all in one process, which deploys it once
            item.add_marker(pytest.mark.xdist_group("project"))
    if config.getoption("--cloud"):
        wanted = [item for item in items if item.get_closest_marker("deployed")]
        config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
        items[:] = wanted


class Project:
    """What "./deploy.sh" made, as you see it from a shell."""

    target: tuple[str, ...] = ()
    patience = 420  # seconds within which a changed binding must take effect

    def __init__(self, root: pathlib.Path = ROOT):
        self.root = root
        self.tokens: dict[tuple[str, str | None], str] = {}
        self.answers: list[str] = []
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("GCE_", "GOOGLE_"))}

    def deploy_sh(self, *words: str) -> Result:
        result = run(str(self.root / "deploy.sh"), *words, *self.target, env=self.env)
        self.answers.append(result.stdout + result.stderr)
        return result

    def note(self, answer: requests.Response, *_: object, **__: object) -> None:
        """Keeps the answers, which are checked for secrets at the end."""
        self.answers.append(f"{answer.headers} {answer.text}")

    def enter(self) -> None:
        """eval "$(./deploy.sh env)" """
        exported = self.deploy_sh("env")
        assert exported.returncode == 0, exported.stderr
        shell = run("bash", "-c", f"{exported.stdout}\nenv -0", env=self.env)
        self.env = dict(pair.split("=", 1) for pair in shell.stdout.split("\0") if pair)

    def gcloud(self, line: str, check: bool = True) -> Any:
        """The output of a gcloud command. $VARIABLES are the shell's."""
        result = run("bash", "-c", f"gcloud {line}", env=self.env)
        if check:
            assert result.returncode == 0, result.stderr
            return result.stdout.strip()
        return result

    def url(self, name: str) -> str:
        return self.env[variable(name) + "_URL"]

    def email(self, name: str) -> str:
        return self.env[variable(name) + "_ACCOUNT"]

    def token(self, caller: str, audience: str | None) -> str:
        """An ID token of "you" or of a function's service account, from gcloud; each is made once."""
        if (caller, audience) not in self.tokens:
            self.tokens[caller, audience] = self.new_token(caller, audience)
        return self.tokens[caller, audience]

    def new_token(self, caller: str, audience: str | None) -> str:
        if caller == "you":
            return str(self.gcloud("auth print-identity-token"))
        words = (
            f"auth print-identity-token --impersonate-service-account={self.email(caller)}"
            f" --audiences={shlex.quote(audience or '')} --include-email"
        )
        return str(self.gcloud(words))

    def request(
        self,
        method: str,
        name: str,
        path: str = "/",
        caller: str | None = "you",
        headers: Any = (),
        **content: Any,
    ) -> requests.Response:
        """Calls a function as `caller`; None: without a token."""
        headers = dict(headers)
        if caller:
            audience = None if caller == "you" else self.url(name)
            headers["Authorization"] = f"Bearer {self.token(caller, audience)}"
        return requests.request(
            method,
            self.url(name) + path,
            headers=headers,
            timeout=20,
            allow_redirects=False,
            hooks={"response": self.note},
            **content,
        )

    def eventually(self, call: Callable[[], requests.Response], status: int) -> requests.Response:
        """The answer of `call` once it has this status, because a changed binding takes time in the cloud."""
        deadline = time.monotonic() + self.patience
        while (answer := call()).status_code != status and time.monotonic() < deadline:
            time.sleep(0.05)
        assert answer.status_code == status
        return answer


class LocalProject(Project):
    """What "./deploy.sh --local" made."""

    target, patience = ("--local",), 0

    def __init__(self, root: pathlib.Path = ROOT, state: pathlib.Path | None = None):
        super().__init__(root)
        self.state = state or root / ".local"
        self.env.pop("LOCAL_STATE", None)
        if state:
            self.env["LOCAL_STATE"] = str(state)

    def end(self) -> None:
        """Ends its processes, faster than destroy does."""
        python = str(self.root / ".venv" / "bin" / "python")
        run(python, "-I", str(self.root / "tool" / "local" / "__main__.py"), "down", env=self.env)

    def serving(self, name: str) -> str:
        """The name of the revision that serves now."""
        service = json.loads((self.state / "services" / f"{name}.json").read_text())
        return str(service["serving"]["revision"])

    def worker(self, name: str) -> int:
        """The id of the process that serves a function."""
        pid = (self.state / "run" / self.serving(name)).read_text().split()[0]
        for _ in ("functions-framework", "its worker"):
            pid = run("pgrep", "-P", pid).stdout.split()[0]
        return int(pid)

    def log(self, name: str, since: int = 0, having: str = "") -> str:
        """A function's log from this character on, once it matches the pattern `having`."""
        end = time.monotonic() + 20
        while True:
            text = (pathlib.Path(self.state) / "logs" / f"{name}.log").read_text()[since:]
            if re.search(having, text):
                return text
            assert time.monotonic() < end, f"{having} does not come in: {text}"
            time.sleep(0.02)


def assert_no_secret(text: str, tokens: Iterable[str] = ()) -> None:
    """Checks that no token, password, hash or key of these tests was logged or answered."""
    signatures = [token.rpartition(".")[2] for token in tokens]
    for secret in ("a pass phrase", "long enough", "scrypt:", "PRIVATE KEY", "eyJ", *signatures):
        assert secret not in text


def keeps_no_secret(project: LocalProject) -> None:
    """After all tests: none of their secrets is in a log, an answer or an output."""
    logs = [log.read_text() for log in (project.state / "logs").iterdir()]
    assert logs and project.answers
    for text in (*logs, *project.answers):
        assert_no_secret(text, project.tokens.values())


@pytest.fixture(scope="session")
def project(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    if request.config.getoption("--cloud"):
        deployed = Project()
        deployed.enter()
        yield deployed
        return
    running = request.config.getoption("--running")
    project = LocalProject(state=None if running else tmp_path_factory.mktemp("local") / "state")
    try:
        if not running:
            project.env["LOCAL_GROUPS"] = str(project.state.parent / "groups")  # in which nobody is in any group
        succeeded(project.deploy_sh())
        project.enter()
        yield project
        if not running:
            keeps_no_secret(project)
    finally:
        if not running:
            project.deploy_sh("destroy")


def copied(folder: pathlib.Path) -> pathlib.Path:
    """A copy of the repository, with the packages that are installed already."""
    left_out = shutil.ignore_patterns(
        ".venv*", ".local*", ".secrets", ".groups", ".build", ".git", ".*_cache"
    )
    shutil.copytree(ROOT, folder, ignore=left_out)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


@pytest.fixture
def clone(tmp_path: pathlib.Path) -> Iterator[LocalProject]:
    """A second local project, of a copy of the repository that a test may change."""
    clone = LocalProject(copied(tmp_path / "clone"))
    yield clone
    clone.end()


def free_port() -> int:
    """A free port, which no outgoing connection will take."""
    return ports.set_aside(f"a test {uuid.uuid4()}", set())
