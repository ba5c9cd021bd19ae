"""Calls functions as each caller, and says whether the platform let the caller in."""

from __future__ import annotations

import enum
import itertools
import pathlib
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from tool.deploy import processes
from tool.deploy.app import Caller, Kind
from tool.deploy.cloud import principal
from tool.deploy.gcloud import Answer, answer
from tool.deploy.processes import side_by_side
from tool.deploy.target import Target

SETS = ("group:", "domain:", "principalSet:")  # their members are not visible here
LONGEST = 30  # seconds for one call
DENIED = "Your client does not have permission"  # on the platform's own pages
NOT_FOUND = "was not found on this server"


class Said(enum.Enum):
    """What the platform did with a call."""

    IN = "in"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Expected(enum.Enum):
    IN = "in"
    REFUSED = "refused"
    EITHER = "either"  # a set decides, and its members are not visible here


class How(enum.Enum):
    """How the answer is known."""

    CALLED = "called"
    THROUGH_THE_CALLER = "through the caller"
    BY_POLICY = "by policy"  # not called
    BEHIND_INGRESS = "behind ingress"  # calls from here end before the policy decides


class Verdict(enum.Enum):
    OK = "ok"
    WRONG = "wrong"
    INHERITED = "inherited"
    UNKNOWN = "unknown"


class Call(NamedTuple):
    said: Said
    status: str  # HTTP's, or none


class Cell(NamedTuple):
    """One caller, one function."""

    caller: str
    function: str
    expected: Expected
    said: Said
    how: How
    status: str
    verdict: Verdict


class Column(NamedTuple):
    """A function to measure."""

    name: str
    members: tuple[str, ...]  # whom the map lets in, as a policy names them
    policy_is_right: bool
    open_to_the_internet: bool  # by its ingress


def expected(member: str, members: Iterable[str]) -> Expected:
    """What the map says about a member (allUsers: nobody in particular; "": unknown)."""
    if not member:
        return Expected.EITHER
    allowed = set(map(principal, members))
    if principal("allUsers") in allowed or principal(member) in allowed:
        return Expected.IN
    if member != "allUsers" and any(one.startswith(SETS) for one in members):
        return Expected.EITHER
    return Expected.REFUSED


def fits(said: Said, wanted: Expected) -> bool:
    return said.value == wanted.value or (wanted is Expected.EITHER and said is not Said.UNKNOWN)


class Measuring:
    """Measures calls. `your_token`: an ID token or None; `you_inherit`: you may call every function."""

    def __init__(
        self, target: Target, work: pathlib.Path,
        your_token: str | None, you_inherit: bool,
    ):  # fmt: skip
        self.target, self.work = target, work
        self.your_token, self.you_inherit = your_token, you_inherit
        self.began = time.monotonic()  # one time limit for all calls
        self._pages = itertools.count()

    async def row(
        self, caller: Caller, columns: list[Column], hook: pathlib.Path | None
    ) -> list[Cell]:
        """The cells of a caller. `hook`: the caller's own script to ask through it."""
        wanted = [expected(self.target.member(caller), column.members) for column in columns]
        token = await self.token_of(caller)
        if token is not None:
            first = await self.call(token, [column.name for column in columns])
            return await side_by_side(
                *(
                    self.called(caller, column, want, call, token)
                    for column, want, call in zip(columns, wanted, first, strict=True)
                )
            )
        return await side_by_side(
            *(self.not_called(caller, c, want, hook) for c, want in zip(columns, wanted, strict=True))
        )

    async def called(
        self, caller: Caller, column: Column, wanted: Expected, first: Call, token: str
    ) -> Cell:
        """Calls again for as long as a correct policy has not taken effect."""
        inherits = caller.kind is Kind.YOU and self.you_inherit

        async def again() -> Call:
            [call] = await self.call(token, [column.name])
            return call

        call = first
        if not column.open_to_the_internet and first.status == "404":
            return self.behind_ingress(caller, column, wanted)
        if not (inherits and first.said is Said.IN):
            call = await self.settled(caller, column, wanted, first, again)
        verdict = Verdict.WRONG
        if fits(call.said, wanted):
            verdict = Verdict.OK
        elif call.said is Said.UNKNOWN:
            verdict = Verdict.UNKNOWN
        elif inherits:
            verdict = Verdict.INHERITED
        return Cell(caller.name, column.name, wanted, call.said, How.CALLED, call.status, verdict)

    def behind_ingress(self, caller: Caller, column: Column, wanted: Expected) -> Cell:
        verdict = Verdict.OK if column.policy_is_right else Verdict.UNKNOWN
        how = How.BEHIND_INGRESS
        return Cell(caller.name, column.name, wanted, Said.UNKNOWN, how, "404", verdict)

    async def not_called(
        self, caller: Caller, column: Column, wanted: Expected, hook: pathlib.Path | None
    ) -> Cell:
        """If you may not act as the caller: what the caller itself can tell, else the policy."""
        if hook and caller.name != column.name:

            async def again() -> Call:
                return await self.ask_through(hook, caller.name, column.name)

            call = await self.settled(caller, column, wanted, await again(), again)
            if call.said is not Said.UNKNOWN:
                verdict = Verdict.OK if fits(call.said, wanted) else Verdict.WRONG
                how = How.THROUGH_THE_CALLER
                return Cell(caller.name, column.name, wanted, call.said, how, "", verdict)
        said = Said.UNKNOWN
        if column.policy_is_right and wanted is not Expected.EITHER:
            said = Said(wanted.value)
        verdict = Verdict.OK if column.policy_is_right else Verdict.UNKNOWN
        return Cell(caller.name, column.name, wanted, said, How.BY_POLICY, "", verdict)

    async def settled(
        self, caller: Caller, column: Column, wanted: Expected, first: Call,
        again: Callable[[], Awaitable[Call]],
    ) -> Call:  # fmt: skip
        """The first call that is as the map says; else the last one before the time limit."""
        calls = [first]
        if fits(first.said, wanted) or not column.policy_is_right:
            return first

        async def comes_true() -> Answer:
            calls.append(await again())
            return answer(fits(calls[-1].said, wanted))

        refuse = wanted is Expected.REFUSED
        what = f"refuse {caller.name}" if refuse else f"let {caller.name} in"
        sentence = f"{column.name} to {what}"
        await self.target.gcloud.comes_true(sentence, comes_true, began=self.began)
        return calls[-1]

    async def token_of(self, caller: Caller) -> str | None:
        """An ID token of the caller, "" for nobody in particular; None if you cannot have one.

        Its audience is gcloud's own, which every service accepts (for service accounts this is
        inferred: gcloud functions call does so). This measures the bindings; the calls that the
        functions make themselves show that the audiences are right.
        """
        if caller.kind is Kind.EVERYONE:
            return ""
        if caller.kind is Kind.YOU:
            return self.your_token
        kind, _, email = self.target.member(caller).partition(":")
        if kind != "serviceAccount":
            return None  # nobody can call as another person, or as a group
        return await self.target.gcloud.text(
            "gcloud auth print-identity-token", f"--impersonate-service-account={email}",
            "--include-email",
        )  # fmt: skip

    async def call(self, token: str, names: list[str]) -> list[Call]:
        """Calls them all with one curl, which uses the system's certificates and proxy.

        OPTIONS changes nothing in a function that follows HTTP. It does run the function's code.
        """
        pages = [f"page.{next(self._pages)}" for _ in names]
        # The token is sent on standard input: ps shows arguments to everyone.
        config = [f'header = "Authorization: Bearer {token}"'] if token else []
        for name, page in zip(names, pages, strict=True):
            config += [f'url = "{self.target.url(name)}/"', f'output = "{page}"']
        command = (
            "curl", "--disable", "--config", "-", "--silent", "--max-time", str(LONGEST),
            "--noproxy", "127.0.0.1", "--user-agent", "deploy.sh-verify", "-X", "OPTIONS",
            "--write-out", "%{http_code} %{content_type}\n",
        )  # fmt: skip
        sent = "\n".join(config) + "\n"
        try:
            done = await processes.run(
                *command, env=self.target.gcloud.env, cwd=self.work, sent=sent
            )
        except FileNotFoundError:
            return [Call(Said.UNKNOWN, "none") for _ in names]
        answered = [line.partition(" ") for line in done.out.splitlines()]
        calls = [
            judged(status, content_type, self.work / page)
            for (status, _, content_type), page in zip(answered, pages, strict=False)
        ]
        return calls + [Call(Said.UNKNOWN, "none")] * (len(names) - len(calls))

    async def ask_through(self, hook: pathlib.Path, caller: str, name: str) -> Call:
        """The answer that the caller itself got; functions/CALLER/verify knows how to ask."""
        header = f'header = "Authorization: Bearer {self.your_token}"\n' if self.your_token else ""
        env = {**self.target.gcloud.env, "URL": self.target.url(caller)}
        in_map = name.removeprefix(self.target.prefix)
        try:
            done = await processes.run(str(hook.absolute()), in_map, env=env, sent=header)
        except OSError:
            return Call(Said.UNKNOWN, "")
        word = done.out.strip()
        return Call(Said(word) if word in ("in", "refused") else Said.UNKNOWN, "")


def judged(status: str, content_type: str, page: pathlib.Path) -> Call:
    """The platform's own pages show that it refused a call; any other answer is the function's."""
    if not status.isdecimal() or status == "000":
        return Call(Said.UNKNOWN, "none")
    if "text/html" not in content_type:
        return Call(Said.IN, status)
    try:
        text = page.read_bytes()[:2000].decode("utf-8", "replace").replace("\n", " ")
    except OSError:
        text = ""
    if status in ("401", "403") and DENIED in text:
        return Call(Said.REFUSED, status)
    nowhere = status == "404" and NOT_FOUND in text
    if nowhere or status in ("429", "500", "502", "503", "504"):
        return Call(Said.UNKNOWN, status)
    return Call(Said.IN, status)
