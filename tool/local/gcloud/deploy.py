"""gcloud run deploy, and run services update: a revision is built, started, and serves."""

import datetime
import pathlib
import random
import re
import shutil
import string
import sys
from argparse import Namespace
from collections.abc import Mapping

from tool.local import policies, services, state
from tool.local.gcloud.command import Failed, command
from tool.local.gcloud.iam import account_of
from tool.local.gcloud.service import service_of
from tool.local.policies import Binding
from tool.local.records import Record
from tool.local.runtime import build, processes, revisions
from tool.local.services import Ingress, Revision, SecretVersion, Service
from tool.local.state import STATE


def flags(words: str) -> tuple[str, ...]:
    return tuple(f"--{word}" for word in words.split())


# What a deploy and an update have in common, and what has an effect here.
CHANGING = flags(
    "region async! concurrency timeout max-instances ingress service-account set-env-vars"
    " update-env-vars remove-env-vars set-secrets update-secrets labels update-labels revision-suffix"
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
RESERVED = ("PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION")
INVOKER = "roles/run.invoker"


class Flags(Record):
    """What the flags of a deploy or an update say. None, or False: a flag is not given."""

    concurrency: str | None
    timeout: str | None
    max_instances: str | None
    ingress: str | None
    service_account: str | None
    set_env_vars: str | None
    update_env_vars: str | None
    remove_env_vars: str | None
    set_secrets: str | None
    update_secrets: str | None
    labels: str | None
    update_labels: str | None
    revision_suffix: str | None
    invoker_iam_check: bool
    no_invoker_iam_check: bool
    allow_unauthenticated: bool
    no_allow_unauthenticated: bool

    @property
    def make_a_revision(self) -> bool:
        """Whether one of them is about instances, and not about the service as a whole."""
        return any(
            (
                self.concurrency, self.timeout, self.max_instances, self.service_account, self.set_env_vars,
                self.update_env_vars, self.remove_env_vars, self.set_secrets, self.update_secrets,
            )
        )  # fmt: skip


def flags_in(args: Namespace) -> Flags:
    return Flags(**{name: getattr(args, name) for name in Flags.__annotations__})


@command("run deploy", "SERVICE", "--source", "--function", *CHANGING, *SILENT, *IDLE)
def deploy(args: Namespace) -> None:
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
    service = services.service(args.SERVICE)
    if not service.port:
        raise Failed(f"no port is set aside for {args.SERVICE}. Run ./deploy.sh --local")
    say_what_has_no_effect(args)
    flags = flags_in(args)
    with state.locked(f"service.{service.name}"):
        service = services.service(service.name)
        roll_out(flags, service, source, first_revision(service, args.function))
    open_or_close(flags, service.name)
    if not args.quiet:
        print(f"Service [{service.name}] has been deployed.\nURL: {service.url}", file=sys.stderr)


def first_revision(service: Service, entry: str) -> Revision:
    """What a deploy begins with where no flag says otherwise."""
    return Revision("", service.name, entry, service.account)


@command("run services update", "SERVICE", *CHANGING, *SILENT, *IDLE)
def update(args: Namespace) -> None:
    """What is said of the service takes effect at once; what is said of instances starts a new one."""
    service_of(args.SERVICE)
    say_what_has_no_effect(args)
    flags = flags_in(args)
    with state.locked(f"service.{args.SERVICE}"):
        service = service_of(args.SERVICE)
        if not flags.make_a_revision:
            services.put(with_settings(service, flags))
            return
        latest = services.revision(service.created) or services.revision(service.ready)
        if not latest:
            raise Failed(f"{args.SERVICE} has no revision that works: deploy it")
        roll_out(flags, service, revisions.folder(latest.name), latest)


def open_or_close(flags: Flags, name: str) -> None:
    """With one of the two flags allUsers is put into the policy, or taken out; without, it is left alone."""
    if not (flags.allow_unauthenticated or flags.no_allow_unauthenticated):
        return
    with state.locked("policies"):
        bindings = [without_all_users(binding) for binding in policies.bindings_of(name)]
        if flags.allow_unauthenticated:
            bindings.append(Binding(INVOKER, ("allUsers",)))
        policies.change(name, bindings)


def without_all_users(binding: Binding) -> Binding:
    if binding.role != INVOKER:
        return binding
    return binding.but(members=tuple(m for m in binding.members if m != "allUsers"))


def say_what_has_no_effect(args: Namespace) -> None:
    names = (flag.rstrip("!") for flag in IDLE)
    given = [name for name in names if getattr(args, name[2:].replace("-", "_"), None)]
    if given:
        print(f"WARNING: no effect on this machine: {' '.join(given)}", file=sys.stderr)


def with_settings(service: Service, flags: Flags) -> Service:
    """The service with what the flags say of it as a whole."""
    ingress = flags.ingress or service.ingress
    if ingress not in list(Ingress):
        raise Failed(f"--ingress is one of {', '.join(Ingress)}")
    labels = {**pairs(flags.labels), **pairs(flags.update_labels)}
    if flags.labels is None:
        labels = {**service.labels, **labels}
    check = flags.invoker_iam_check or flags.no_invoker_iam_check
    is_open = flags.no_invoker_iam_check if check else service.open
    return service.but(ingress=Ingress(ingress), labels=labels, open=is_open)


# ---- a revision is made, and gets the calls


def roll_out(flags: Flags, before: Service, source: pathlib.Path, template: Revision) -> None:
    """Makes a revision that differs from the template in what the flags say, and has it serve."""
    number = before.number + 1
    revision = made_from(template, flags)
    suffix = (
        flags.revision_suffix
        or f"{number:05}-{''.join(random.choices(string.ascii_lowercase, k=3))}"
    )
    revision = revision.but(name=f"{before.name}-{suffix}")
    if services.revision(revision.name):
        raise Failed(f"ALREADY_EXISTS: Revision named '{revision.name}' already exists.")
    service = with_settings(before, flags).but(
        account=revision.account, created=revision.name, number=number, deployed=revision.deployed
    )
    revision = revision.but(environment=built(service, source))
    services.put_revision(revision)
    port = started(service, revision)
    services.put(service.but(ready=revision.name, problem=None))
    if service.pinned:  # after a roll-back, a new revision is not called
        processes.stop(revision.name)
    else:
        revisions.serve(revision, port, revision.timeout)
    revisions.clear(services.service(service.name))


def built(service: Service, source: pathlib.Path) -> str:
    """The environment of the new revision, whose source is uploaded first."""
    place = revisions.folder(service.created)
    build.upload(source, place)
    try:
        return build.build(place)
    except build.BuildFailed as error:
        shutil.rmtree(place)
        log = STATE / "logs" / f"{service.name}.build.log"
        log.parent.mkdir(exist_ok=True)
        log.write_text(f"{error.said}\n", "utf-8")
        raise Failed(f"Build failed: {service.name}: {error}\n  Its log: {log}") from None


def started(service: Service, revision: Revision) -> int:
    """The port at which the new revision listens."""
    try:
        return revisions.start(revision)
    except revisions.StartFailed as error:
        problem = f"{service.name} failed to start and listen on the port: {error}"
        services.put(service.but(problem=problem))
        revisions.forget(revision.name)
        log = STATE / "logs" / f"{service.name}.log"
        raise Failed(f"Container Healthcheck failed: {problem}\n  Its log: {log}") from None


def made_from(template: Revision, flags: Flags) -> Revision:
    """The template with what the flags say of instances."""
    account = flags.service_account or template.account
    if not account:
        raise Failed("the local project has no default service account: give --service-account")
    account_of(account)
    return template.but(
        account=account,
        variables=variables_in(flags, template.variables),
        secrets=secrets_in(flags, template.secrets),
        concurrency=number_of("--concurrency", flags.concurrency, template.concurrency, 1000),
        max_instances=number_of(
            "--max-instances", flags.max_instances, template.max_instances, 10000
        ),
        timeout=seconds(flags.timeout) if flags.timeout else template.timeout,
        deployed=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def variables_in(flags: Flags, before: Mapping[str, str]) -> dict[str, str]:
    kept = before if flags.set_env_vars is None else pairs(flags.set_env_vars)
    variables = {**kept, **pairs(flags.update_env_vars)}
    for name in (flags.remove_env_vars or "").split(","):
        variables.pop(name, None)
    for name in variables:
        if name.startswith("X_GOOGLE_") or name in RESERVED:
            raise Failed(f"The following reserved env names were provided: {name}")
    return variables


def secrets_in(flags: Flags, before: Mapping[str, SecretVersion]) -> dict[str, SecretVersion]:
    kept = before if flags.set_secrets is None else {}
    given = {**pairs(flags.set_secrets), **pairs(flags.update_secrets)}
    for name in given:
        if "/" in name:
            raise Failed(
                f"the local target gives secrets as variables only, not as the file {name}"
            )
    return {**kept, **{name: services.secret_version(which) for name, which in given.items()}}


def number_of(flag: str, given: str | None, before: int, largest: int) -> int:
    """The number that a flag gives, or that from before."""
    given = "80" if given == "default" else given or str(before)
    if not re.fullmatch(r"[1-9]\d{0,5}", given) or int(given) > largest:
        raise Failed(f"{flag} is a number from 1 to {largest}, not {given}")
    return int(given)


def seconds(given: str) -> int:
    match = re.fullmatch(r"([1-9]\d{0,4})([smh]?)", given)
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
