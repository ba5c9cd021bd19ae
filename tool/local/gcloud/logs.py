"""gcloud commands about logs: what a person reads of what a function wrote."""

import time
from argparse import Namespace

from tool.local import services, state
from tool.local.gcloud.command import command
from tool.local.gcloud.output import timestamp
from tool.local.gcloud.service import service_of
from tool.local.records import Json, filled
from tool.local.runtime import log
from tool.local.runtime.log import Entry
from tool.local.state import STATE


def entries(name: str) -> list[Entry]:
    try:
        lines = (STATE / "logs" / f"{name}.log").read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    found = (log.entry(line) for line in lines)
    return [entry for entry in found if entry.message.strip()]


def shown(entry: Entry) -> str:
    return f"{entry.time[:19].replace('T', ' ')} {entry.message}".strip()


@command("run services logs read", "SERVICE", "--region?", "--limit", "--freshness", "--order")
def read_logs(args: Namespace) -> object:
    service_of(args.SERVICE)
    lines = [shown(entry) for entry in entries(args.SERVICE)[-int(args.limit or 100) :]]
    return "\n".join(lines) if lines else None


@command("beta run services logs tail", "SERVICE", "--region?")
def tail_logs(args: Namespace) -> None:
    """Goes on until it is interrupted."""
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
    """Of every function, the newest first. Of a filter only the service's name counts."""
    names, asked = [service.name for service in services.deployed()], args.FILTER or ""
    wanted = [name for name in names if f'"{name}"' in asked or f"={name}" in asked]
    found = [as_entry(entry, name) for name in wanted or names for entry in entries(name)]
    found.sort(key=lambda entry: str(entry["timestamp"]), reverse=True)
    return found[: int(args.limit or 1000)]


def as_entry(entry: Entry, name: str) -> dict[str, Json]:
    project = state.project()
    labels = {"location": project.region, "project_id": project.id}
    labels |= {"configuration_name": name, "service_name": name}
    return filled(
        {
            "resource": {"labels": labels, "type": "cloud_run_revision"},
            "severity": entry.severity.removeprefix("DEFAULT"),
            "textPayload": entry.message,
            "timestamp": timestamp(entry.time),
        }
    )
