"""The toy app on this machine, deployed by deploy.sh itself."""

import contextlib
import json
import os
import queue
import re
import shlex
import signal
import subprocess
import threading

from tool.testing import ROOT, run, succeeded


class Local:
    """The toy app on this machine, in a folder of its own."""

    def __init__(self, app):
        self.app, self.state = app, app / ".local"
        self.env = {k: v for k, v in os.environ.items() if k not in ("LOCAL_STATE", "PREFIX")}

    def command(self, *words):
        return [str(ROOT / "deploy.sh"), "--local", f"--app={self.app}", *words]

    def deploy_sh(self, *words):
        return run(*self.command(*words), env=self.env)

    def gcloud(self, line):
        env = {**self.env, "LOCAL_STATE": str(self.state)}
        return run("bash", "-c", f"{shlex.quote(str(ROOT / 'tool/local/bin/gcloud'))} {line}", env=env)

    def set_policy(self, name, *members):
        bindings = [{"role": "roles/run.invoker", "members": members}] if members else []
        policy = shlex.quote(json.dumps({"bindings": bindings}))
        succeeded(
            self.gcloud(
                f"run services set-iam-policy {name} /dev/stdin --region=us-central1 <<< {policy}"
            )
        )

    def members(self, name):
        shown = self.gcloud(
            f"run services get-iam-policy {name} --region=us-central1 --format=json"
        )
        bindings = json.loads(shown.stdout).get("bindings", []) if shown.returncode == 0 else []
        return {member for binding in bindings for member in binding["members"]}

    def faults(self, *faults):
        faults = [dict(zip(("match", "times", "error"), f, strict=True)) for f in faults]
        (self.state / "faults.json").write_text(json.dumps(faults))

    def end(self):
        if not self.state.exists():
            return
        run(str(ROOT / ".venv/bin/python"), "-I", str(ROOT / "tool/local/__main__.py"), "down",
            env={**self.env, "LOCAL_STATE": str(self.state)})  # fmt: skip


# Titles of conditions: they may contain what separates columns elsewhere.
TITLES = ("day|night", "|", "a||b|", 'it\'s "x" ä|', "two words,\ta tab|")


def under(title):
    """The flag for a condition with this title, quoted for a shell."""
    return "--condition=" + shlex.quote(f"title={title},expression=true")


def url(local, name):
    return re.search(rf"^{name} (\S+)", (local.state / "addresses").read_text(), re.M)[1]


def start(local, *words):
    """Starts deploy.sh. It writes its process id into the file PID before it starts anything else."""
    env = {**local.env, "PID": str(local.app / "pid")}
    script = f'echo $$ > "$PID"; exec {shlex.join(local.command(*words))}'
    return subprocess.Popen(
        ["bash", "-c", script], env=env, text=True, start_new_session=True,
        preexec_fn=heed_signals, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def heed_signals():
    """Heeds signals, as at a terminal. If the tests run in the background, Ctrl-C or SIGHUP may be ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def after_change(local, number, then):
    """Makes the stand-in run `then` in a shell, once this number of commands have changed something."""
    (local.state / "after_change.json").write_text(json.dumps({"number": number, "then": then}))


@contextlib.contextmanager
def merged(process):
    """The lines of both streams of a process. Ends the process if the test ends early."""
    lines = queue.Queue()

    def read(stream):
        for line in stream:
            lines.put(line)
        lines.put(None)

    readers = [threading.Thread(target=read, args=[s]) for s in (process.stdout, process.stderr)]
    for reader in readers:
        reader.start()
    try:
        yield iter(lambda: lines.get(timeout=60), None)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
        for reader in readers:
            reader.join(30)
        process.stdout.close()
        process.stderr.close()
