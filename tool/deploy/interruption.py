"""Ctrl-C, SIGTERM and SIGHUP: first ends what was started, so that nothing changes afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """This signal came, and everything that was started has ended."""

    def __init__(self, number: signal.Signals):
        super().__init__(number.name)
        self.status = 128 + number


async def interruptible(work: Coroutine[Any, Any, int]) -> int:
    """Does the work, or raises Interrupted. A second signal does not disturb the clean-up."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    came: list[signal.Signals] = []

    def interrupt(number: signal.Signals) -> None:
        if not came:
            task.cancel()
        came.append(number)

    for number in heeded():
        loop.add_signal_handler(number, interrupt, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not came:
            raise
        raise Interrupted(came[0]) from None


def heeded() -> list[signal.Signals]:
    """The signals that were not ignored at the start, as nohup ignores SIGHUP."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


@contextlib.contextmanager
def while_typing() -> Iterator[None]:
    """While this waits for a person, nothing runs, and a signal may end it at once."""
    before = {number: signal.getsignal(number) for number in heeded()}
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
