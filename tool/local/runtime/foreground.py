"""Runs a deployed function in this terminal, so that breakpoint() works. The others go on around it."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time

from tool.local import state
from tool.local.runtime import ports, processes, revisions
from tool.local.state import STATE


def main(name: str = "") -> None:
    service = state.read(f"services/{name}") if name else None
    if not service or "serving" not in service:
        raise SystemExit(f"ERROR: {name or 'NAME'} is not deployed on this machine: ./deploy.sh run NAME --local")
    revision = service["serving"]["revision"]
    port = ports.set_aside(f"{STATE} {revision} foreground", set())
    home = tempfile.mkdtemp(prefix="function-")
    try:
        env = {**revisions.environment(revision, port, home), "CLOUD_RUN_TIMEOUT_SECONDS": "0"}
        del env["LOG_EXECUTION_ID"]  # what is printed comes as it is, and the debugger's prompt, too
    except revisions.StartFailed as error:
        raise SystemExit(f"ERROR: {error}") from None
    processes.stop(revision)
    lock = processes.hold(revision)
    if not lock:
        raise SystemExit(f"ERROR: somebody else has just started {name}. Try again")
    child = subprocess.Popen(
        revisions.command(revision),
        env=env,
        cwd=revisions.folder(revision),
        pass_fds=[lock.fileno()],
    )
    processes.note(lock, child.pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the function by itself
    for number in (signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, lambda *_: child.terminate())
    while child.poll() is None and not ports.answers(port):
        time.sleep(0.02)
    if child.poll() is None:
        revisions.serve(name, revision, port, timeout=None)
        how = "Ctrl-C ends that, and it runs in the background again"
        print(f"{name} runs here: {service['url']}. {how}", file=sys.stderr)
    child.wait()
    lock.close()
    shutil.rmtree(home, ignore_errors=True)
    # Meanwhile it may have been deployed again, or deleted: then there is nothing to bring back.
    serving = (state.read(f"services/{name}") or {}).get("serving", {})
    if serving.get("revision") == revision:
        revisions.bring_back(name)
        print(f"{name} runs in the background again", file=sys.stderr)
