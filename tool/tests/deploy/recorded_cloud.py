"""A fake Google Cloud that records commands, for deploy.sh with the toy app."""

import json
import os
import pathlib
import shlex
import sys

from tool.testing import ROOT, run

TOY = pathlib.Path(__file__).with_name("toy")
RECORDER = pathlib.Path(__file__).with_name("recorder.py")
NAMES = ("front", "back", "closed")
READING = (
    "list", "describe", "get-iam-policy", "get-ancestors-iam-policy", "print-identity-token", "get", "read", "log",
    "version", "list-grantable-roles",
)  # fmt: skip


class Cloud:
    """deploy.sh with the toy app, on a fake Google Cloud that records commands."""

    def __init__(self, folder, app):
        self.folder, self.app = folder, app
        # The python3 on PATH may be a slow script. This one heeds PYTHON* variables, as gcloud's Python does.
        start = shlex.join([os.path.realpath(sys.executable), "-S", str(RECORDER)])
        for name in ("gcloud", "curl"):
            self.program(name, f'#!/bin/sh\nexec {start} "$0" "$@"\n')
        self.env = {**os.environ, "RECORD": str(folder), "PATIENCE": "0", "PATIENCE_FOR_BUILDER": "0"}
        self.env["PATH"] = f"{folder}:{os.environ['PATH']}"

    def program(self, name, text):
        """Puts a program with this name on PATH."""
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def deploy_sh(self, *words):
        options = (f"--app={self.app}", "--project=p-1", "--region=us-east1")
        return run(str(ROOT / "deploy.sh"), *options, *words, env=self.env)

    def answer(self, words, found=None, text="", stderr="", status=0):
        """Sets what gcloud says, from now on, to every command that contains these words."""
        stdout = text if found is None else json.dumps(found)
        self._plant("answers", {"words": words, "stdout": stdout, "stderr": stderr, "status": status})

    def fault(self, words, error, lost=False):
        """Makes one such command fail with this error. `lost`: it makes the change anyway."""
        self._plant("faults", {"words": words, "error": error, "lost": lost})

    def _plant(self, kind, content):
        """Replaces an earlier one for the same words."""
        folder = self.folder / kind
        folder.mkdir(exist_ok=True)
        there = {json.loads(f.read_text())["words"]: f for f in folder.iterdir()}
        file = there.get(content["words"], folder / f"{len(there):03}")
        file.write_text(json.dumps(content))

    def commands(self):
        file = self.folder / "commands"
        return list(map(json.loads, file.read_text().splitlines())) if file.exists() else []

    def changes(self):
        return [c for c in self.commands() if not set(READING) & set(c)]

    def forget(self):
        (self.folder / "commands").unlink()

    # ---- what is there

    def read(self, name):
        return json.loads((self.folder / name).read_text())

    def write(self, name, content):
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(json.dumps(content))

    def enable(self, *apis):
        """Enables APIs, as somebody did before the deploy."""
        there = self.read("enabled") if (self.folder / "enabled").exists() else []
        self.write("enabled", [*there, *(f"{api}.googleapis.com" for api in apis)])

    def databases(self):
        return [file.name for file in (self.folder / "databases").glob("*")]

    def change_service(self, name, change):
        """Changes a service by hand. `change` gets it in the form that gcloud shows."""
        service = self.read(f"services/{name}")
        change(service)
        self.write(f"services/{name}", service)

    def members(self, name):
        """Whom the policy of a function lets in."""
        return {m for b in self.read(f"policies/{name}")["bindings"] for m in b["members"]}

    def grant(self, *bindings):
        """Grants roles on the project: (member, role) or (member, role, title of a condition)."""
        file = self.folder / "granted"
        granted = self.read("granted") if file.exists() else []
        self.write("granted", [*granted, *(binding(*one) for one in bindings)])


def binding(member, role, title=""):
    """A binding as gcloud shows it."""
    condition = {"condition": {"title": title, "expression": "true"}} if title else {}
    return {"role": role, "members": [member], **condition}


def policy(*bindings):
    """A policy as gcloud shows it, of (member, role) or (member, role, title of a condition)."""
    return {"bindings": [binding(*one) for one in bindings], "etag": "x", "version": 1}


def service(name, region, made_by, **more):
    """A service with this made-by label, as gcloud shows it."""
    labels = {"cloud.googleapis.com/location": region, "made-by": made_by}
    return {
        "metadata": {"name": name, "namespace": "1", "labels": labels, "annotations": {}, **more},
        "spec": {"template": {"metadata": {"name": "x"}, "spec": {"serviceAccountName": "x"}}},
        "status": {"traffic": [{"latestRevision": True, "percent": 100}]},
    }
