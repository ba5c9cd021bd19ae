"""The filter of gcloud logging read: terms KEY OPERATOR VALUE, which must all match."""

import datetime
import re
from collections.abc import Callable

from tool.local.gcloud.command import Failed
from tool.local.gcloud.output import value
from tool.local.records import Json, Record
from tool.local.runtime.log import SEVERITIES

TERM = re.compile(r"""\s*(AND\s+)?([\w./-]+|"[^"]*")\s*(!=|>=|<=|=~|!~|=|>|<|:)\s*("(?:[^"\\]|\\.)*"|[^\s"()]+)""")
KEYS = re.compile(
    r"trace|severity|timestamp|textPayload|logName|resource\.type|httpRequest\.(status|requestMethod|requestUrl)"
    r"|resource\.labels\.(service_name|configuration_name|location|project_id)"
)
COMPARED: dict[str, Callable[[Json, Json], bool]] = {
    "=": lambda found, wanted: bool(found == wanted),
    "!=": lambda found, wanted: bool(found != wanted),
    "<": lambda found, wanted: bool(found < wanted),
    ">": lambda found, wanted: bool(found > wanted),
    "<=": lambda found, wanted: bool(found <= wanted),
    ">=": lambda found, wanted: bool(found >= wanted),
    ":": lambda found, wanted: str(wanted) in str(found),
    "=~": lambda found, wanted: re.search(wanted, found) is not None,
    "!~": lambda found, wanted: re.search(wanted, found) is None,
}


class Term(Record):
    key: str
    operator: str
    wanted: str

    def fits(self, entry: dict[str, Json]) -> bool:
        found = value(entry, self.key) or ("DEFAULT" if self.key == "severity" else "")
        compared = COMPARED[self.operator]
        if self.operator in ("=~", "!~"):
            return compared(str(found), self.wanted)
        if self.operator == ":":
            return compared(str(found).lower(), self.wanted.lower())
        try:
            return compared(rank(self.key, str(found)), rank(self.key, self.wanted))
        except ValueError:  # an entry without a time, or without a status
            return False


def terms_of(text: str) -> list[Term]:
    """The terms of a filter. Raises Failed for what only the real gcloud understands."""
    found, place = [], 0
    while text[place:].strip():
        match = TERM.match(text, place)
        if not match or not (place == 0 or match[1] or match[0][0].isspace()) or (place == 0 and match[1]):
            raise unknown(text[place:].strip())
        key, wanted = match[2].strip('"'), match[4]
        if wanted[0] == '"':
            wanted = re.sub(r"\\(.)", r"\1", wanted[1:-1])
        term = Term(key, match[3], wanted)
        if not KEYS.fullmatch(key) or not comparable(term):
            raise unknown(match[0].strip())
        found.append(term)
        place = match.end()
    return found


def unknown(part: str) -> Failed:
    known = (
        "trace, severity, timestamp, textPayload, logName, httpRequest, resource.type and resource.labels,"
        " with AND between"
    )
    return Failed(f"the local stand-in does not know this in a filter: {part} (it knows {known})")


def comparable(term: Term) -> bool:
    """Whether the value suits its key and operator; only times, severities and statuses have an order."""
    try:
        if term.operator in ("=~", "!~"):
            re.compile(term.wanted)
        elif term.operator != ":":
            rank(term.key, term.wanted)
    except (ValueError, re.error):
        return False
    return term.operator not in ("<", ">", "<=", ">=") or term.key in ("severity", "timestamp", "httpRequest.status")


def rank(key: str, text: str) -> Json:
    """The value to compare by; upper and lower case are the same."""
    if key == "severity":
        return SEVERITIES.index(text.upper())
    if key == "httpRequest.status":
        return int(text)
    if key == "timestamp":
        moment = datetime.datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    return text.lower()
