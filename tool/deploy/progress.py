"""What a person sees while deploy.sh works: a line for each step, and below it what it waits for."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator


class Stop(Exception):
    """What ends deploy.sh: a sentence, and the exit status."""

    def __init__(self, sentence: str, status: int = 1):
        super().__init__(sentence)
        self.status = status


class Refused(Exception):
    """gcloud refused, and waiting does not help: its text, and a sentence about a missing role."""

    def __init__(self, text: str, role: str = ""):
        super().__init__(text)
        self.text, self.role = text, role


class Progress:
    def __init__(self, dry_run: bool = False):
        self.dry_run = dry_run
        self._line_is_open = False

    @contextlib.contextmanager
    def step(self, sentence: str) -> Iterator[None]:
        """Work with a line of its own, which ends with the time it took."""
        if self.dry_run:
            say(f"# {sentence}")
            yield
            return
        began = time.monotonic()
        print(f"  {sentence} ...", end="", flush=True)
        self._line_is_open = True
        try:
            yield
        except Refused as refused:
            self.refused(refused)
            raise Stop(
                f"{sentence}: not finished. What was done so far stays. Correct the error above,"
                " and run this again: it goes on from there"
            ) from None
        finally:
            open_line, self._line_is_open = self._line_is_open, False
        say(f" {time.monotonic() - began:.0f} s" if open_line else "")

    def end_line(self) -> None:
        """Ends the open line before anything else is printed."""
        if self._line_is_open:
            self._line_is_open = False
            say("")

    def waiting(self, what: str, about: str = "") -> None:
        """Prints what a step waits for; work that runs side by side says for which function."""
        self.note(f"waiting for {what}", about)

    def note(self, text: str, about: str = "") -> None:
        if self._line_is_open:
            print(f"\n    {text} ...", end="", file=sys.stderr, flush=True)
        else:
            error(f"  {about}: {text}" if about else f"  {text}")

    def refused(self, refused: Refused, about: str = "") -> None:
        self.end_line()
        error(f"  {about}: {refused.text}" if about else refused.text)
        if refused.role:
            error(f"  {refused.role}")


def say(text: str) -> None:
    print(text, flush=True)


def error(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
