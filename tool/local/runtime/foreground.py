"""Runs a deployed function in this terminal, so that breakpoint() works. The others keep running."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from tool.local import services
from tool.local.runtime import origin, ports, processes, revisions
from tool.local.services import Revision, Service
from tool.local.state import STATE


def main(name: str = "") -> None:
    service = services.service(name)
    revision = services.revision(service.serving.revision) if service.serving else None
    if not revision:
        raise SystemExit(f"ERROR: {name or 'NAME'} is not deployed on this machine: ./deploy.sh run NAME --local")
    home = tempfile.mkdtemp(prefix="function-")
    try:
        run(service, revision, home)
        # If it was deployed again or deleted meanwhile, there is nothing to bring back.
        serving = services.service(name).serving
        if serving and serving.revision == revision.name:
            revisions.start_and_serve(revision.name)
            print(f"{name} runs in the background again", file=sys.stderr)
    except revisions.StartFailed as error:
        raise SystemExit(f"ERROR: {error}") from None
    finally:
        shutil.rmtree(home, ignore_errors=True)


def run(service: Service, revision: Revision, home: str) -> None:
    """Replaces the background process until this one ends."""
    port = ports.set_aside(f"{STATE} {revision.name} foreground", set())
    env = {**revisions.environment(revision, port, home), "CLOUD_RUN_TIMEOUT_SECONDS": "0"}
    env |= from_clone(revision)
    del env["LOG_EXECUTION_ID"]  # output appears unchanged, including the debugger's prompt
    processes.stop(revision.name)
    lock = processes.hold(revision.name)
    if not lock:
        raise SystemExit(f"ERROR: somebody else has just started {service.name}. Try again")
    folder, command = revisions.folder(revision.name), revisions.command(revision)
    kept = processes.keep(revision.name)
    child = subprocess.Popen(command, env=env, cwd=folder, pass_fds=[lock.fileno()])
    processes.note(lock, child.pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the function by itself
    for number in (signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, lambda *_: child.terminate())
    closed = threading.Event()

    def leave_terminal(*_: object) -> None:
        """The terminal was closed: printing must not fail now."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        closed.set()

    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup does
        signal.signal(signal.SIGHUP, leave_terminal)
    while child.poll() is None and not ports.answers(port):
        time.sleep(0.02)
    if child.poll() is None:
        revisions.serve(revision, port, timeout=None)
        how = "Ctrl-C ends this, and it runs in the background again"
        print(f"{service.name} runs here: {service.url}. {how}", file=sys.stderr)
    wait(child, closed, revision.name, lock.fileno())
    kept.close()
    lock.close()


def from_clone(revision: Revision) -> dict[str, str]:
    """Makes the function run from the files that you edit, if they are what is deployed, so that a
    debugger shows those."""
    own, shared = (pathlib.Path(root) for root in origin.roots(revision.origin or os.devnull))
    copied = revisions.folder(revision.name)
    for there, here in ((copied / "shared", shared), (copied, own)):
        for file in sorted(there.rglob("*.py")):
            is_shared = there == copied and file.is_relative_to(copied / "shared")
            if not is_shared and not is_same(file, here / file.relative_to(there)):
                return {}
    return {"FUNCTION_SOURCE": str(own / "main.py"), "PYTHONPATH": str(shared.parent), "PYTHONDONTWRITEBYTECODE": "1"}


def is_same(file: pathlib.Path, other: pathlib.Path) -> bool:
    try:
        return file.read_bytes() == other.read_bytes()
    except OSError:
        return False


def wait(child: subprocess.Popen[bytes], closed: threading.Event, name: str, lock: int) -> None:
    """Waits for the function to end; ends it if the terminal was closed or the clone was moved."""
    number = signal.SIGINT
    while child.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(processes.LOOKS)
            return
        if closed.is_set() or not processes.is_where_it_was(name, lock):
            child.send_signal(number)
            number = signal.SIGKILL
