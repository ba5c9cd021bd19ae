"""Keeps one instance of a function: starts functions-framework as on Cloud Run, writes its log.

What the function prints becomes an entry a line, with its time; a traceback is one entry.
"""

import datetime
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

from tool.local.runtime import processes, revisions

STARTING = 240  # seconds, as Cloud Run's default start-up probe
GOES_ON = ("Traceback (most recent call last)", "During handling of", "The above exception")


def main(revision: str, port: str) -> None:
    lock, home = int(processes.LOCK_FD), tempfile.mkdtemp(prefix="function-")
    child, asked_to_end = None, []

    def end(number, _):
        processes.note_ending(revision)
        asked_to_end.append(number)
        if child and number == signal.SIGTERM:
            child.terminate()  # what is being answered is answered
        else:
            shutil.rmtree(home, ignore_errors=True)
            os.killpg(0, signal.SIGKILL)

    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        signal.signal(number, end)
    child = subprocess.Popen(
        revisions.command(revision),
        env=revisions.environment(revision, int(port), home),
        cwd=revisions.folder(revision),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[lock],
    )
    log, listens = Log(child.stdout.fileno()), False
    deadline = time.monotonic() + STARTING
    while log.read(0.02 if not listens else None):
        if not listens and accepts(int(port)):
            listens = True
            try:
                processes.ready()
            except BrokenPipeError:  # the deploy was ended meanwhile: nobody will ever call this
                end(signal.SIGQUIT, None)
        elif not listens and time.monotonic() > deadline:
            write(
                entry(
                    f"The function did not listen on its port within {STARTING} seconds.", "ERROR"
                )
            )
            child.kill()
    status = child.wait()
    shutil.rmtree(home, ignore_errors=True)
    if listens and not asked_to_end:
        write(entry(f"The function's process has ended, with exit status {status}.", "ERROR"))
    sys.exit(1 if not listens else 0)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Log:
    """Reads what the function prints, and prints it as entries."""

    def __init__(self, source: int):
        self.source, self.rest, self.traceback = source, b"", []

    def read(self, wait: float | None) -> bool:
        """Takes what comes within `wait` seconds. False at the end."""
        if self.traceback:
            wait = 0.1  # a traceback comes line by line; it is whole when nothing follows
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
            self.take(line.decode("utf-8", "replace").rstrip("\r"))
        if not content:
            self.flush()
        return bool(content)

    def take(self, line: str) -> None:
        if self.traceback:
            inside = not line.strip() or line[0] in " \t" or line.startswith(GOES_ON)
            ended = not self.traceback[-1][:1].isspace() and len(self.traceback) > 1
            if inside or not ended:
                self.traceback.append(line)
                return
            self.flush()
        if line.startswith(GOES_ON[0]):
            self.traceback = [line]
        elif line.strip():
            write(entry(line))

    def flush(self) -> None:
        if self.traceback:
            write(entry("\n".join(self.traceback).rstrip(), "ERROR"))
            self.traceback = []


def write(line: str) -> None:
    """At one stroke: the front end writes into the same file."""
    os.write(1, f"{line}\n".encode())


def entry(line: str, severity: str = "DEFAULT") -> str:
    """One line of JSON: what the function wrote as such stays, and gets a time."""
    now = datetime.datetime.now(datetime.UTC).isoformat()
    try:
        written = json.loads(line)
        if isinstance(written, dict) and "message" in written:
            return line if "time" in written else json.dumps({**written, "time": now})
    except ValueError:
        pass
    return json.dumps({"severity": severity, "time": now, "message": line})
