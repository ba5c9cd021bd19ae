"""Logs as Cloud Logging reads them: one JSON object a line, on standard output."""

import json
import logging
import sys
from datetime import datetime, timezone


class CloudLoggingFormatter(logging.Formatter):
    """Names the fields as https://cloud.google.com/logging/docs/structured-logging does."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, timezone.utc).isoformat()
        message = record.getMessage()
        return json.dumps({"severity": record.levelname, "time": when, "message": message})


def to_standard_output() -> None:
    """Sends every log record of this process, from INFO up, to standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(CloudLoggingFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
