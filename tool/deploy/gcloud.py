"""Runs gcloud: reads its JSON, makes changes, and waits out errors that pass by themselves."""

from __future__ import annotations

import asyncio
import enum
import json
import shlex
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tool.deploy import errors, processes
from tool.deploy.progress import Progress, Refused, say

LONGEST_PAUSE = 16  # seconds


class Answer(enum.Enum):
    """The answer to a question: it is so, it is not, or nobody can tell from here."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


Question = Callable[[], Awaitable[Answer]]


def answer(is_so: bool) -> Answer:
    return Answer.YES if is_so else Answer.NO


class Gcloud:
    """Calls gcloud. A command is given as in a shell, then argument by argument:

        await gcloud.change("gcloud run services delete", name, f"--project={project}")

    `patience`: how many seconds to wait at most for something to come true.
    """

    def __init__(
        self, program: tuple[str, ...], env: Mapping[str, str], progress: Progress,
        patience: float, dry_run: bool,
    ):  # fmt: skip
        self.program, self.env, self.progress = program, env, progress
        self.patience, self.dry_run = patience, dry_run
        # What a verb learns while it works; the meaning of an error may depend on it.
        self.project = ""
        self.accounts: tuple[str, ...] = ()
        self.accounts_made: list[float] = []  # seconds since 1970
        self.apis_known = False

    async def read(self, command: str, *arguments: str, quiet: bool = False) -> Any:
        """The command's output as JSON. Raises Refused; `quiet`: waits without saying so."""
        said = await self._attempt(command, (*arguments, "--format=json"), quiet=quiet)
        return json.loads(said or "null")

    async def look(self, command: str, *arguments: str) -> Any:
        """The same, for what may be hidden or switched off: None, at once, if it cannot be read."""
        finished = await self._run(command, (*arguments, "--format=json"))
        return None if finished.status else json.loads(finished.out or "null")

    async def text(self, command: str, *arguments: str) -> str | None:
        """What the command prints, for example a token; None if it fails."""
        finished = await self._run(command, arguments)
        return None if finished.status else finished.out.strip()

    async def change(
        self, command: str, *arguments: str, done: Question | None = None, about: str = ""
    ) -> None:
        """Changes something, or with --dry-run prints the command. Raises Refused.

        `done` asks whether the change was made although the command failed: its answer can get lost.
        """
        if self.dry_run:
            say(printed(command, *arguments))
        else:
            await self._attempt(command, arguments, done, about)

    async def comes_true(
        self, what: str, question: Question, about: str = "", began: float | None = None
    ) -> bool:
        """Asks until the answer is yes, or the patience (counted from `began`) ends."""
        began, pause = began or time.monotonic(), 1
        while await question() is not Answer.YES:
            if time.monotonic() - began >= self.patience:
                return False
            if pause == 1:
                self.progress.waiting(what, about)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        return True

    async def _run(self, command: str, arguments: tuple[str, ...]) -> processes.Finished:
        words = (*command.split()[1:], *arguments)
        return await processes.run(*self.program, *words, env=self.env)

    async def _attempt(
        self, command: str, arguments: tuple[str, ...],
        done: Question | None = None, about: str = "", quiet: bool = False,
    ) -> str:  # fmt: skip
        """The command's output. Waits out errors that pass by themselves, up to a time limit."""
        pause, began, said = 1, 0.0, ""
        while (finished := await self._run(command, arguments)).status:
            if done and await done() is Answer.YES:
                return ""
            began = began or time.monotonic()  # of the waiting: a build takes minutes itself
            patience = errors.patience(finished.err, self._situation())
            if time.monotonic() - began >= patience.seconds:
                text = errors.error_in(finished.err) or f"{command} failed, and did not say why"
                advice = patience.what if not patience.seconds else ""
                raise Refused(text, advice or errors.missing_role(finished.err, self.project))
            if patience.what != said and not quiet:
                self.progress.waiting(patience.what, about)
            said = patience.what
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        return finished.out

    def _situation(self) -> errors.Situation:
        return errors.Situation(self.youngest_account(), self.apis_known, self.accounts)

    def youngest_account(self) -> float:
        """The age in seconds of the youngest of the app's own service accounts."""
        return time.time() - max(self.accounts_made, default=0)


def printed(command: str, *arguments: str) -> str:
    """A command as a shell reads it. What a --dry-run does not know stays a variable."""
    return " ".join([command, *(quoted(word) for word in arguments)])


def quoted(word: str) -> str:
    if "$PROJECT_NUMBER" in word or "$YOU" in word:
        escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`")
        return f'"{escaped}"'
    return shlex.quote(word)
