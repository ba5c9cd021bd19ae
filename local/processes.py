"""The processes of the local project: started, ended, and told apart from everybody else's.

Each holds a lock on run/NAME for as long as it lives. A process id alone could, after a
reboot, be that of a stranger.
"""

import fcntl
import os
import signal
import subprocess
import sys
import threading

from local.project import ROOT, STATE

READY_FD = os.environ.pop("READY_FD", None)


def names() -> list[str]:
    return sorted(file.name for file in (STATE / "run").glob("*"))


def _lock_file(name: str):
    (STATE / "run").mkdir(exist_ok=True)
    return open(STATE / "run" / name, "a+")


def running(name: str) -> bool:
    with _lock_file(name) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def start(name: str, *arguments: str, env: dict | None = None, cwd=None) -> None:
    """Starts `local/__main__.py NAME ARGUMENT...` and returns when it says that it is ready.

    Raises ChildProcessError if it ends before that. Its output goes to logs/NAME.log.
    """
    (STATE / "logs").mkdir(exist_ok=True)
    command = [sys.executable, "-I", "-u", str(ROOT / "local" / "__main__.py")]
    read_end, write_end = os.pipe()
    with _lock_file(name) as lock, open(STATE / "logs" / f"{name}.log", "ab") as log:
        # Fails where it runs already. The child inherits the lock together with the file.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child = subprocess.Popen(
            [*command, *(arguments or [name])],
            env={**(env or os.environ), "READY_FD": str(write_end), "LOCAL_STATE": str(STATE)},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock.fileno(), write_end],
            start_new_session=True,
        )
        lock.truncate(0)
        lock.write(str(child.pid))
    os.close(write_end)
    with open(read_end) as said:
        if said.read() != "ready":  # the end of the file comes with the end of the process
            raise ChildProcessError(name)


def ready() -> None:
    """Called by the process that was started, once it answers."""
    with open(int(READY_FD), "w") as report:
        report.write("ready")


def stop(name: str) -> None:
    """Ends the process, if it runs, and returns when it is gone."""
    if not running(name):
        return
    with _lock_file(name) as lock:
        lock.seek(0)
        pid = int(lock.read())
        os.kill(pid, signal.SIGQUIT)  # at once: gunicorn's graceful end takes two seconds
        overdue = threading.Timer(10, os.killpg, [pid, signal.SIGKILL])
        overdue.daemon = True
        overdue.start()
        fcntl.flock(lock, fcntl.LOCK_EX)  # free when the process and its workers have ended
        overdue.cancel()
