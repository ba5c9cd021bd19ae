"""The log of a function: an entry a line, as JSON."""

import array
import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import termios
import time

from tool.local.records import Record
from tool.local.state import STATE


class Entry(Record):
    message: str
    time: str = ""
    severity: str = "DEFAULT"
    trace: str = ""  # projects/ID/traces/TRACE


TRACE = "logging.googleapis.com/trace"


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()


def line(message: str, severity: str = "DEFAULT", trace: str = "") -> str:
    """An entry of this moment, as it stands in the file."""
    of_call = {TRACE: trace} if trace else {}
    return json.dumps({"severity": severity, "time": now(), "message": message, **of_call})


def note_of_pipe(revision: str) -> pathlib.Path:
    """Names the pipe that an instance prints into. The front end does, too: so the lines come in the
    order in which they were written."""
    return STATE / "locks" / f"log.{revision}"


def note_pipe(revision: str, pipe: str) -> None:
    note_of_pipe(revision).write_text(json.dumps([str(STATE), pipe]), "utf-8")


def pipe_of(revision: str) -> str:
    """The pipe. Raises OSError; of a folder that was copied, the note is the other one's."""
    try:
        folder, pipe = json.loads(note_of_pipe(revision).read_text("utf-8"))
    except ValueError:
        folder = ""
    if folder != str(STATE):
        raise FileNotFoundError
    return str(pipe)


def write(service: str, revision: str, severity: str, message: str, trace: str) -> None:
    """Writes an entry as if the instance had printed it; where none reads, into the file itself."""
    entry = {"severity": severity, "message": message, TRACE: trace}
    with contextlib.suppress(OSError):
        pipe = os.open(pipe_of(revision), os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(pipe, f"\n{json.dumps(entry)}\n".encode())
            wait_until_read(pipe)
            return
        finally:
            os.close(pipe)
    with contextlib.suppress(OSError):  # a log that cannot be written to breaks no call
        with open(STATE / "logs" / f"{service}.log", "a", encoding="utf-8") as file:
            print(line(message, severity, trace), file=file)


def wait_until_read(pipe: int, patience: float = 0.2) -> None:
    """So that who looks into the log after the answer finds the entry."""
    end, left = time.monotonic() + patience, array.array("i", [1])
    while left[0] and time.monotonic() < end:
        fcntl.ioctl(pipe, termios.FIONREAD, left)
        time.sleep(0.0005)


def entry(line: str) -> Entry:
    """What a line of the file says; one that is no entry is a message itself."""
    try:
        said = json.loads(line)
        time, severity, trace = (str(said.get(key, "")) for key in ("time", "severity", TRACE))
        return Entry(str(said["message"]), time, severity or "DEFAULT", trace)
    except (ValueError, TypeError, KeyError, AttributeError):
        return Entry(line)
