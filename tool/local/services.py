"""The services of the local project, and the revisions of their functions, as kept in files."""

import enum
from collections.abc import Mapping

from tool.local import state
from tool.local.records import Record


class Ingress(enum.StrEnum):
    """Where a service takes calls from: anywhere, or only inside Google Cloud."""

    ALL = "all"
    INTERNAL = "internal"
    INTERNAL_AND_BALANCED = "internal-and-cloud-load-balancing"


class Serving(Record):
    """The revision that gets the calls, and what limits them."""

    revision: str
    port: int
    places: int  # for simultaneous calls
    timeout: int | None  # seconds; None: no limit


class Service(Record):
    """The service of a function. It has its ports before it is deployed and after it is deleted."""

    name: str  # its file's
    port: int = 0
    metadata_port: int = 0
    url: str = ""
    ingress: Ingress = Ingress.ALL
    labels: Mapping[str, str] = {}
    open: bool | None = None  # whether its invoker check is off; None: never set
    account: str = ""  # the newest revision's, like what follows
    created: str = ""
    is_named: bool = True  # by a flag, not by Cloud Run
    number: int = 0
    deployed: str = ""  # when
    ready: str = ""  # the newest revision that has listened
    problem: str | None = None  # why the newest one has not
    pinned: str | None = None  # the revision that a roll-back sends the calls to
    serving: Serving | None = None

    @property
    def is_deployed(self) -> bool:
        return bool(self.account)

    @property
    def metadata_host(self) -> str:
        return f"127.0.0.1:{self.metadata_port}"


def service(name: str) -> Service:
    """The service of this name; one without ports if there is none."""
    content = state.read(f"services/{name}")
    if not isinstance(content, dict):
        return Service(name)
    known = {key: value for key, value in content.items() if value is not None}
    typed = {
        "ingress": Ingress(known.get("ingress", "all")),
        "serving": Serving.of(known.get("serving")),
    }
    return Service.of(known | typed | {"name": name}) or Service(name)


def put(service: Service) -> None:
    content = service.as_dict() | {"serving": service.serving and service.serving.as_dict()}
    del content["name"]
    # What is not known yet is left out.
    kept = {key: value for key, value in content.items() if value not in (None, "")}
    state.write(f"services/{service.name}", kept)


def deployed() -> list[Service]:
    found = (service(name) for name in state.names("services"))
    return [service for service in found if service.is_deployed]


class SecretVersion(Record):
    name: str
    version: str


class Revision(Record):
    """How an instance of a function is started."""

    name: str  # its file's
    service: str
    entry: str
    account: str
    variables: Mapping[str, str] = {}
    secrets: Mapping[str, SecretVersion] = {}  # by the variable that holds it
    concurrency: int = 80
    max_instances: int = 100
    timeout: int = 300  # seconds
    deployed: str = ""  # when
    environment: str = ""  # the folder with what was installed for it
    origin: str = ""  # the folder that you edit, with shared/ two levels above

    @property
    def places(self) -> int:
        """How many simultaneous calls its instances can take."""
        return self.concurrency * self.max_instances


def secret_version(which: str) -> SecretVersion:
    """The secret's version that NAME:VERSION names."""
    name, _, version = which.partition(":")
    return SecretVersion(name, version or "latest")


def revision(name: str) -> Revision | None:
    content = state.read(f"revisions/{name}")
    if not isinstance(content, dict):
        return None
    secrets = {v: secret_version(which) for v, which in content.get("secrets", {}).items()}
    return Revision.of(content | {"name": name, "secrets": secrets})


def put_revision(revision: Revision) -> None:
    secrets = {v: f"{which.name}:{which.version}" for v, which in revision.secrets.items()}
    content = revision.as_dict() | {"secrets": secrets, "places": revision.places}
    del content["name"]
    state.write(f"revisions/{revision.name}", content)


def revisions_of(name: str) -> list[Revision]:
    """The revisions of this service."""
    # A revision of another service may have been removed since it was listed.
    found = (revision(known) for known in state.names("revisions"))
    return [revision for revision in found if revision and revision.service == name]
