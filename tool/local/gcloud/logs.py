"""gcloud commands about logs: what a person reads of what a function wrote."""

import json
import time

from tool.local.gcloud.command import command
from tool.local.gcloud.run import deployed, service_of
from tool.local.state import STATE


def entries(name: str) -> list[dict]:
    try:
        lines = (STATE / "logs" / f"{name}.log").read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    found = [entry_of(line) for line in lines if line.strip()]
    return [entry for entry in found if entry["message"].strip()]


def entry_of(line: str) -> dict:
    try:
        entry = json.loads(line)
        return {"message": str(entry["message"]), "time": str(entry.get("time", "")), **entry}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {"severity": "DEFAULT", "time": "", "message": line}


def shown(entry: dict) -> str:
    return f"{entry['time'][:19].replace('T', ' ')} {entry['message']}".strip()


@command("run services logs read", "SERVICE", "--region?", "--limit", "--freshness", "--order")
def read_logs(args):
    service_of(args.SERVICE)
    lines = [shown(entry) for entry in entries(args.SERVICE)[-int(args.limit or 100) :]]
    return "\n".join(lines) if lines else None


@command("beta run services logs tail", "SERVICE", "--region?")
def tail_logs(args):
    """Goes on until it is interrupted."""
    service_of(args.SERVICE)
    file = STATE / "logs" / f"{args.SERVICE}.log"
    try:
        with open(file, encoding="utf-8", errors="replace") as log:
            log.seek(0, 2)
            rest = ""
            while file.exists():
                rest += log.readline()
                if rest.endswith("\n"):
                    print(shown(entry_of(rest)), flush=True)
                    rest = ""
                elif not rest:
                    time.sleep(0.1)
    except KeyboardInterrupt:
        pass


@command("logging read", "FILTER?", "--limit", "--freshness", "--order")
def read_all_logs(args):
    """Of every function, the newest first. Of a filter only the service's name counts."""
    wanted = [
        name
        for name in deployed()
        if not args.FILTER or f'"{name}"' in args.FILTER or f"={name}" in args.FILTER
    ]
    found = [
        {
            "resource": {"labels": {"service_name": name}, "type": "cloud_run_revision"},
            "severity": entry.get("severity", "DEFAULT"),
            "textPayload": entry["message"],
            "timestamp": entry["time"],
        }
        for name in wanted or deployed()
        for entry in entries(name)
    ]
    found.sort(key=lambda entry: entry["timestamp"], reverse=True)
    return found[: int(args.limit or 1000)]
