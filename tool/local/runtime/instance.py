"""Keeps one instance of a function: starts functions-framework as on Cloud Run, writes its log.

Each line that the function prints becomes an entry with its time; a traceback is one entry.
"""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from types import FrameType

from tool.local import services
from tool.local.runtime import log, origin, processes, revisions
from tool.local.services import Revision

STARTING = 240  # seconds, like Cloud Run's default start-up probe
GOES_ON = ("Traceback (most recent call last)", "During handling of", "The above exception")


def main(name: str, port: str) -> None:
    revision = services.revision(name)
    if not revision:
        raise SystemExit(f"ERROR: there is no revision {name}")
    sys.exit(0 if Instance(revision, int(port)).run() else 1)


class Instance:
    """A process of functions-framework, from its start to its end."""

    def __init__(self, revision: Revision, port: int):
        self.revision, self.port = revision, port
        self.home = tempfile.mkdtemp(prefix="function-")
        self.child: subprocess.Popen[bytes] | None = None
        self.listens = self.told_to_end = False

    def run(self) -> bool:
        """Returns when it has ended, and whether it ever listened."""
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
            signal.signal(number, self.end)
        kept, (printed, prints) = processes.keep(self.revision.name), self.pipe()
        self.child = child = subprocess.Popen(
            revisions.command(self.revision),
            env=revisions.environment(self.revision, self.port, self.home),
            cwd=revisions.folder(self.revision.name),
            stdin=subprocess.DEVNULL,
            stdout=prints,
            stderr=subprocess.STDOUT,
            pass_fds=[processes.LOCK_FD],
        )
        os.close(prints)
        folder = revisions.folder(self.revision.name)
        told = partial(origin.named, folder=folder, origin=self.revision.origin)
        self.attend(child, Printed(printed, told))
        status = child.wait()
        kept.close()
        shutil.rmtree(self.home, ignore_errors=True)
        if self.listens and not self.told_to_end:
            write(
                log.line(f"The function's process has ended, with exit status {status}.", "ERROR")
            )
        return self.listens

    def pipe(self) -> tuple[int, int]:
        """The two ends of the pipe that the function prints into. It has a name, for the front end."""
        name = os.path.join(self.home, "log")
        try:
            os.mkfifo(name, 0o600)
            reads = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:  # a file system without named pipes
            return os.pipe()
        os.set_blocking(reads, True)
        log.note_pipe(self.revision.name, name)
        return reads, os.open(name, os.O_WRONLY)

    def attend(self, child: subprocess.Popen[bytes], printed: "Printed") -> None:
        """Reads its output to the end, and reports when it listens."""
        deadline = time.monotonic() + STARTING
        while printed.read(processes.LOOKS if self.listens else 0.005):
            if not processes.is_where_it_was(self.revision.name, processes.LOCK_FD):
                self.end(signal.SIGQUIT, None)  # its folder was moved, or removed
            if not self.listens and accepts(self.port):
                self.listens = True
                try:
                    processes.ready()
                except (
                    BrokenPipeError
                ):  # the deploy has ended meanwhile: nobody will ever call this
                    self.end(signal.SIGQUIT, None)
            elif not self.listens and time.monotonic() > deadline:
                problem = f"The function did not listen on its port within {STARTING} seconds."
                write(log.line(problem, "ERROR"))
                child.kill()

    def end(self, number: int, _: FrameType | None) -> None:
        processes.note_ending(self.revision.name)
        self.told_to_end = True
        if self.child and number == signal.SIGTERM:
            self.child.terminate()  # lets calls in progress finish
        else:
            shutil.rmtree(self.home, ignore_errors=True)
            os.killpg(0, signal.SIGKILL)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Printed:
    """Reads the function's output, and prints it as entries."""

    def __init__(self, source: int, told: Callable[[str], str]):
        """`told`: turns a line into one with the paths of the files that you edit."""
        self.source, self.rest, self.told = source, b"", told
        self.traceback: list[str] = []

    def read(self, wait: float) -> bool:
        """Reads what comes within `wait` seconds. False at the end."""
        if self.traceback:
            wait = 0.1  # a traceback comes line by line; it is complete when nothing follows
        if not select.select([self.source], [], [], wait)[0]:
            self.flush()
            return True
        content = os.read(self.source, 65536)
        *lines, self.rest = (self.rest + content).split(b"\n")
        if not content:
            lines, self.rest = [self.rest], b""
        elif len(self.rest) > 1_000_000:  # no line is that long
            lines, self.rest = [*lines, self.rest], b""
        for line in lines:
            self.take(self.told(line.decode("utf-8", "replace").rstrip("\r")))
        if not content:
            self.flush()
        return bool(content)

    def take(self, line: str) -> None:
        entry = entry_in(line)
        if self.traceback:
            inside = not line.strip() or line[0] in " \t" or line.startswith(GOES_ON)
            ended = not self.traceback[-1][:1].isspace() and len(self.traceback) > 1
            if not entry and (inside or not ended):
                self.traceback.append(line)
                return
            if ended:
                self.flush()
        if line.startswith(GOES_ON[0]):
            self.traceback = [line]
        elif line.strip():
            write(entry or log.line(line))

    def flush(self) -> None:
        if self.traceback:
            write(log.line("\n".join(self.traceback).rstrip(), "ERROR"))
            self.traceback = []


def write(line: str) -> None:
    """Writes in one step, because the front end writes into the same file."""
    os.write(1, f"{line}\n".encode())


def entry_in(line: str) -> str | None:
    """An entry that the function wrote itself, with a time in UTC."""
    try:
        written = json.loads(line)
        if isinstance(written, dict) and "message" in written:
            return json.dumps({**written, "time": log.time_of(written.get("time"))})
    except (ValueError, RecursionError):
        pass
    return None
