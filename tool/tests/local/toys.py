"""Toy functions of a few lines, and a local project for them, which tests use through its commands."""

import functools
import json
import os
import shlex
import socket
import subprocess
import sys
import time

import google.auth.crypt
import requests

from tool.testing import ROOT, run, succeeded

REGION = "us-central1"

# Answers with the request that it got. The query says how: status, gzip, cookies, until, pieces, exit.
ECHO = """
import base64, gzip, os, pathlib, sys, time
import flask

def echo(request):
    if "exit" in request.args:
        os._exit(1)
    how, body = request.args, request.get_data()
    if "said" in how:
        print(how["said"])
    if "raise" in how:
        raise RuntimeError(how["raise"])
    if "inside" in how:      # says that it is in here, and stays until a file is there
        pathlib.Path(how["inside"]).touch()
        end = time.monotonic() + 30
        while not pathlib.Path(how["until"]).exists() and time.monotonic() < end:
            time.sleep(0.01)
    if "pieces" in how:
        return flask.Response((b"x" * 1000 for _ in range(int(how["pieces"]))), mimetype="text/plain")
    if "gzip" in how:
        return flask.Response(gzip.compress(b"packed", mtime=0), headers={"Content-Encoding": "gzip"})
    answer = flask.jsonify(
        method=request.method, target=request.environ["RAW_URI"], headers=list(request.headers.items()),
        body=base64.b64encode(body).decode(), environ=dict(os.environ), scheme=request.scheme,
        modules=[name for name in sys.modules if name.split(".")[0] == "tool"], root=request.script_root,
    )
    for number in range(int(how.get("cookies", 0))):
        answer.headers.add("Set-Cookie", f"c{number}={number}")
    return answer, int(how.get("status", 200))
"""
REQUIREMENTS = "functions-framework==3.10.2\n"


class Local:
    """A local project, used as in a shell that evaluated `deploy.sh env`."""

    def __init__(self, folder, root=ROOT):
        self.folder, self.root, self.tokens, self.known = folder, root, {}, {}
        self.state, self.secrets = folder / "state", folder / "secrets"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GCE_", "CLOUDSDK_"))}
        path = f"{root / 'tool' / 'local' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        places = {"LOCAL_STATE": str(self.state), "LOCAL_SECRETS": str(self.secrets)}
        self.env = {**kept, **places, "PATH": path}

    def command(self, *words):
        main = str(self.root / "tool" / "local" / "__main__.py")
        return [sys.executable, "-I", main, *words]

    def tool(self, *words):
        return run(*self.command(*words), env=self.env)

    def up(self, *names):
        self.known = {}
        succeeded(self.tool("up", "local-project", REGION, *names))

    def end(self):
        self.tool("down")

    def gcloud(self, line, check=True):
        """The output of a command. REGION in it becomes --region with the project's region."""
        result = run(
            "gcloud", *shlex.split(line.replace("REGION", f"--region={REGION}")), env=self.env
        )
        return succeeded(result).stdout.strip() if check else result

    def read(self, line):
        """What a command prints as JSON."""
        return json.loads(self.gcloud(f"{line} --format=json"))

    def refused(self, line):
        result = self.gcloud(line, check=False)
        assert result.returncode == 1, result.stdout + result.stderr
        assert "Traceback" not in result.stderr
        return result.stderr

    def email(self, name):
        return f"{name}-sa@local-project.iam.gserviceaccount.com"

    def member(self, name):
        return f"serviceAccount:{self.email(name)}"

    def source(self, name, code, requirements=REQUIREMENTS):
        folder = self.folder / "sources" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "main.py").write_text(code)
        (folder / "requirements.txt").write_text(requirements)
        return folder

    def deploy(self, name, code=ECHO, *flags, entry="echo", requirements=REQUIREMENTS):
        """Deploys a function. Returns the result of the command."""
        if not (self.state / "accounts" / f"{self.email(name)}.json").exists():
            self.gcloud(f"iam service-accounts create {name}-sa")
        return run(
            "gcloud", "run", "deploy", name, f"--source={self.source(name, code, requirements)}",
            f"--function={entry}", f"--region={REGION}", f"--service-account={self.email(name)}",
            "--quiet", "--format=none", *flags, env=self.env,
        )  # fmt: skip

    def let_in(self, member, name):
        self.gcloud(
            f"run services add-iam-policy-binding {name} REGION --member={member} --role=roles/run.invoker"
        )

    def put_out(self, member, name):
        self.gcloud(
            f"run services remove-iam-policy-binding {name} REGION --member={member} --role=roles/run.invoker"
        )

    def addresses(self):
        if not self.known:
            lines = (self.state / "addresses").read_text().splitlines()
            self.known = {name: (url, metadata) for name, url, metadata in map(str.split, lines)}
        return self.known

    def url(self, name):
        return self.addresses()[name][0]

    def token_url(self):
        return f"http://127.0.0.1:{json.loads((self.state / 'project.json').read_text())['token_port']}"

    def token(self, name, audience):
        """An ID token of a function's service account, by impersonation; each is made once."""
        if (name, audience) not in self.tokens:
            self.tokens[name, audience] = self.gcloud(
                f"auth print-identity-token --impersonate-service-account={self.email(name)}"
                f" --audiences={shlex.quote(audience)} --include-email"
            )
        return self.tokens[name, audience]

    def log(self, name, since=0, having=""):
        """A function's log from this character on, once it contains `having`."""
        end = time.monotonic() + 20
        while having not in (text := (self.state / "logs" / f"{name}.log").read_text()[since:]):
            assert time.monotonic() < end, f"{having} does not come in: {text}"
            time.sleep(0.02)
        return text


def call(url, token=None, path="/", method="GET", **more):
    headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **more.pop("headers", {})}
    return requests.request(
        method, url + path, headers=headers, timeout=20, allow_redirects=False, **more
    )


@functools.cache
def signer_of(key):
    """A signer for a private key or its PEM. Loaded only once, because that takes longer than signing."""
    signer = google.auth.crypt.RSASigner
    return signer.from_string(key) if isinstance(key, (str, bytes)) else signer(key)


def raw(url, *lines, body=b"", read_all=False):
    """Sends exactly these lines. Returns the status of the answer, or with `read_all` the whole answer."""
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        answer = connection.makefile("rb")
        if read_all:
            return answer.read()
        first = answer.readline().split()
    return int(first[1]) if first else None


def start(*command, **more):
    """Starts a process, which the test itself must end."""
    return subprocess.Popen(command, text=True, **more)
