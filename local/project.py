"""The state of the local project: small JSON files in one private folder.

project            id, number, region, token_port
accounts/EMAIL     kind (user or serviceAccount), email, uniqueId; keys and policy, if any
services/NAME      what was deployed, and the ports that were set aside for it
policies/NAME      the invoker bindings of a service; policies/_project those of the project
"""

import json
import os
import pathlib
import random
import re
import shutil
import socket
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
STATE = pathlib.Path(os.environ.get("LOCAL_STATE") or ROOT / ".local").absolute()
YOU = "you@example.com"

# Roles that hold run.routes.invoke and can stand in a service's or this project's policy.
INVOKING = {"roles/" + role for role in (
    "owner", "editor", "run.admin", "run.developer", "run.editor", "run.sourceDeveloper",
    "run.invoker", "run.servicesInvoker", "cloudfunctions.admin", "cloudfunctions.developer",
    "cloudfunctions.editor",
)}  # fmt: skip
MINTING = {"roles/iam.serviceAccountTokenCreator", "roles/iam.serviceAccountOpenIdTokenCreator"}


def path(name: str) -> pathlib.Path:
    if not re.fullmatch(r"([a-z]+/)?[A-Za-z0-9_][A-Za-z0-9@._-]*", name):
        raise ValueError(f"no name for a resource: {name!r}")
    return STATE / f"{name}.json"


def read(name: str):
    """The resource's content, or None if there is no such resource."""
    try:
        return json.loads(path(name).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def write(name: str, content) -> None:
    """Replaces the resource at one stroke, so that no reader sees half of it."""
    target = path(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f"{target.name}.{os.getpid()}.new")
    new.write_text(json.dumps(content, indent=1), "utf-8")
    os.replace(new, target)


def remove(name: str) -> None:
    path(name).unlink()


def names(kind: str) -> list[str]:
    return sorted(file.stem for file in (STATE / kind).glob("*.json"))


def account_with_id(unique_id: str):
    """The account that a token's `sub` names, or None."""
    accounts = (read(f"accounts/{email}") for email in names("accounts"))
    return next((a for a in accounts if a and a["uniqueId"] == unique_id), None)


def add_account(kind: str, email: str, **more) -> dict:
    account = {
        "kind": kind,
        "email": email,
        "uniqueId": str(random.randrange(10**20, 10**21)),
        **more,
    }
    write(f"accounts/{email}", account)
    return account


def principal(account: dict) -> str:
    """The account as a policy names it, for example user:you@example.com."""
    return f"{account['kind']}:{account['email']}"


def grants(policy, roles: set[str], members: set[str]) -> bool:
    """Whether the policy, as it is in effect, gives one of the roles to one of the members."""
    policy = policy or {"bindings": []}
    in_effect = policy["before"] if policy.get("from", 0) > time.time() else policy["bindings"]
    return any(b["role"] in roles and members & set(b["members"]) for b in in_effect)


def may_invoke(service: str, members: set[str]) -> bool:
    """Whether one of the members holds run.routes.invoke on the service."""
    return any(grants(read(f"policies/{on}"), INVOKING, members) for on in (service, "_project"))


def may_mint(caller: dict, target: dict) -> bool:
    """Whether the caller may have ID tokens made for the target account."""
    policies = (target.get("policy"), read("policies/_project"))
    return any(grants(policy, MINTING, {principal(caller)}) for policy in policies)


def free_port(taken: set[int]) -> int:
    """A port to set aside: below the range from which connections take theirs."""
    for port in random.sample(range(20000, 30000), 1000):
        if port not in taken and not in_use(port):
            return port
    raise SystemExit("ERROR: no free port between 20000 and 30000")


def in_use(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def refuse_foreign_folder() -> None:
    """What is removed at the end must be what was made here, even if LOCAL_STATE names a home."""
    ours = {
        "accounts",
        "audit.log",
        "certificate.pem",
        "faults.json",
        "key.pem",
        "logs",
        "policies",
    }
    ours |= {"project.json", "propagation.json", "revisions", "run", "services"}
    files = STATE.iterdir() if STATE.exists() else ()
    foreign = [
        f.name
        for f in files
        if f.name not in ours and not f.name.startswith("profiles.db") and f.suffix != ".new"
    ]
    if foreign:
        raise SystemExit(f"ERROR: {STATE} holds {foreign[0]}, which is not the local project's")


def up(project_id: str, region: str, *functions: str) -> None:
    """Makes the project, or brings it back, and starts what stands around the functions."""
    from local import processes

    refuse_foreign_folder()
    STATE.mkdir(parents=True, exist_ok=True)
    STATE.chmod(0o700)
    project = read("project")
    if not project:
        from local import tokens

        number = str(random.randrange(10**11, 10**12))
        key_id = tokens.make_key()
        project = {"id": project_id, "number": number, "region": region, "key_id": key_id}
        add_account("user", YOU)
        # Whoever deploys may act as the functions' accounts, to try things out, as an owner
        # of a project would arrange it for a tester. It does not let them invoke anything.
        role = {"role": "roles/iam.serviceAccountTokenCreator", "members": [f"user:{YOU}"]}
        write("policies/_project", {"bindings": [role], "version": 1})
    if (project["id"], project["region"]) != (project_id, region):
        was = f"--project={project['id']} --region={project['region']}"
        raise SystemExit(f"ERROR: the local project is {was}; destroy it first to have another")

    if "token_port" in project and all(map(processes.running, ("surroundings", *functions))):
        return
    processes.stop("surroundings")
    taken: set[int] = set()
    services = {name: read(f"services/{name}") or {} for name in functions}
    for name, service in services.items():
        running = processes.running(name)
        for port in ("port", "metadata_port"):
            kept = service.get(port)
            if not kept or kept in taken or (in_use(kept) and not (running and port == "port")):
                processes.stop(name)  # it knows the old ones
                service[port] = free_port(taken)
            taken.add(service[port])
        service["url"] = f"http://127.0.0.1:{service['port']}"
        write(f"services/{name}", service)
    if "token_port" not in project or in_use(project["token_port"]):
        project["token_port"] = free_port(taken)
    write("project", project)
    processes.start("surroundings")


def addresses() -> None:
    for name in names("services"):
        service = read(f"services/{name}")
        print(name, service["url"], f"127.0.0.1:{service['metadata_port']}")


def down() -> None:
    from concurrent.futures import ThreadPoolExecutor

    from local import processes

    refuse_foreign_folder()
    with ThreadPoolExecutor() as pool:
        list(pool.map(processes.stop, processes.names()))
    shutil.rmtree(STATE, ignore_errors=True)
