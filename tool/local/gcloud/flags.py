"""The flags of gcloud run deploy and run services update, and what they say."""

import re
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence

from tool.local.gcloud.command import Failed, Misused
from tool.local.gcloud.output import duration
from tool.local.records import Json, Record
from tool.local.services import Ingress, Revision, SecretVersion, Service, secret_version


def flags(words: str) -> tuple[str, ...]:
    return tuple(f"--{word}" for word in words.split())


# What a deploy and an update have in common and that has an effect here.
CHANGING = flags(
    "region async! concurrency timeout max-instances ingress service-account set-env-vars*"
    " update-env-vars* remove-env-vars* clear-env-vars! set-secrets* clear-secrets! update-secrets*"
    " remove-secrets* labels* update-labels* remove-labels* clear-labels! revision-suffix"
    " invoker-iam-check! no-invoker-iam-check! allow-unauthenticated! no-allow-unauthenticated!"
)
# Flags that size an instance, or name what builds it, have no effect here, as tool/README.md says.
SILENT = flags(
    "memory cpu min-instances min base-image automatic-updates! no-automatic-updates!"
    " build-service-account cpu-boost! no-cpu-boost!"
)
# These have none, and a warning says so.
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


class Flags(Record):
    """What the flags of a deploy or an update say. None or False: the flag is not given."""

    concurrency: str | None
    timeout: str | None
    max_instances: str | None
    ingress: str | None
    service_account: str | None
    set_env_vars: Sequence[str] | None
    update_env_vars: Sequence[str] | None
    remove_env_vars: Sequence[str] | None
    clear_env_vars: bool
    set_secrets: Sequence[str] | None
    clear_secrets: bool
    update_secrets: Sequence[str] | None
    remove_secrets: Sequence[str] | None
    labels: Sequence[str] | None
    update_labels: Sequence[str] | None
    remove_labels: Sequence[str] | None
    clear_labels: bool
    revision_suffix: str | None
    invoker_iam_check: bool
    no_invoker_iam_check: bool
    allow_unauthenticated: bool
    no_allow_unauthenticated: bool

    @property
    def make_a_revision(self) -> bool:
        """Whether one of them is about instances, not about the service as a whole."""
        return any(
            (
                self.concurrency, self.timeout, self.max_instances, self.service_account, self.set_env_vars,
                self.update_env_vars, self.remove_env_vars, self.clear_env_vars, self.set_secrets,
                self.clear_secrets, self.update_secrets, self.remove_secrets,
            )
        )  # fmt: skip

    def service_from(self, before: Service) -> Service:
        """The earlier service, changed by the flags that are about the service as a whole."""
        ingress = self.ingress or before.ingress
        if ingress not in list(Ingress):
            raise Failed(f"--ingress is one of {', '.join(Ingress)}")
        kept = without({} if self.clear_labels else before.labels, self.remove_labels)
        labels = {**kept, **pairs("--labels", self.labels), **pairs("--update-labels", self.update_labels)}
        check = self.invoker_iam_check or self.no_invoker_iam_check
        is_open = self.no_invoker_iam_check if check else before.open
        return before.but(ingress=Ingress(ingress), labels=labels, open=is_open)

    def revision_from(self, before: Revision) -> Revision:
        """The earlier revision, changed by the flags that are about instances."""
        concurrency = number_of("--concurrency", self.concurrency, before.concurrency, 1000)
        most = number_of("--max-instances", self.max_instances, before.max_instances, 10000)
        return before.but(
            account=self.service_account or before.account,
            variables=self.variables_from(before.variables),
            secrets=self.secrets_from(before.secrets),
            concurrency=concurrency,
            max_instances=most,
            timeout=before.timeout if self.timeout is None else seconds(self.timeout),
        )

    def variables_from(self, before: Mapping[str, str]) -> dict[str, str]:
        kept = before if self.set_env_vars is None and not self.clear_env_vars else {}
        variables = {
            **without(kept, self.remove_env_vars),
            **pairs("--set-env-vars", self.set_env_vars),
            **pairs("--update-env-vars", self.update_env_vars),
        }
        for name in variables:
            if name.startswith("X_GOOGLE_") or name in RESERVED:
                raise Failed(f"The following reserved env names were provided: {name}")
        return variables

    def secrets_from(self, before: Mapping[str, SecretVersion]) -> dict[str, SecretVersion]:
        kept = before if self.set_secrets is None and not self.clear_secrets else {}
        kept = without(kept, self.remove_secrets)
        given = {
            **pairs("--set-secrets", self.set_secrets),
            **pairs("--update-secrets", self.update_secrets),
        }
        for name in given:
            if "/" in name:
                only = "the local target gives secrets as variables only, not as the file"
                raise Failed(f"{only} {name}")
            if ":" not in given[name]:
                use = f"Use {name}:latest to reference the latest version."
                raise Failed(f"No secret version specified for {name}. {use}")
        return {**kept, **{name: secret_version(which) for name, which in given.items()}}


def flags_in(args: Namespace) -> Flags:
    return Flags(**{name: getattr(args, name) for name in Flags.__annotations__})


def say_what_has_no_effect(args: Namespace) -> None:
    names = (flag.rstrip("!") for flag in IDLE)
    given = [name for name in names if getattr(args, name[2:].replace("-", "_"), None)]
    if given:
        print(f"WARNING: no effect on this machine: {' '.join(given)}", file=sys.stderr)


DEFAULTS = {"--concurrency": "80", "--max-instances": "100"}  # what "default" means


def number_of(flag: str, given: str | None, before: int, largest: int) -> int:
    """The number that a flag gives, or else the earlier one."""
    if given is None:
        return before
    given = DEFAULTS[flag] if given == "default" else given
    if not re.fullmatch(r"[1-9]\d{0,5}", given) or int(given) > largest:
        raise Failed(f"{flag} is a number from 1 to {largest}, not {given}")
    return int(given)


def seconds(given: str) -> int:
    found = duration(given) or 0
    if not 1 <= found <= 3600:
        raise Failed(f"--timeout is at most 3600 seconds, not {given}")
    return found


def listed(values: Sequence[str] | None) -> list[str]:
    """A,B as a list; ^##^A##B if one contains a comma. The values of a repeated flag add up."""
    found: list[str] = []
    for given in values or ():
        other = re.match(r"\^(.+?)\^", given)
        delimiter, rest = (other[1], given[other.end() :]) if other else (",", given)
        found += [part for part in rest.split(delimiter) if part]
    return found


def pairs(flag: str, values: Sequence[str] | None) -> dict[str, str]:
    """A=1,B=2 as a dict. Like gcloud, it refuses a key that occurs in two values of a flag."""
    found: dict[str, str] = {}
    for value in values or ():
        given = listed([value])
        for pair in given:
            if "=" not in pair:
                raise Failed(f"Bad syntax for dict arg: [{pair}]")
        new = dict(pair.split("=", 1) for pair in given)
        for name in new.keys() & found.keys():
            raise Misused(f'argument {flag}: "{name}" cannot be specified multiple times')
        found |= new
    return found


def without(before: Mapping[str, Json], names: Sequence[str] | None) -> dict[str, Json]:
    left_out = listed(names)
    return {name: content for name, content in before.items() if name not in left_out}
