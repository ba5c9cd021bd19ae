"""gcloud run deploy, and run services update: a revision is built, started, and serves."""

import datetime
import pathlib
import random
import re
import shutil
import string
import sys

from tool.local import state
from tool.local.gcloud.command import Failed, command
from tool.local.gcloud.iam import account_of
from tool.local.gcloud.run import service_of
from tool.local.runtime import build, processes, revisions
from tool.local.state import STATE


def flags(words: str) -> tuple[str, ...]:
    return tuple(f"--{word}" for word in words.split())


# What a deploy and an update have in common, and what has an effect here.
CHANGING = flags(
    "region async! concurrency timeout max-instances ingress service-account set-env-vars"
    " update-env-vars remove-env-vars set-secrets clear-secrets! update-secrets labels update-labels revision-suffix"
    " invoker-iam-check! no-invoker-iam-check! allow-unauthenticated! no-allow-unauthenticated!"
)
# What sizes an instance, or names what builds it, has no effect here, as tool/README.md says.
SILENT = flags(
    "memory cpu min-instances min base-image automatic-updates! no-automatic-updates!"
    " build-service-account cpu-boost! no-cpu-boost!"
)
# Of these it is said that they have none.
IDLE = flags(
    "vpc-connector vpc-egress clear-vpc-connector! network subnet network-tags clear-network!"
    " clear-network-tags! execution-environment cpu-throttling! no-cpu-throttling! session-affinity!"
    " no-session-affinity! use-http2! no-use-http2! description binary-authorization breakglass"
    " clear-binary-authorization! key clear-key! encryption-key-shutdown-hours"
    " clear-encryption-key-shutdown-hours! post-key-revocation-action-type"
    " clear-post-key-revocation-action-type! build-worker-pool clear-build-worker-pool!"
    " clear-build-service-account! set-build-env-vars update-build-env-vars build-env-vars-file"
    " remove-build-env-vars clear-build-env-vars! allow-unencrypted-build! no-allow-unencrypted-build!"
    " clear-base-image! startup-probe liveness-probe add-cloudsql-instances set-cloudsql-instances"
    " remove-cloudsql-instances clear-cloudsql-instances! add-volume remove-volume clear-volumes!"
    " add-volume-mount remove-volume-mount clear-volume-mounts! gpu gpu-type gpu-zonal-redundancy!"
    " no-gpu-zonal-redundancy! port args command container depends-on remove-containers"
    " add-custom-audiences set-custom-audiences remove-custom-audiences clear-custom-audiences!"
    " no-traffic! tag scaling default-url! no-default-url!"
)
INGRESS = ("all", "internal", "internal-and-cloud-load-balancing")
OFTEN = {"concurrency": "80", "timeout": "300", "max_instances": "100"}  # where no flag is given


@command("run deploy", "SERVICE", "--source", "--function", *CHANGING, *SILENT, *IDLE)
def deploy(args):
    """Uploads, builds, starts. The revision before it goes on until the new one listens."""
    if not args.source or not args.function:
        raise Failed("the local target deploys functions: --source and --function are needed")
    source = pathlib.Path(args.source)
    if not source.is_dir():
        raise Failed(f"Could not find source [{args.source}]")
    if not (args.base_image or "python").startswith("python"):
        raise Failed(f"the local target runs Python, not {args.base_image}")
    if not re.fullmatch(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", args.SERVICE):
        raise Failed(f"Invalid service name [{args.SERVICE}]")
    if not state.read(f"services/{args.SERVICE}"):
        raise Failed(f"no port is set aside for {args.SERVICE}. Run ./deploy.sh --local")
    say_what_has_no_effect(args)
    with state.locked(f"service.{args.SERVICE}"):
        before = state.read(f"services/{args.SERVICE}")
        roll_out(args, before, source, {"variables": {}, "secrets": {}})
    open_or_close(args)
    if not args.quiet:
        print(f"Service [{args.SERVICE}] has been deployed.\nURL: {before['url']}", file=sys.stderr)


@command("run services update", "SERVICE", *CHANGING, *SILENT, *IDLE)
def update(args):
    """What is said of the service takes effect at once; what is said of instances starts a new one."""
    service_of(args.SERVICE)
    say_what_has_no_effect(args)
    with state.locked(f"service.{args.SERVICE}"):
        before = service_of(args.SERVICE)
        of_instances = (
            args.concurrency, args.timeout, args.max_instances, args.service_account, args.set_env_vars,
            args.update_env_vars, args.remove_env_vars, args.set_secrets, args.update_secrets,
        )  # fmt: skip
        if not any(of_instances):
            state.write(f"services/{args.SERVICE}", {**before, **settings(args, before)})
            return
        latest = (
            before["created"]
            if state.read(f"revisions/{before['created']}")
            else before.get("ready")
        )
        made = latest and state.read(f"revisions/{latest}")
        if not made:
            raise Failed(f"{args.SERVICE} has no revision that works: deploy it")
        roll_out(args, before, revisions.folder(latest), made)


def open_or_close(args) -> None:
    """With one of the two flags allUsers is put into the policy, or taken out; without, it is left alone."""
    if args.allow_unauthenticated or args.no_allow_unauthenticated:
        with state.locked("policies"):
            bindings = state.policy(args.SERVICE)["bindings"]
            for binding in bindings:
                if binding["role"] == "roles/run.invoker":
                    binding["members"] = [m for m in binding["members"] if m != "allUsers"]
            if args.allow_unauthenticated:
                bindings.append({"members": ["allUsers"], "role": "roles/run.invoker"})
            state.put_policy(args.SERVICE, [b for b in bindings if b["members"]])


def say_what_has_no_effect(args) -> None:
    names = (flag.rstrip("!") for flag in IDLE)
    given = [name for name in names if getattr(args, name[2:].replace("-", "_"), None)]
    if given:
        print(f"WARNING: no effect on this machine: {' '.join(given)}", file=sys.stderr)


def settings(args, before: dict) -> dict:
    """What is said of the service as a whole."""
    ingress = args.ingress or before.get("ingress", "all")
    if ingress not in INGRESS:
        raise Failed(f"--ingress is one of {', '.join(INGRESS)}")
    labels = before.get("labels", {}) if args.labels is None else {}
    labels = {**labels, **pairs(args.labels), **pairs(args.update_labels)}
    is_open = args.no_invoker_iam_check or (
        before.get("open", False) and not args.invoker_iam_check
    )
    return {"ingress": ingress, "labels": labels, "open": is_open}


def roll_out(args, before: dict, source: pathlib.Path, template: dict) -> None:
    name, number = args.SERVICE, before.get("number", 0) + 1
    made = revision_of(args, template, before)
    suffix = (
        args.revision_suffix
        or f"{number:05}-{''.join(random.choices(string.ascii_lowercase, k=3))}"
    )
    revision = f"{name}-{suffix}"
    if state.read(f"revisions/{revision}"):
        raise Failed(f"ALREADY_EXISTS: Revision named '{revision}' already exists.")
    changed = {
        "account": made["account"],
        "created": revision,
        "number": number,
        "deployed": made["deployed"],
    }
    service = {**before, **settings(args, before), **changed}
    place = revisions.folder(revision)
    build.upload(source, place)
    log = STATE / "logs" / f"{name}.log"
    try:
        made["environment"] = build.build(place)
    except build.BuildFailed as error:
        shutil.rmtree(place)
        made_log = STATE / "logs" / f"{name}.build.log"
        made_log.parent.mkdir(exist_ok=True)
        made_log.write_text(f"{error.said}\n", "utf-8")
        raise Failed(f"Build failed: {name}: {error}\n  Its log: {made_log}") from None
    state.write(f"revisions/{revision}", made)
    try:
        port = revisions.start(revision)
    except revisions.StartFailed as error:
        problem = f"{name} failed to start and listen on the port: {error}"
        state.write(f"services/{name}", {**service, "problem": problem})
        revisions.forget(revision)
        raise Failed(f"Container Healthcheck failed: {problem}\n  Its log: {log}") from None
    state.write(f"services/{name}", {**service, "ready": revision, "problem": None})
    if service.get("pinned"):  # after a roll-back, a new revision is not called
        processes.stop(revision)
    else:
        revisions.serve(name, revision, port)
    revisions.clear(name)


def revision_of(args, template: dict, before: dict) -> dict:
    """How the new revision is started."""
    account = args.service_account or template.get("account") or before.get("account")
    if not account:
        raise Failed("the local project has no default service account: give --service-account")
    account_of(account)
    given = {
        key: getattr(args, key) or template.get(key, default) for key, default in OFTEN.items()
    }
    concurrency = number_of("--concurrency", given["concurrency"], 1000)
    variables = pairs(args.set_env_vars) if args.set_env_vars is not None else template["variables"]
    variables = {**variables, **pairs(args.update_env_vars)}
    for name in (args.remove_env_vars or "").split(","):
        variables.pop(name, None)
    for name in variables:
        if name.startswith("X_GOOGLE_") or name in (
            "PORT",
            "K_SERVICE",
            "K_REVISION",
            "K_CONFIGURATION",
        ):
            raise Failed(f"The following reserved env names were provided: {name}")
    secrets = pairs(args.set_secrets) if args.set_secrets is not None else template["secrets"]
    secrets = {**secrets, **pairs(args.update_secrets)}
    for name in secrets:
        if "/" in name:
            raise Failed(
                f"the local target gives secrets as variables only, not as the file {name}"
            )
    instances = number_of("--max-instances", given["max_instances"], 10000)
    return {
        "service": args.SERVICE,
        "entry": args.function if hasattr(args, "function") else template["entry"],
        "account": account,
        "variables": variables,
        "secrets": secrets,
        "concurrency": concurrency,
        "max_instances": instances,
        "places": concurrency * instances,
        "timeout": seconds(given["timeout"]),
        "deployed": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def number_of(flag: str, given, largest: int) -> int:
    given = "80" if given == "default" else str(given)
    if not re.fullmatch(r"[1-9]\d{0,5}", given) or int(given) > largest:
        raise Failed(f"{flag} is a number from 1 to {largest}, not {given}")
    return int(given)


def seconds(given) -> int:
    match = re.fullmatch(r"([1-9]\d{0,4})([smh]?)", str(given))
    found = int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0
    if not 1 <= found <= 3600:
        raise Failed(f"--timeout is at most 3600 seconds, not {given}")
    return found


def pairs(flag: str | None) -> dict[str, str]:
    """A=1,B=2 as a dict; ^##^A=1##B=2 where a value holds a comma."""
    delimiter, flag = ",", flag or ""
    if match := re.match(r"\^(.+?)\^", flag):
        delimiter, flag = match[1], flag[match.end() :]
    given = [pair for pair in flag.split(delimiter) if pair]
    for pair in given:
        if "=" not in pair:
            raise Failed(f"Bad syntax for dict arg: [{pair}]")
    return dict(pair.split("=", 1) for pair in given)
