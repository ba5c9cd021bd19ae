"""The local project as a whole: brought up, looked at, ended."""

import random
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor

from tool.local import state
from tool.local.runtime import ports, processes, revisions
from tool.local.state import STATE, YOU

OURS = {
    "accounts", "addresses", "audit.log", "certificate.pem", "config.json", "environments", "faults.json", "ids", "key.json", "key.pem",
    "locks", "logs", "policies", "project.json", "propagation.json", "after_change.json", "revisions", "roles", "run", "services",
}  # fmt: skip
PATIENCE = 20  # seconds that a process may take to end or to open its ports


def refuse_foreign_folder() -> None:
    """What is removed at the end must be what was made here, even if LOCAL_STATE names a home."""
    for file in sorted(STATE.iterdir()) if STATE.exists() else ():
        # The functions' own database, data.db for one, may stand there, too.
        if not (file.name in OURS or file.suffix == ".new" or ".db" in file.name):
            raise SystemExit(f"ERROR: {STATE} holds {file.name}, which is not the local project's. Move it away")


def up(project_id: str, region: str, *functions: str) -> None:
    """Makes the project, or brings it back, with ports for these functions. Safe to run again."""
    refuse_foreign_folder()
    STATE.mkdir(parents=True, exist_ok=True)
    STATE.chmod(0o700)
    with state.locked("up"):
        project = state.read("project") or made(project_id, region)
        if not (STATE / "key.json").exists():
            raise SystemExit("ERROR: an earlier version made the local project; destroy it first")
        if (project["id"], project["region"]) != (project_id, region):
            was = f"--project={project['id']} --region={project['region']}"
            raise SystemExit(f"ERROR: the local project is {was}; destroy it first to have another")
        start_servers(project, functions)
        with ThreadPoolExecutor() as pool:
            list(pool.map(revisions.bring_back, state.names("services")))


def made(project_id: str, region: str) -> dict:
    from tool.local import tokens

    state.add_account("user", YOU)
    # Whoever deploys may act as the functions' accounts, to try things out, as an owner of a
    # project would arrange it for a tester. It does not let them invoke anything.
    role = {"role": "roles/iam.serviceAccountTokenCreator", "members": [f"user:{YOU}"]}
    state.put_policy("_project", [role])
    number = str(random.randrange(10**11, 10**12))
    key_id = tokens.make_key()
    return {"id": project_id, "number": number, "region": region, "key_id": key_id, "apis": []}


def start_servers(project: dict, functions) -> None:
    """Sets ports aside, and has them open when it returns."""
    old = project.get("token_port")
    if not serving():
        processes.wait_or_kill("servers", PATIENCE)
        old = None  # whoever has its port now is somebody else
    names = sorted({*functions, *state.names("services")})
    services = {name: state.read(f"services/{name}") or {} for name in names}
    taken: set[int] = set()
    for name, service in services.items():
        before = dict(service)
        for kind in ("port", "metadata_port"):
            kept = service.get(kind)
            if not kept or kept in taken or (not old and not ports.is_free(kept)):
                service[kind] = ports.set_aside(f"{STATE} {name} {kind}", taken)
            taken.add(service[kind])
        service["url"] = f"http://127.0.0.1:{service['port']}"
        if service != before:
            state.write(f"services/{name}", service)
    addresses = [f"{name} {s['url']} 127.0.0.1:{s['metadata_port']}\n" for name, s in services.items()]
    state.replace(STATE / "addresses", "".join(addresses))
    kept = project.get("token_port")
    if not kept or kept in taken or (not old and not ports.is_free(kept)):
        project["token_port"] = ports.set_aside(f"{STATE} token", taken)
    state.write("project", project)
    log = STATE / "logs" / "servers.log"
    if not old:
        try:
            processes.start("servers", "servers")
        except ChildProcessError:
            raise SystemExit(
                f"ERROR: the servers do not start: {revisions.last_line(log, 0)}. Their log: {log}"
            ) from None
    elif not all(map(ports.answers, taken)):
        processes.send("servers", signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE
        while not all(map(ports.answers, taken)):
            if time.monotonic() > deadline:
                raise SystemExit(f"ERROR: the servers do not open their ports. Their log: {log}")
            time.sleep(0.02)


def serving() -> bool:
    """Whether the servers run, and are not just ending."""
    project = state.read("project") or {}
    return processes.running("servers") and ports.answers(project.get("token_port", 0))


def down() -> None:
    refuse_foreign_folder()
    with ThreadPoolExecutor() as pool:
        list(pool.map(processes.stop, processes.names()))
    shutil.rmtree(STATE, ignore_errors=True)
