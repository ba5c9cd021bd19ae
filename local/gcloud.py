"""A stand-in for gcloud: exactly the commands that deploy.sh and the README use.

Same words, same flags, same output; anything else is refused. It acts as the project's
administrator, and asks no policy whether it may: policies decide who calls the functions.
"""

import argparse
import base64
import compileall
import datetime
import fnmatch
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import sys
import time

from local import processes
from local import project as state
from local.project import STATE, YOU

COMMANDS = {}


class Failed(Exception):
    """What gcloud would say on standard error, before it exits with 1."""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        print(f"ERROR: ({self.prog.replace(' ', '.')}) {message}", file=sys.stderr)
        raise SystemExit(2)


def command(words: str, *arguments: str):
    """Registers a command: NAME is a positional argument, NAMES+ several; --a a flag, --a! a switch."""

    def register(function):
        parser = Parser(prog=f"gcloud {words}", allow_abbrev=False, add_help=False)
        for name in (*arguments, "--project", "--format", "--quiet!"):
            how = {"!": {"action": "store_true"}, "+": {"nargs": "+"}}.get(name[-1], {})
            how = {"required": True} if name == "--region" else how
            parser.add_argument(name.rstrip("!+?"), **how)
        COMMANDS[words] = parser, function
        return function

    return register


def main(*argv: str) -> None:
    """Runs one command line and prints its result in the --format that was asked for."""
    try:
        words, rest = known_command(list(argv))
        parser, function = COMMANDS[words]
        args = parser.parse_args(rest)
        project = state.read("project")
        if not project:
            raise Failed("there is no local project: run ./deploy.sh --local")
        if args.project and args.project != project["id"]:
            raise Failed(f"[{args.project}] is not the local project, which is {project['id']}")
        if getattr(args, "region", None) not in (None, project["region"]):
            raise Failed(f"the local project has no region but {project['region']}")
        keep_record(argv)
        meet_fault(" ".join(argv))
        result = function(args)
    except Failed as failure:
        words = " ".join(a for a in argv[:3] if not a.startswith("-"))
        raise SystemExit(f"ERROR: (gcloud.{words.replace(' ', '.')}) {failure}") from None
    if result is not None:
        show(result, args.format)


def keep_record(argv) -> None:
    """The local project's audit log: every command, as it was given."""
    with open(STATE / "audit.log", "a") as log:
        print(shlex.join(["gcloud", *argv]), file=log)


def meet_fault(line: str) -> None:
    """Fails as the cloud does, where faults.json says so: [{"match", "times", "error"}, ...]."""
    faults = state.read("faults") or []
    for fault in faults:
        if fault["times"] > 0 and re.search(fault["match"], line):
            fault["times"] -= 1
            state.write("faults", faults)
            raise Failed(fault["error"])


def known_command(argv: list[str]) -> tuple[str, list[str]]:
    for length in (5, 4, 3, 2, 1):
        words = " ".join(argv[:length])
        if words in COMMANDS:
            return words, argv[length:]
    known = "".join(f"\n  gcloud {words}" for words in sorted(COMMANDS))
    asked = " ".join(["gcloud", *argv]).split(" --")[0]
    print(f"ERROR: the local stand-in for gcloud does not know: {asked}", file=sys.stderr)
    print(f"It knows:{known}", file=sys.stderr)
    raise SystemExit(2)


# ---- output


def show(result, wanted: str | None) -> None:
    wanted = wanted or "yaml"
    if isinstance(result, str):
        print(result)
    elif wanted == "json":
        print(json.dumps(result, indent=2))
    elif match := re.fullmatch(r"value(?:\[separator=[\"'](.)[\"']\])?\((.*)\)", wanted):
        for row in result if isinstance(result, list) else [result]:
            print((match[1] or "\t").join(value(row, key) for key in match[2].split(",")))
    elif wanted == "yaml":
        print("\n".join(yaml(result)))
    elif wanted != "none":
        raise SystemExit(f"ERROR: (gcloud) the local stand-in does not know --format={wanted}")


def value(row, key: str) -> str:
    for part in re.findall(r'"[^"]*"|[^."]+', key.strip()):
        if part == "basename()":
            row = row.rpartition("/")[2]
        elif part.startswith("segment("):
            row = row.split("/")[int(part[8:-1])]
        else:
            row = row.get(part, "") if isinstance(row, dict) else ""
    return ";".join(row) if isinstance(row, list) else str(row)


def yaml(content, indent: str = ""):
    """The lines of a dict or list as gcloud prints them: keys sorted, lists not indented."""
    for key in sorted(content) if isinstance(content, dict) else range(len(content)):
        inner, start = content[key], f"{indent}{key}:" if isinstance(content, dict) else f"{indent}-"
        if isinstance(inner, (dict, list)) and inner:
            lines = list(yaml(inner, indent + ("  " if isinstance(inner, dict) else "")))
            if isinstance(content, list):
                yield f"{start} {lines[0].strip()}"
                lines = lines[1:]
            else:
                yield start
            yield from lines
        else:
            yield f"{start} {inner}"


def table(headings: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in [headings, *rows]]
    return "\n".join(lines)


# ---- who you are


@command("auth list", "--filter")
def auth_list(args):
    return {"account": YOU, "status": "ACTIVE"}


@command("config get", "PROPERTY")
@command("config get-value", "PROPERTY")
def config_get(args):
    project = state.read("project")
    known = {"account": YOU, "project": project["id"], "run/region": project["region"]}
    return known.get(args.PROPERTY, "")


@command(
    "auth print-identity-token", "--audiences", "--impersonate-service-account", "--include-email!"
)
def print_identity_token(args):
    from local import tokens  # cryptography is slow to load, and most commands do without it

    you = state.read(f"accounts/{YOU}")
    if not args.impersonate_service_account:
        if args.audiences:
            raise Failed("Invalid account type for `--audiences`. Requires valid service account.")
        if args.include_email:
            raise Failed("Invalid account type for `--include-email`. Requires impersonation.")
        return tokens.id_token(you, tokens.GCLOUD_CLIENT_ID, azp=tokens.GCLOUD_CLIENT_ID)
    target = state.read(f"accounts/{args.impersonate_service_account}")
    if not target or not state.may_mint(you, target):
        raise Failed(
            "PERMISSION_DENIED: Permission 'iam.serviceAccounts.getAccessToken' denied on"
            " resource (or it may not exist)."
        )
    audience = args.audiences or tokens.GCLOUD_CLIENT_ID
    return tokens.id_token(target, audience, email=args.include_email)


# ---- the project and its service accounts


@command("projects describe", "ID")
def describe_project(args):
    project = state.read("project")
    if args.ID != project["id"]:
        raise Failed(f"[{YOU}] does not have permission to access projects instance [{args.ID}]")
    return {"projectId": project["id"], "projectNumber": project["number"]}


@command("projects get-iam-policy", "ID", "--flatten")
def get_project_policy(args):
    return shown_policy("_project", args.flatten)


@command("projects add-iam-policy-binding", "ID", "--member", "--role", "--condition")
def add_project_binding(args):
    return change_policy("_project", args, add=True)


@command("projects remove-iam-policy-binding", "ID", "--member", "--role", "--condition", "--all!")
def remove_project_binding(args):
    return change_policy("_project", args, add=False)


@command("projects get-ancestors-iam-policy", "ID", "--flatten")
def get_ancestors_policy(args):
    project = state.read("project")["id"]
    bindings = shown_policy("_project", "bindings[].members")
    return [{"id": project, "type": "project", "policy": {"bindings": b["bindings"]}} for b in bindings]


@command("services list", "--enabled!")
def list_apis(args):
    return [{"config": {"name": name}} for name in state.read("project").get("apis", [])]


@command("services enable", "APIS+")
def enable_apis(args):
    project = state.read("project")
    state.write("project", {**project, "apis": sorted({*project.get("apis", []), *args.APIS})})


def account_of(email: str) -> dict:
    account = state.read(f"accounts/{email}")
    if not account or account["kind"] != "serviceAccount":
        raise Failed(f"NOT_FOUND: Unknown service account: {email}")
    return account


@command("iam service-accounts create", "NAME", "--display-name", "--description")
def create_account(args):
    email = f"{args.NAME}@{state.read('project')['id']}.iam.gserviceaccount.com"
    if state.read(f"accounts/{email}"):
        raise Failed(f"ALREADY_EXISTS: Service account {args.NAME} already exists")
    more = {"displayName": args.display_name or "", "description": args.description or ""}
    state.add_account("serviceAccount", email, **more)
    print(f"Created service account [{args.NAME}].", file=sys.stderr)


@command("iam service-accounts describe", "EMAIL")
def describe_account(args):
    return account_of(args.EMAIL)


@command("iam service-accounts list")
def list_accounts(args):
    accounts = [state.read(f"accounts/{email}") for email in state.names("accounts")]
    return [a for a in accounts if a["kind"] == "serviceAccount"]


@command("iam service-accounts delete", "EMAIL")
def delete_account(args):
    account = account_of(args.EMAIL)
    state.remove(f"accounts/{args.EMAIL}")
    # What is left of it in the policies can never be used again, nor by an account of its name.
    dead = f"deleted:{state.principal(account)}?uid={account['uniqueId']}"
    for name in state.names("policies"):
        policy = state.read(f"policies/{name}")
        for binding in policy["bindings"]:
            members = binding["members"]
            binding["members"] = [dead if m == state.principal(account) else m for m in members]
        state.write(f"policies/{name}", policy)


@command("iam service-accounts keys create", "FILE", "--iam-account")
def create_key(args):
    from local import tokens

    account = account_of(args.iam_account)
    private, certificate = tokens.key_pair(args.iam_account)
    key_id = tokens.key_id(certificate)
    keys = {**account.get("keys", {}), key_id: certificate.decode()}
    state.write(f"accounts/{args.iam_account}", {**account, "keys": keys})
    project = state.read("project")
    content = {
        "type": "service_account",
        "project_id": project["id"],
        "private_key_id": key_id,
        "private_key": private.decode(),
        "client_email": args.iam_account,
        "client_id": account["uniqueId"],
        "token_uri": f"http://127.0.0.1:{project['token_port']}/token",
        "universe_domain": "googleapis.com",
    }
    with open(os.open(args.FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file, indent=2)
    made = f"created key [{key_id}] of type [json] as [{args.FILE}] for [{args.iam_account}]"
    print(made, file=sys.stderr)


# ---- policies


def shown_policy(name: str, flatten: str | None):
    policy = state.read(f"policies/{name}") or {}
    policy = {"bindings": policy.get("bindings", []), "version": 1}
    content = json.dumps(policy, sort_keys=True).encode()
    etag = base64.b64encode(hashlib.sha256(content).digest()[:8]).decode()
    if flatten != "bindings[].members":
        kept = {key: value for key, value in policy.items() if value}
        return {**kept, "etag": etag}
    return [
        {"bindings": {**binding, "members": member}}
        for binding in policy["bindings"]
        for member in binding["members"]
    ]


def put_policy(name: str, policy: dict) -> None:
    """Takes effect at once; or after the seconds in propagation.json, as in the cloud."""
    before = state.read(f"policies/{name}") or {}
    delay = state.read("propagation") or 0
    until = {"before": before.get("bindings", []), "from": time.time() + delay} if delay else {}
    state.write(f"policies/{name}", {**policy, **until})


def change_policy(name: str, args, add: bool):
    kind, _, who = args.member.partition(":")
    if kind == "serviceAccount" and not state.read(f"accounts/{who}"):
        raise Failed(f"INVALID_ARGUMENT: Service account {who} does not exist.")
    policy = state.read(f"policies/{name}") or {"bindings": [], "version": 1}
    binding = next((b for b in policy["bindings"] if b["role"] == args.role), None)
    if add and not binding:
        policy["bindings"].append({"role": args.role, "members": [args.member]})
    elif add and args.member not in binding["members"]:
        binding["members"].append(args.member)
    elif not add and (not binding or args.member not in binding["members"]):
        raise Failed("Policy binding with the specified principal and role not found!")
    elif not add:
        binding["members"].remove(args.member)
        policy["bindings"] = [b for b in policy["bindings"] if b["members"]]
    put_policy(name, policy)
    return shown_policy(name, None)


# ---- functions, and the services that they are


def service_of(name: str) -> dict:
    service = state.read(f"services/{name}")
    if not service or "account" not in service:
        raise Failed(f"Cannot find service [{name}]")
    return service


def services() -> list[dict]:
    found = {name: state.read(f"services/{name}") for name in state.names("services")}
    return [as_service(name, found[name]) for name in found if "account" in found[name]]


def as_service(name: str, service: dict) -> dict:
    return {
        "metadata": {"name": name, "labels": service["labels"], "annotations": {}},
        "spec": {"template": {"spec": {"serviceAccountName": service["account"]}}},
        "status": {"url": service["url"], "deployed": service["deployed"]},
    }


@command("run services list", "--region?")
def list_services(args):
    if args.format:
        return services()
    region = state.read("project")["region"]
    rows = []
    for s in services():
        mark = "\u2714" if processes.running(s["metadata"]["name"]) else "X"
        status = s["status"]
        rows.append([mark, s["metadata"]["name"], region, status["url"], YOU, status["deployed"]])
    return table(["", "SERVICE", "REGION", "URL", "LAST DEPLOYED BY", "LAST DEPLOYED AT"], rows)


@command("run services describe", "SERVICE", "--region")
def describe_service(args):
    return as_service(args.SERVICE, service_of(args.SERVICE))


@command("run services get-iam-policy", "SERVICE", "--region", "--flatten")
def get_policy(args):
    service_of(args.SERVICE)
    return shown_policy(args.SERVICE, args.flatten)


@command("run services set-iam-policy", "SERVICE", "FILE", "--region")
def set_policy(args):
    service_of(args.SERVICE)
    policy = json.loads(pathlib.Path(args.FILE).read_text("utf-8"))
    put_policy(args.SERVICE, {"bindings": policy.get("bindings", []), "version": 1})
    print(f"Updated IAM policy for service [{args.SERVICE}].", file=sys.stderr)
    return shown_policy(args.SERVICE, None)


@command("run services add-iam-policy-binding", "SERVICE", "--region", "--member", "--role")
def add_binding(args):
    service_of(args.SERVICE)
    return change_policy(args.SERVICE, args, add=True)


@command("run services remove-iam-policy-binding", "SERVICE", "--region", "--member", "--role")
def remove_binding(args):
    service_of(args.SERVICE)
    return change_policy(args.SERVICE, args, add=False)


@command(
    "functions deploy", "NAME", "--region", "--gen2!", "--trigger-http!", "--source", "--runtime",
    "--entry-point", "--allow-unauthenticated!", "--no-allow-unauthenticated!", "--service-account",
    "--build-service-account", "--concurrency", "--memory", "--cpu", "--timeout",
    "--min-instances", "--max-instances", "--set-env-vars", "--update-labels",
)  # fmt: skip
def deploy(args):
    """Uploads, builds and starts. In the cloud the old revision would go on until the new is up."""
    source, name = pathlib.Path(args.source), args.NAME
    for file in ("main.py", "requirements.txt"):
        if not (source / file).exists():
            raise Failed(f"Provided source directory does not have file [{file}]")
    account_of(args.service_account)
    service = state.read(f"services/{name}")
    if not service:
        raise Failed(f"no port is set aside for {name}: run ./deploy.sh --local")
    revision = f"{name}-{int(service.get('revision', '0').rpartition('-')[2]) + 1:05}"
    folder = STATE / "revisions" / revision
    upload(source, folder)
    if not compileall.compile_dir(folder, quiet=1, force=True):
        raise Failed(f"Build failed: a syntax error in {name}, see above")
    labels = {**service.get("labels", {}), **pairs(args.update_labels)}
    service |= {
        "account": args.service_account,
        "labels": labels,
        "revision": revision,
        "deployed": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "state": "FAILED",
    }
    state.write(f"services/{name}", service)
    policy = state.read(f"policies/{name}") or {"bindings": [], "version": 1}
    if args.no_allow_unauthenticated:
        for binding in policy["bindings"]:
            binding["members"] = [m for m in binding["members"] if m != "allUsers"]
    state.write(f"policies/{name}", policy)

    processes.stop(name)
    try:
        processes.start(name, "instance", name, env=environment(name, service, args), cwd=folder)
    except ChildProcessError:
        log = STATE / "logs" / f"{name}.log"
        raise Failed(f"Container Healthcheck failed: {name} did not start. Its log: {log}") from None
    state.write(f"services/{name}", {**service, "state": "ACTIVE"})
    for old in (STATE / "revisions").glob(f"{name}-?????"):
        if old != folder:
            shutil.rmtree(old)
    return as_function(name)


def upload(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies as gcloud uploads: without what .gcloudignore names, and without linked folders."""
    ignored = (source / ".gcloudignore").read_text("utf-8").split()

    def left_out(folder, names):
        links = [n for n in names if os.path.islink(f"{folder}/{n}") and os.path.isdir(f"{folder}/{n}")]
        return links + [n for n in names if any(fnmatch.fnmatch(n, i.rstrip("/")) for i in ignored)]

    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=left_out)


def environment(name: str, service: dict, args) -> dict[str, str]:
    """What the container of a function finds in its environment, and nothing of this shell's."""
    metadata = f"127.0.0.1:{service['metadata_port']}"
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(STATE / "revisions"),
        "PORT": str(service["port"]),
        "K_SERVICE": name,
        "K_REVISION": service["revision"],
        "K_CONFIGURATION": name,
        "FUNCTION_TARGET": args.entry_point or name,
        "FUNCTION_SIGNATURE_TYPE": "http",
        "LOG_EXECUTION_ID": "true",
        "CLOUD_RUN_TIMEOUT_SECONDS": (args.timeout or "60").rstrip("s"),
        # Where google-auth looks for the metadata server, and where it asks whether it is there.
        "GCE_METADATA_HOST": metadata,
        "GCE_METADATA_IP": metadata,
        **pairs(args.set_env_vars),
    }


def pairs(flag: str | None) -> dict[str, str]:
    """A=1,B=2 as a dict; ^##^A=1##B=2 where a value holds a comma."""
    delimiter, flag = ",", flag or ""
    if match := re.match(r"\^(.+?)\^", flag):
        delimiter, flag = match[1], flag[match.end() :]
    return dict(pair.split("=", 1) for pair in flag.split(delimiter) if pair)


def as_function(name: str) -> dict:
    service, project = service_of(name), state.read("project")
    running = processes.running(name)
    return {
        "name": f"projects/{project['id']}/locations/{project['region']}/functions/{name}",
        "environment": "GEN_2",
        "labels": service["labels"],
        "serviceConfig": {"uri": service["url"], "serviceAccountEmail": service["account"]},
        "state": service["state"] if running else "FAILED",
        "url": service["url"],
    }


@command("functions list", "--regions")
def list_functions(args):
    return [as_function(service["metadata"]["name"]) for service in services()]


@command("functions describe", "NAME", "--region", "--gen2!")
def describe_function(args):
    return as_function(args.NAME)


@command("functions delete", "NAME", "--region", "--gen2!")
def delete_function(args):
    service = service_of(args.NAME)
    processes.stop(args.NAME)
    kept = {key: service[key] for key in ("port", "metadata_port", "url")}
    state.write(f"services/{args.NAME}", kept)
    state.remove(f"policies/{args.NAME}")


@command("functions logs read", "NAME", "--region?", "--gen2!", "--limit")
def read_logs(args):
    service_of(args.NAME)
    log = STATE / "logs" / f"{args.NAME}.log"
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    rows = []
    for line in reversed(lines[-int(args.limit or 20) :]):  # the newest first
        try:
            entry = json.loads(line)
            row = [entry["severity"][0], args.NAME, "", entry["time"][:23], entry["message"]]
        except (ValueError, TypeError, KeyError):
            row = ["", args.NAME, "", "", line]
        rows.append(row)
    return table(["LEVEL", "NAME", "EXECUTION_ID", "TIME_UTC", "LOG"], rows)
