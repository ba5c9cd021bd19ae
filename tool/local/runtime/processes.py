"""Starts and ends the processes of the local project, and tells them apart from all others.

Each holds a lock on run/NAME for as long as it lives, and so do its children. A process id alone
could be a stranger's after a reboot. The process that keeps an instance also holds
locks/keeper.NAME, and ends when its folder was moved or removed.
"""

import contextlib
import fcntl
import os
import signal
import sys
import time
from io import TextIOWrapper

from tool.local import state
from tool.local.state import ROOT, STATE

READY_FD = int(os.environ.pop("READY_FD", -1))
LOCK_FD = int(os.environ.pop("LOCK_FD", -1))  # the children of a process have to inherit it
LOOKS = 2  # seconds between two checks that the folder is still there


def names() -> list[str]:
    return sorted(file.name for file in (STATE / "run").glob("*") if file.is_file())


def hold(name: str) -> TextIOWrapper | None:
    """The locked file of a process, or None if that process runs already."""
    (STATE / "run").mkdir(parents=True, exist_ok=True)
    file = open(STATE / "run" / name, "a+")
    for _ in range(50):  # somebody may be checking at this very moment whether it runs
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            time.sleep(0.01)
    file.close()
    return None


def note(file: TextIOWrapper, pid: int) -> None:
    file.truncate(0)
    file.write(f"{pid}\n{ascii(str(STATE))}\n")
    file.flush()


def is_here(name: str) -> bool:
    """Whether what runs under this name was started in this folder, not before it was moved."""
    lines = (state.text_of(STATE / "run" / name) or "").splitlines()
    return len(lines) < 2 or lines[1] == ascii(str(STATE))  # an older version noted no folder


def is_where_it_was(name: str, lock: int) -> bool:
    """Whether the file that a process has locked is still in the folder that it was started for."""
    try:
        return os.path.samestat(os.stat(STATE / "run" / name), os.fstat(lock))
    except OSError:
        return False


def keep(name: str) -> TextIOWrapper:
    """A lock held by the process that keeps a function, but by none of its children."""
    (STATE / "locks").mkdir(parents=True, exist_ok=True)
    file = open(STATE / "locks" / f"keeper.{name}", "a")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def is_kept(name: str) -> bool:
    """Whether the keeper is still there. Without it, nobody reads what the function prints."""
    try:
        with open(STATE / "locks" / f"keeper.{name}") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True  # of an older version
    except BlockingIOError:
        return True
    return False


def note_ending(name: str) -> None:
    """Called by a process that was told to end and may take a while."""
    with contextlib.suppress(OSError), open(STATE / "run" / name, "a") as file:
        file.write("ending")


def is_ending(name: str) -> bool:
    try:
        return (STATE / "run" / name).read_bytes().endswith(b"ending")
    except OSError:
        return False


def running(name: str) -> bool:
    try:
        with open(STATE / "run" / name) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def start(name: str, *arguments: str, log: str | None = None) -> None:
    """Starts `tool/local/__main__.py ARGUMENT...` and returns when it says that it is ready.

    Raises ChildProcessError if it ends before that. Its output goes to logs/LOG.log.
    """
    import subprocess  # slow to load, and most commands of a deploy start nothing

    (STATE / "logs").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-I", "-u", "-X", "utf8", str(ROOT / "tool" / "local" / "__main__.py"), *arguments]
    read_end, write_end = os.pipe()
    lock = hold(name)
    if not lock:
        raise ChildProcessError(f"{name} runs already")
    with lock, open(STATE / "logs" / f"{log or name}.log", "ab") as output:
        inherited = {"READY_FD": str(write_end), "LOCK_FD": str(lock.fileno())}
        child = subprocess.Popen(
            command,
            env={**os.environ, **inherited, "LOCAL_STATE": str(STATE)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[lock.fileno(), write_end],  # the child inherits the lock with the file
            start_new_session=True,
        )
        note(lock, child.pid)
    os.close(write_end)
    with open(read_end) as said:
        if said.read() != "ready":  # the end of the file comes with the end of the process
            raise ChildProcessError(name)


def ready() -> None:
    """Called by the process that was started, once it answers."""
    with open(READY_FD, "w") as report:
        report.write("ready")


def pid_of(name: str) -> int | None:
    """The process that `start` started under this name, if it runs."""
    if not running(name):
        return None
    try:
        return int((STATE / "run" / name).read_text().split()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return None  # it has just been started, or has just ended


def send(name: str, number: signal.Signals) -> None:
    """Sends a signal to the process; one that does not run needs none."""
    if pid := pid_of(name):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def stop(name: str, patience: float = 10) -> None:
    """Ends the process with all its children, and returns when they are gone."""
    send(name, signal.SIGQUIT)  # at once, without waiting for calls in progress
    wait_or_kill(name, patience)
    (STATE / "run" / name).unlink(missing_ok=True)


def kill_group(pid: int) -> None:
    """Ends it with its children; one that runs in a terminal has no group of its own."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)
            return


def wait(name: str) -> None:
    """Returns when the process and its children have ended."""
    try:
        with open(STATE / "run" / name, "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
    except FileNotFoundError:
        pass


def wait_or_kill(name: str, patience: float) -> None:
    """Waits for a process that is ending, and kills it if it does not end by itself."""
    import threading  # slow to load, and most commands of a deploy end nothing

    if pid := pid_of(name):
        overdue = threading.Timer(patience if is_kept(name) else 0, kill_group, [pid])
        overdue.daemon = True
        overdue.start()
        wait(name)
        overdue.cancel()
