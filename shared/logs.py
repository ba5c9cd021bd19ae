"""Logs as Cloud Logging reads them: one JSON object a line, on standard output."""

import json
import logging
import os
import re
import sys
from datetime import datetime, timezone

from flask import has_request_context, request


class CloudLoggingFormatter(logging.Formatter):
    """Names the fields as https://cloud.google.com/logging/docs/structured-logging does."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, timezone.utc).isoformat()
        entry = {"severity": record.levelname, "time": when, "message": record.getMessage()}
        if trace := trace_id():
            project = os.environ.get("GOOGLE_CLOUD_PROJECT", "")
            entry["logging.googleapis.com/trace"] = f"projects/{project}/traces/{trace}"
        return json.dumps(entry)


def trace_id() -> str | None:
    """What all lines about one request have in common, in whichever function they are written."""
    found = re.match(r"00-([0-9a-f]{32})-", trace_headers().get("Traceparent", ""))
    return found and found[1]


def trace_headers() -> dict[str, str]:
    """What to hand on when this request makes a call of its own, so that it is one trace."""
    headers = request.headers if has_request_context() else {}
    return {name: headers[name] for name in ("Traceparent",) if name in headers}


def to_standard_output() -> None:
    """Sends every log record of this process, from INFO up, to standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(CloudLoggingFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
