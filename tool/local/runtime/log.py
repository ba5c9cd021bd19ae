"""The log of a function: an entry a line, as JSON."""

import datetime
import json

from tool.local.records import Record


class Entry(Record):
    message: str
    time: str = ""
    severity: str = "DEFAULT"


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()


def line(message: str, severity: str = "DEFAULT") -> str:
    """An entry of this moment, as it stands in the file."""
    return json.dumps({"severity": severity, "time": now(), "message": message})


def entry(line: str) -> Entry:
    """What a line of the file says; one that is no entry is a message itself."""
    try:
        said = json.loads(line)
        return Entry(
            str(said["message"]), str(said.get("time", "")), str(said.get("severity", "DEFAULT"))
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return Entry(line)
