"""The log of a function: one entry a line, as JSON."""

import contextlib
import datetime
import json
import pathlib

from tool.local.records import Record
from tool.local.state import STATE


class Entry(Record):
    message: str
    time: str = ""
    severity: str = "DEFAULT"
    trace: str = ""  # projects/ID/traces/TRACE


SEVERITIES = "DEFAULT DEBUG INFO NOTICE WARNING ERROR CRITICAL ALERT EMERGENCY".split()
TRACE = "logging.googleapis.com/trace"


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()


def time_of(said: object) -> str:
    """The time that a function gave its entry, in UTC; this moment, if that is not a time."""
    with contextlib.suppress(ValueError, OverflowError):
        moment = datetime.datetime.fromisoformat(str(said))
        if moment.tzinfo:
            return moment.astimezone(datetime.UTC).isoformat()
    return now()


def line(message: str, severity: str = "DEFAULT", trace: str = "") -> str:
    """An entry of this moment, as a line of the file."""
    of_call = {TRACE: trace} if trace else {}
    return json.dumps({"severity": severity, "time": now(), "message": message, **of_call})


def note_of_pipe(revision: str) -> pathlib.Path:
    """The file that names the pipe an instance prints into. The front end prints into it, too, which
    keeps the lines in order."""
    return STATE / "locks" / f"log.{revision}"


def note_pipe(revision: str, pipe: str) -> None:
    note_of_pipe(revision).write_text(json.dumps([str(STATE), pipe]), "utf-8")


def pipe_of(revision: str) -> str:
    """The pipe. Raises OSError, also in a copied folder, whose note names the original's pipe."""
    try:
        folder, pipe = json.loads(note_of_pipe(revision).read_text("utf-8"))
    except ValueError:
        folder = ""
    if folder != str(STATE):
        raise FileNotFoundError
    return str(pipe)


def entry(line: str) -> Entry:
    """The entry in a line of the file; a line that is not an entry is itself the message."""
    try:
        said = json.loads(line)
        time, severity, trace = (str(said.get(key, "")) for key in ("time", "severity", TRACE))
        severity = severity.upper() if severity.upper() in SEVERITIES else "DEFAULT"
        return Entry(str(said["message"]), time, severity, trace)
    except (ValueError, TypeError, KeyError, AttributeError):
        return Entry(line)


def entries(name: str, containing: str = "") -> list[Entry]:
    """What this function has logged, in lines that contain this text."""
    try:
        lines = (STATE / "logs" / f"{name}.log").read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    found = (entry(line) for line in lines if containing in line)
    return [entry for entry in found if entry.message.strip()]
