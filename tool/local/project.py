"""Starts, checks and ends the local project as a whole."""

import random
import shutil
import signal
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tool.local import accounts, policies, services, state
from tool.local.accounts import Kind
from tool.local.policies import Binding
from tool.local.runtime import ports, processes, revisions
from tool.local.services import Service
from tool.local.state import GROUPS, STATE, YOU, Project

OURS = {
    "accounts", "addresses", "audit.log", "certificate.pem", "config.json", "environments", "faults.json", "ids", "key.json", "key.pem",
    "locks", "logs", "policies", "project.json", "propagation.json", "after_change.json", "revisions", "roles", "run", "secrets", "services",
}  # fmt: skip
PATIENCE = 20  # seconds that a process may take to end or to open its ports


def refuse_foreign_folder() -> None:
    """Only what was made here may be removed at the end, even if LOCAL_STATE names a home folder."""
    for file in sorted(STATE.iterdir()) if STATE.exists() else ():
        # The functions' own database, such as data.db, may be there, too.
        if not (file.name in OURS or file.suffix == ".new" or ".db" in file.name):
            raise SystemExit(f"ERROR: {STATE} contains {file.name}, which is not the local project's. Move it away")


def up(project_id: str, region: str, *functions: str) -> None:
    """Makes the project, or starts it again, with ports for these functions. Safe to run again."""
    refuse_foreign_folder()
    STATE.mkdir(parents=True, exist_ok=True)
    STATE.chmod(0o700)
    with state.locked("up"):
        project = state.found_project() or made(project_id, region)
        if not (STATE / "key.json").exists():
            raise SystemExit("ERROR: an earlier version made the local project; destroy it first")
        if (project.id, project.region) != (project_id, region):
            was = f"--project={project.id} --region={project.region}"
            raise SystemExit(f"ERROR: the local project is {was}; destroy it first to have another")
        start_servers(project, functions)
        with ThreadPoolExecutor() as pool:
            said = list(pool.map(revisions.bring_back, state.names("services")))
    print(*filter(None, said), sep="\n", end="\n" if any(said) else "")
    for file in sorted(GROUPS.glob("[!.]*@*")):
        if state.text_of(file) is None:
            print(f"{file} names nobody: it cannot be read as text in UTF-8")


def made(project_id: str, region: str) -> Project:
    from tool.local import tokens

    accounts.add(Kind.USER, YOU)
    # You may act as the functions' service accounts to try things out, as the owner of a project
    # would arrange for a tester. This does not let you invoke anything.
    act = Binding("roles/iam.serviceAccountTokenCreator", (f"user:{YOU}",))
    policies.change(policies.PROJECT, [act])
    number = str(random.randrange(10**11, 10**12))
    return Project(project_id, number, region, tokens.make_key())


# ---- the servers: front end, metadata servers and token endpoint


def start_servers(project: Project, functions: Sequence[str]) -> None:
    """Reserves ports. They are open when it returns."""
    run = serving(project)
    if run and not project.console_port:  # from an edition that had no console
        processes.stop("servers")
        run = False
    if not run:  # or those of the folder that this one was moved from
        processes.wait_or_kill("servers", PATIENCE)
    kept = KeptPorts(servers_run=run)
    names = sorted({*functions, *state.names("services")})
    found = [with_ports(services.service(name), kept) for name in names]
    addresses = "".join(f"{s.name} {s.url} {s.metadata_host}\n" for s in found)
    state.replace(STATE / "addresses", addresses)
    token_port = kept.port(project.token_port, "token")
    console_port = kept.port(project.console_port, "console")
    state.put_project(project.but(token_port=token_port, console_port=console_port))
    if not run:
        start()
    elif not all(map(ports.answers, kept.taken)):
        open_more(kept.taken)


class KeptPorts:
    """Gives each its earlier port, or another one if that is taken."""

    def __init__(self, servers_run: bool):
        self.servers_run = servers_run  # then they are the ones using the earlier ports
        self.taken: set[int] = set()

    def port(self, before: int, what: str) -> int:
        is_good = before and before not in self.taken
        is_good = is_good and (self.servers_run or ports.is_free(before))
        port = before if is_good else ports.set_aside(f"{STATE} {what}", self.taken)
        self.taken.add(port)
        return port


def with_ports(before: Service, kept: KeptPorts) -> Service:
    port = kept.port(before.port, f"{before.name} port")
    metadata_port = kept.port(before.metadata_port, f"{before.name} metadata_port")
    url = f"http://127.0.0.1:{port}"
    service = before.but(port=port, metadata_port=metadata_port, url=url)
    if service != before:
        services.put(service)
    return service


def start() -> None:
    log = STATE / "logs" / "servers.log"
    try:
        processes.start("servers", "servers")
    except ChildProcessError:
        said = revisions.last_of(revisions.said_since(log, 0))
        raise SystemExit(f"ERROR: the servers do not start: {said}. Their log: {log}") from None


def open_more(wanted: Iterable[int]) -> None:
    """Makes the running servers open the ports that have been reserved since."""
    processes.send("servers", signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE
    while not all(map(ports.answers, wanted)):
        if time.monotonic() > deadline:
            log = STATE / "logs" / "servers.log"
            raise SystemExit(f"ERROR: the servers do not open their ports. Their log: {log}")
        time.sleep(0.02)


def serving(project: Project) -> bool:
    """Whether the servers run and are not about to end."""
    run = processes.running("servers") and processes.is_here("servers")
    return run and ports.answers(project.token_port)


def down() -> None:
    refuse_foreign_folder()
    with ThreadPoolExecutor() as pool:
        list(pool.map(processes.stop, processes.names()))
    shutil.rmtree(STATE, ignore_errors=True)
