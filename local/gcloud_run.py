"""gcloud commands about functions, and the services that they are."""

import datetime
import fnmatch
import json
import os
import pathlib
import re
import shutil
import sys

from local import processes
from local import project as state
from local.gcloud import Failed, command, table
from local.gcloud_iam import account_of, change_policy, put_policy, shown_policy
from local.project import STATE, YOU


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


@command("run services proxy", "SERVICE", "--region", "--port")
def proxy_service(args):
    from local import proxy

    url, project = service_of(args.SERVICE)["url"], state.read("project")
    place = f"in project [{project['id']}] region [{project['region']}]"
    print(f"Proxying to Cloud Run service [{args.SERVICE}] {place}", file=sys.stderr)
    proxy.serve(url, int(args.port or 8080), state.read(f"accounts/{YOU}"))


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
    import compileall  # slow to load, and no other command needs it

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
        raise Failed(
            f"Container Healthcheck failed: {name} did not start. Its log: {log}"
        ) from None
    state.write(f"services/{name}", {**service, "state": "ACTIVE"})
    for old in (STATE / "revisions").glob(f"{name}-?????"):
        if old != folder:
            shutil.rmtree(old)
    return as_function(name)


def upload(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies as gcloud uploads: without what .gcloudignore names, and without linked folders."""
    ignored = (source / ".gcloudignore").read_text("utf-8").split()

    def left_out(folder, names):
        links = [
            n for n in names if os.path.islink(f"{folder}/{n}") and os.path.isdir(f"{folder}/{n}")
        ]
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
