"""The calls that reached the platform: who called, what let them in, and what the call led to.

The last ones are kept in memory. All are in the request log, logs/requests.log, which contains no
token, no query and no body.
"""

import asyncio
import collections
import contextlib
import itertools
import json
from collections.abc import Iterator

from tool.local.cloud_run.invoker_check import Outcome
from tool.local.records import Record
from tool.local.state import STATE

KEPT = 2000
LOG = STATE / "logs" / "requests.log"


class Call(Record):
    """One call. What the caller chose (method, path) is kept as it came."""

    number: int
    time: str  # when it came, in UTC
    outcome: Outcome
    caller: str  # the principal; "": nobody in particular
    detail: str  # why a token is not valid; the role that let a call in
    resource: str  # the resource whose policy has that role
    function: str
    method: str
    path: str  # without the query
    status: int  # 0: the caller left before the answer
    by_function: bool  # or answered by the platform
    milliseconds: float
    trace: str
    span: str  # of this call
    parent: str  # the span of the call that led to it, if any
    measured: bool = False  # made by deploy.sh verify


class Calls:
    def __init__(self) -> None:
        self.kept = collections.deque[Call](read(), maxlen=KEPT)
        self._lines = collections.deque[str](map(line, self.kept), maxlen=KEPT)
        self.changed = asyncio.Event()
        self._number = self.kept[-1].number if self.kept else 0

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def after(self, number: int) -> list[str]:
        """The calls after the one with this number, each as JSON."""
        new = itertools.takewhile(lambda call: call.number > number, reversed(self.kept))
        return list(itertools.islice(self._lines, len(self.kept) - sum(1 for _ in new), None))

    def note(self, call: Call) -> None:
        self.kept.append(call)
        self._lines.append(text := line(call))
        self.changed.set()
        self.changed = asyncio.Event()  # for those who wait for the next one
        with contextlib.suppress(OSError), open(LOG, "a", encoding="utf-8") as file:
            print(text, file=file)


def line(call: Call) -> str:
    return json.dumps(call.as_dict())


def read() -> Iterator[Call]:
    """The calls in the request log; skips lines that are not calls."""
    try:
        lines = LOG.read_text("utf-8", "replace").splitlines()[-KEPT:]
    except OSError:
        return
    for text in lines:
        with contextlib.suppress(ValueError, TypeError):
            content = json.loads(text)
            call = Call.of(content | {"outcome": Outcome(content["outcome"])})
            if call:
                yield call
