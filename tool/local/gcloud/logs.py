"""gcloud commands about logs: what functions wrote, and the calls that reached them."""

import datetime
import time
from argparse import Namespace
from typing import TypeVar

from tool.local import services, state
from tool.local.cloud_run.calls import Call, read
from tool.local.gcloud.command import Failed, command
from tool.local.gcloud.log_filter import terms_of
from tool.local.gcloud.output import duration, timestamp
from tool.local.gcloud.service import service_of
from tool.local.records import Json, filled
from tool.local.runtime import log
from tool.local.runtime.log import Entry
from tool.local.state import STATE

Timed = TypeVar("Timed", Entry, Call)


def fresh(found: list[Timed], freshness: str | None) -> list[Timed]:
    """The entries within --freshness, for example the last 1h."""
    if not freshness:
        return found
    seconds = duration(freshness)
    if not seconds:
        raise Failed(f"--freshness is a time such as 1h, not {freshness}")
    since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
    return [entry for entry in found if entry.time >= since.isoformat()]


def shown(entry: Entry) -> str:
    return f"{entry.time[:19].replace('T', ' ')} {entry.message}".strip()


@command("run services logs read", "SERVICE", "--region?", "--limit", "--freshness")
def read_logs(args: Namespace) -> object:
    service_of(args.SERVICE)
    found = fresh(log.entries(args.SERVICE), args.freshness)
    lines = [shown(entry) for entry in found[-int(args.limit or 100) :]]
    return "\n".join(lines) if lines else None


@command("beta run services logs tail", "SERVICE", "--region?")
def tail_logs(args: Namespace) -> None:
    """Runs until it is interrupted."""
    service_of(args.SERVICE)
    file, rest = STATE / "logs" / f"{args.SERVICE}.log", ""
    try:
        with open(file, encoding="utf-8", errors="replace") as written:
            written.seek(0, 2)
            while file.exists():
                rest += written.readline()
                if rest.endswith("\n"):
                    print(shown(log.entry(rest)), flush=True)
                    rest = ""
                elif not rest:
                    time.sleep(0.1)
    except KeyboardInterrupt:
        pass


@command("logging read", "FILTER?", "--limit", "--freshness", "--order")
def read_all_logs(args: Namespace) -> object:
    """The entries of every function, and the calls that reached it, that match the filter, newest first."""
    terms = terms_of(args.FILTER or "")
    if args.order not in (None, "asc", "desc"):
        raise Failed(f"--order is asc or desc, not {args.order}")
    names = [service.name for service in services.deployed()]
    found = [as_entry(e, name) for name in names for e in fresh(log.entries(name), args.freshness)]
    calls = [call for call in fresh(list(read()), args.freshness) if call.function in names]
    found += map(as_request, calls)
    found = [entry for entry in found if all(term.fits(entry) for term in terms)]
    found.sort(key=lambda entry: str(entry.get("timestamp", "")), reverse=args.order != "asc")
    return found[: int(args.limit or 1000)]


def as_entry(entry: Entry, name: str) -> dict[str, Json]:
    return filled(
        {
            "resource": resource(name),
            "severity": entry.severity.removeprefix("DEFAULT"),
            "textPayload": entry.message,
            "timestamp": timestamp(entry.time),
            "trace": entry.trace,
        }
    )


def as_request(call: Call) -> dict[str, Json]:
    """A call as in the request log, which does not keep the query of its URL."""
    project = state.project().id
    return {
        "httpRequest": {
            "latency": f"{call.milliseconds / 1000:.4f}s",
            "requestMethod": call.method,
            "requestUrl": services.service(call.function).url + call.path,
            "status": call.status,
        },
        "logName": f"projects/{project}/logs/run.googleapis.com%2Frequests",
        "resource": resource(call.function),
        "severity": "INFO" if call.status < 400 else "WARNING" if call.status < 500 else "ERROR",
        "spanId": call.span,
        "timestamp": timestamp(call.time),
        "trace": f"projects/{project}/traces/{call.trace}",
    }


def resource(name: str) -> dict[str, Json]:
    project = state.project()
    labels = {"location": project.region, "project_id": project.id}
    labels |= {"configuration_name": name, "service_name": name}
    return {"labels": labels, "type": "cloud_run_revision"}
