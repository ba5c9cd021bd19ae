"""What the platform writes into the log of a function."""

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

PATIENCE = 0.2  # seconds until an instance has read what was written


async def write(service: str, revision: str, severity: str, message: str, trace: str) -> None:
    """Writes an entry as if the instance had printed it; where none reads, into the file itself."""
    entry = {"severity": severity, "message": message, log.TRACE: trace}
    with contextlib.suppress(OSError):
        pipe = os.open(log.pipe_of(revision), os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(pipe, f"\n{json.dumps(entry)}\n".encode())
            await is_read(pipe)
            return
        finally:
            os.close(pipe)
    with contextlib.suppress(OSError):  # a log that cannot be written to breaks no call
        with open(STATE / "logs" / f"{service}.log", "a", encoding="utf-8") as file:
            print(log.line(message, severity, trace), file=file)


async def is_read(pipe: int) -> None:
    """So that who looks into the log after the answer finds the entry."""
    end, left = time.monotonic() + PATIENCE, array.array("i", [1])
    while left[0] and time.monotonic() < end:
        fcntl.ioctl(pipe, termios.FIONREAD, left)
        await asyncio.sleep(0.0005)
