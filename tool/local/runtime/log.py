"""The log of a function: an entry a line, as JSON."""

import datetime
import json

from tool.local.records import Record


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


def entry(line: str) -> Entry:
    """What a line of the file says; one that is no entry is a message itself."""
    try:
        said = json.loads(line)
        time, severity, trace = (str(said.get(key, "")) for key in ("time", "severity", TRACE))
        return Entry(str(said["message"]), time, severity or "DEFAULT", trace)
    except (ValueError, TypeError, KeyError, AttributeError):
        return Entry(line)
