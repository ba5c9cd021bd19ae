"""What is known about a call, and how the platform answers it."""

from __future__ import annotations

import enum
from typing import NamedTuple

from tool.deploy.gcloud import Answer


class Grant(NamedTuple):
    """A member of a binding, in the policy of the service or in one above it."""

    member: str
    role: str
    condition: str  # its title, if it has one
    where: str  # for example "project p-1"
    holds: Answer  # whether the role holds run.routes.invoke


class Unread(NamedTuple):
    """A policy that could not be read."""

    where: str
    is_of_service: bool


class Known(NamedTuple):
    """What was collected. None: it could not be read."""

    signer: str  # Google, or this local project
    project: str
    region: str
    ours: str  # how the addresses of the project's own service accounts end
    at_platform: bool  # whether the host of the URL is one of the platform's
    name: str  # the service; "" if there is none
    urls: tuple[str, ...]
    more_audiences: tuple[str, ...]
    ingress: str
    open: bool  # its invoker check is switched off
    grants: tuple[Grant, ...]
    unread: tuple[Unread, ...]
    accounts: dict[str, str] | None  # the project's service accounts, address by number
    certificates: dict[str, str] | None  # PEM by key id
    you: str = ""  # as a policy names you


class Reply(enum.Enum):
    """What the platform does with a call."""

    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    LET_IN = "let in"
    UNKNOWN = "unknown"


class Verdict(NamedTuple):
    answer: Reply
    why: str
    command: tuple[str, ...] = ()  # what changes it
    then: tuple[tuple[str, ...], ...] = ()  # what is needed after that, because it would still be refused
