"""Writes the platform's own entries into the log of a function."""

import array
import asyncio
import contextlib
import fcntl
import json
import os
import termios
import time

from tool.local.runtime import log
from tool.local.state import STATE

PATIENCE = 0.2  # seconds to wait for an instance to read what was written


async def write(service: str, revision: str, severity: str, message: str, trace: str) -> None:
    """Writes an entry as if the instance had printed it; if no instance reads, into the file itself."""
    entry = {"severity": severity, "message": message, log.TRACE: trace}
    with contextlib.suppress(OSError):
        pipe = os.open(log.pipe_of(revision), os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(pipe, f"\n{json.dumps(entry)}\n".encode())
            await is_read(pipe)
            return
        finally:
            os.close(pipe)
    with contextlib.suppress(OSError):  # a log that cannot be written must not break the call
        with open(STATE / "logs" / f"{service}.log", "a", encoding="utf-8") as file:
            print(log.line(message, severity, trace), file=file)


async def is_read(pipe: int) -> None:
    """Waits until the entry is read, so that it is in the log before the answer comes."""
    end, left = time.monotonic() + PATIENCE, array.array("i", [1])
    while left[0] and time.monotonic() < end:
        fcntl.ioctl(pipe, termios.FIONREAD, left)
        await asyncio.sleep(0.0005)
