"""Logs as Cloud Logging reads them: one JSON object a line, on standard output."""

import contextvars
import json
import logging
import os
import re
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from flask import has_request_context, request

CAUSED = "The above exception was the direct cause of the following exception"
MEANWHILE = "During handling of the above exception, another exception occurred"

log = logging.getLogger(__name__)


class CloudLoggingFormatter(logging.Formatter):
    """Names the fields as https://cloud.google.com/logging/docs/structured-logging does."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat()
        severity = logging.getLevelName(min(max(record.levelno // 10, 1), 5) * 10)
        # The message may be an exception, whose text may quote what a user sent.
        told = record.msg if isinstance(record.msg, BaseException) else None
        message = type(told).__name__ if told else record.getMessage()
        entry = {"severity": severity, "time": when, "message": message}
        traces = [stack_trace(record.exc_info[1])] if record.exc_info and record.exc_info[1] else []
        if traces or record.stack_info:
            # The field that Error Reporting groups errors by.
            entry["stack_trace"] = "\n\n".join([*traces, record.stack_info or ""]).strip()
        if trace := trace_id():
            project = os.environ.get("GOOGLE_CLOUD_PROJECT", "")
            entry["logging.googleapis.com/trace"] = f"projects/{project}/traces/{trace}"
        return json.dumps(entry)


def stack_trace(error: BaseException, seen: tuple[int, ...] = ()) -> str:
    """As Python prints it, without the errors' messages: they may quote what a user sent."""
    seen = (*seen, id(error))  # causes can form a circle
    frames = "".join(traceback.format_tb(error.__traceback__))
    trace = f"Traceback (most recent call last):\n{frames}{type(error).__qualname__}"
    for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        trace += f"\n\nIn this group:\n\n{stack_trace(inner, seen)}"
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is None or id(before) in seen:
        return trace
    between = CAUSED if error.__cause__ else MEANWHILE
    return f"{stack_trace(before, seen)}\n\n{between}:\n\n{trace}"


def trace_id() -> str | None:
    """The id that all log lines about one request share, whichever function writes them."""
    found = re.match(r"00-([0-9a-f]{32})-", trace_headers().get("Traceparent", ""))
    return found[1] if found else None


def trace_headers() -> dict[str, str]:
    """The headers to send with a call that this request makes, so that both are in one trace."""
    trace = request.headers.get("Traceparent") if has_request_context() else None
    return {"Traceparent": trace} if trace else {}


class Handler(logging.StreamHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        # Python's own prints the failed entry, on many lines, and it may quote what a user sent.
        name, where = type(sys.exc_info()[1]).__name__, f"{record.pathname}:{record.lineno}"
        message = f"A log entry could not be written: {name} at {where}"
        print(json.dumps({"severity": "ERROR", "message": message}), file=self.stream, flush=True)


def to_standard_output() -> None:
    """Sends every log record of this process, from INFO up, to standard output."""
    handler = Handler(sys.stdout)
    handler.setFormatter(CloudLoggingFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings quote whole URLs
    threading.excepthook = log_crash
    carry_traces_into_threads()


def carry_traces_into_threads() -> None:
    """Keeps work that a request does in a thread, or in a pool that outlives it, in its trace.

    Python starts a thread with an empty context. Here each thread, and each task of a pool, gets a
    copy of the context that started it, as with OpenTelemetry.
    """
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    def start_in_context(thread):
        context, run = contextvars.copy_context(), thread.run
        thread.run = lambda: context.run(run)
        start(thread)

    def submit_in_context(pool, task, /, *values, **named):
        return submit(pool, contextvars.copy_context().run, task, *values, **named)

    threading.Thread.start = start_in_context  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submit_in_context  # type: ignore[method-assign]


def log_crash(crash: threading.ExceptHookArgs) -> None:
    """Logs one entry for a thread that ended with an error; Python would print many lines."""
    if crash.exc_type is not SystemExit:  # SystemExit: the thread ended on purpose
        log.critical("A thread crashed: %s", crash.exc_type.__name__, exc_info=crash.exc_value)
