"""The calls that reached the platform: who called, what let them in, and what the call led to.

The last ones are kept in memory. All are in the request log, logs/requests.log, which contains no
token, no query and no body.
"""

import asyncio
import collections
import contextlib
import json
from collections.abc import Iterator

from tool.local.cloud_run.invoker_check import Outcome
from tool.local.policies import Grant
from tool.local.records import Record
from tool.local.state import STATE

KEPT = 2000
LOG = STATE / "logs" / "requests.log"


class Call(Record):
    """One call. What the caller chose (method, path) is kept as it came."""

    time: str  # when it came, in UTC
    outcome: Outcome
    caller: str  # the principal; "": nobody in particular
    detail: str  # why a token is not valid, or the platform serves nothing there
    grant: Grant | None  # what let it in
    function: str
    method: str
    path: str  # without the query
    status: int  # 0: the caller left before the answer
    by_function: bool  # or answered by the platform
    milliseconds: float
    trace: str
    span: str  # of this call, and of no other
    parent: str  # the span of the call that led to it, if any
    measured: bool = False  # made by deploy.sh verify

    @property
    def is_let_in(self) -> bool:
        return self.outcome in (Outcome.LET_IN, Outcome.CHECK_IS_OFF)


class Calls:
    def __init__(self) -> None:
        self.kept = collections.deque[Call](read(), maxlen=KEPT)
        self.noted = len(self.kept)  # so far, also those that are not kept any more
        self.changed = asyncio.Event()  # until the next call; then there is another event

    def after(self, number: int) -> list[Call]:
        """The calls that were noted after this many, as far as they are kept."""
        return list(self.kept)[max(0, len(self.kept) - (self.noted - number)) :]

    def note(self, call: Call) -> None:
        self.kept.append(call)
        self.noted += 1
        self.changed.set()
        self.changed = asyncio.Event()
        with contextlib.suppress(OSError), open(LOG, "a", encoding="utf-8") as file:
            print(as_json(call), file=file)


def as_json(content: object) -> str:
    return json.dumps(content, default=Record.as_dict)


def read() -> Iterator[Call]:
    """The calls in the request log; skips lines that are not calls."""
    try:
        lines = LOG.read_text("utf-8", "replace").splitlines()[-KEPT:]
    except OSError:
        return
    for text in lines:
        with contextlib.suppress(ValueError, TypeError, LookupError, RecursionError):
            content = json.loads(text)
            typed = {"outcome": Outcome(content["outcome"]), "grant": Grant.of(content["grant"])}
            call = Call.of(content | typed)
            if call and is_whole(call) and (not call.grant or is_whole(call.grant)):
                yield call


def is_whole(record: Record) -> bool:
    """Whether each field is what its type says: somebody may have edited the file."""
    return all(isinstance(getattr(record, f), kind) for f, kind in type(record).__annotations__.items())
