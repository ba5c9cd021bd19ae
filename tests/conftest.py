"""What the tests of this app have in common: somebody at the front door, and fakes behind it."""

import random
import subprocess

import pytest
import requests

from names import LOGIN

from local.testing import free_port


@pytest.fixture(scope="session")
def address(project):
    """Where login is open to a browser: the proxy runs as a person would run it."""
    port = free_port()
    process = subprocess.Popen(
        ["gcloud", "run", "services", "proxy", "login"]
        + [f"--region={project.env['REGION']}", f"--port={port}"],
        env=project.env,
        text=True,
        stderr=subprocess.PIPE,
    )
    said = [process.stderr.readline(), process.stderr.readline()]
    assert said[0].startswith("Proxying to Cloud Run service [login] in project [local-project]")
    assert said[1] == f"http://127.0.0.1:{port} proxies to {project.url(LOGIN)}\n"
    yield f"http://localhost:{port}"
    process.terminate()
    process.wait(30)
    process.stderr.close()


@pytest.fixture
def open_door(project):
    """The binding that lets login call search, for one test."""
    flags = (
        f"--member=serviceAccount:{project.email(LOGIN)} --role=roles/run.invoker --region=$REGION"
    )
    project.gcloud(f"run services add-iam-policy-binding search {flags}")
    yield
    project.gcloud(f"run services remove-iam-policy-binding search {flags}", check=False)


@pytest.fixture
def receiver():
    """A server that answers everything, and notes what it was asked."""
    from fakes import Fake, as_json

    fake = Fake()
    fake.answer = as_json(200, {})
    yield fake
    fake.close()


class Visitor:
    """Somebody in front of login, with a name of their own for each test."""

    def __init__(self, project, username):
        self.project, self.username, self.password = project, username, "a pass phrase"
        token = project.token("you", None)
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {token}"
        self.session.hooks["response"] = project.note

    def sign_up(self, **changes):
        account = {"username": self.username, "password": self.password, "display_name": "Ada"}
        return self.post("/signup", {**account, **changes})

    def log_in(self, **changes):
        return self.post("/", {"username": self.username, "password": self.password, **changes})

    def search(self, q):
        return self.session.get(self.project.url(LOGIN) + "/search", params={"q": q}, timeout=20)

    def post(self, path, body=None, **content):
        content = content or {"json": body}
        return self.session.post(self.project.url(LOGIN) + path, timeout=20, **content)


@pytest.fixture
def visitor(project):
    visitor = Visitor(project, f"v-{random.randrange(10**12)}")
    yield visitor
    visitor.session.close()
