"""A person who uses login, with a new name for each test."""

import os
import random
import subprocess

import requests

from names import LOGIN
from tool.testing import ROOT


class Visitor:
    def __init__(self, project):
        self.project, self.password = project, "a pass phrase"
        self.username = f"v-{random.randrange(10**12)}"
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {project.token('you', None)}"
        self.session.hooks["response"] = project.note

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.session.close()

    def sign_up(self, **changes):
        account = {"username": self.username, "password": self.password, "display_name": "Ada"}
        return self.post("/signup", {**account, **changes})

    def log_in(self, **changes):
        return self.post("/", {"username": self.username, "password": self.password, **changes})

    def get(self, path, **content):
        return self.session.get(self.project.url(LOGIN) + path, timeout=20, **content)

    def post(self, path, body=None, **content):
        content = content or {"json": body}
        return self.session.post(self.project.url(LOGIN) + path, timeout=20, **content)


def verify(other, url, token=None):
    """What functions/NAME/verify prints about login's call of another function."""
    config = f'header = "Authorization: Bearer {token}"\n' if token else ""
    result = subprocess.run(
        [ROOT / "functions" / LOGIN.replace("-", "_") / "verify", other],
        env={"PATH": os.environ["PATH"], "URL": url},
        input=config,
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.strip()
