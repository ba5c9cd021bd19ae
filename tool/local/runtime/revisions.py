"""Revisions: what was deployed, how it is started, and which one serves."""

import json
import pathlib
import signal

from tool.local import roles, state
from tool.local.runtime import processes
from tool.local.state import SECRETS, STATE

PATIENCE = 20  # seconds that a process may take to end


class StartFailed(Exception):
    """One line that says why."""


def folder(revision: str) -> pathlib.Path:
    return STATE / "revisions" / revision


def venv(revision: str) -> pathlib.Path:
    return pathlib.Path(state.read(f"revisions/{revision}")["environment"])


def command(revision: str) -> list[str]:
    # Not by the script's first line, which a long path or a copied clone can make wrong.
    programs = venv(revision) / "bin"
    return [str(programs / "python"), str(programs / "functions-framework")]


def environment(revision: str, port: int, home: str) -> dict[str, str]:
    """What a function finds in its environment: as in the cloud, and nothing of this shell's."""
    made = state.read(f"revisions/{revision}")
    service = state.read(f"services/{made['service']}")
    metadata = f"127.0.0.1:{service['metadata_port']}"
    return {
        "PATH": f"{venv(revision) / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": home,  # short, for gunicorn has a socket there, whose path has a limit
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "TRUE",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "K_SERVICE": made["service"],
        "K_REVISION": revision,
        "K_CONFIGURATION": made["service"],
        "FUNCTION_TARGET": made["entry"],
        "FUNCTION_SIGNATURE_TYPE": "http",
        "LOG_EXECUTION_ID": "true",
        "CLOUD_RUN_TIMEOUT_SECONDS": str(made["timeout"]),
        # In the cloud the front end has another address than this one, which gunicorn trusts.
        "FORWARDED_ALLOW_IPS": "192.0.2.1",
        # Where Google's libraries look for the metadata server, and where they ask whether it is there.
        "GCE_METADATA_HOST": metadata,
        "GCE_METADATA_IP": metadata,
        **made["variables"],
        **{name: secret(which, made["account"]) for name, which in made["secrets"].items()},
    }


def secret(which: str, account: str) -> str:
    """The value of a secret, which the account must be allowed to read, as in the cloud."""
    name = which.partition(":")[0]
    if not state.allowed(roles.SECRET, state.account(account), f"secret.{name}"):
        denied = f"Permission denied on secret: {name} for Revision service account {account}."
        raise StartFailed(
            f"{denied} The service account used must be granted the 'Secret Manager Secret Accessor'"
            " role (roles/secretmanager.secretAccessor) at the secret, project or higher level."
        )
    try:
        return (SECRETS / name).read_text("utf-8").removesuffix("\n")
    except OSError:
        raise StartFailed(
            f"the secret {name} has no value here: write it into {SECRETS / name}"
        ) from None


def start(revision: str) -> int:
    """Starts a revision and returns its port. Raises StartFailed."""
    from tool.local.runtime import ports  # slow to load, and most commands do without it

    name = state.read(f"revisions/{revision}")["service"]
    log = STATE / "logs" / f"{name}.log"
    written = log.stat().st_size if log.exists() else 0
    port = ports.set_aside(f"{STATE} {revision}", set())
    environment(revision, port, "")  # names a secret that is missing, before anything is started
    try:
        processes.start(revision, "instance", revision, str(port), log=name)
    except ChildProcessError:
        raise StartFailed(last_line(log, written)) from None
    return port


def last_line(log: pathlib.Path, written: int) -> str:
    """What a process said last, before it ended: of a traceback, the line with the error."""
    with open(log, "rb") as file:
        file.seek(written)
        lines = file.read().decode("utf-8", "replace").splitlines()
    for line in reversed(lines):
        try:
            line = json.loads(line)["message"]
        except (ValueError, TypeError, KeyError):
            pass
        if said := [part.strip() for part in str(line).splitlines() if part.strip()]:
            return said[-1].removeprefix("functions_framework.exceptions.")
    return "it ended without a word"


def serve(name: str, revision: str, port: int, **changes) -> None:
    """From now on the front end sends the calls to this one. Its predecessor ends what it has begun."""
    service, made = state.read(f"services/{name}"), state.read(f"revisions/{revision}")
    before = service.get("serving", {}).get("revision")
    limits = {"places": made["places"], "timeout": made["timeout"]}
    serving = {"revision": revision, "port": port, **limits, **changes}
    state.write(f"services/{name}", {**service, "serving": serving})
    if before and before != revision:
        processes.send(before, signal.SIGTERM)


def is_up(name: str) -> bool:
    """Whether the process that serves runs, and is not just ending."""
    from tool.local.runtime import ports

    serving = (state.read(f"services/{name}") or {}).get("serving")
    if not serving or processes.is_ending(serving["revision"]):
        return False
    return processes.running(serving["revision"]) and ports.answers(serving["port"])


def bring_back(name: str) -> None:
    """Starts what should serve and does not run any more, for example after a reboot."""
    serving = (state.read(f"services/{name}") or {}).get("serving")
    if not serving or is_up(name):
        return
    revision = serving["revision"]
    processes.wait_or_kill(revision, PATIENCE)
    try:
        serve(name, revision, start(revision))
    except StartFailed as error:
        print(f"  {name} does not start again: {error}")


def end(name: str) -> None:
    """Ends every process of a service, and removes its revisions."""
    for revision in of_service(name):
        processes.stop(revision)
        forget(revision)


def of_service(name: str) -> list[str]:
    # One of another service may have gone since it was listed.
    known = {r: state.read(f"revisions/{r}") or {} for r in state.names("revisions")}
    return [revision for revision, made in known.items() if made.get("service") == name]


def forget(revision: str) -> None:
    import shutil  # slow to load, and most commands of a deploy remove nothing

    shutil.rmtree(folder(revision), ignore_errors=True)
    state.remove(f"revisions/{revision}")
    (STATE / "run" / revision).unlink(missing_ok=True)


def clear(name: str) -> None:
    """Removes revisions that have ended, but for three to go back to.

    One that runs and is not called is told to end: its deploy was cut short once it listened.
    """
    service = state.read(f"services/{name}")
    needed = {service.get("serving", {}).get("revision"), service.get("ready")}
    for revision in set(of_service(name)) - needed:
        if processes.running(revision) and not processes.is_ending(revision):
            processes.send(revision, signal.SIGTERM)
    ended = [r for r in of_service(name) if r not in needed and not processes.running(r)]
    ended.sort(key=lambda revision: state.read(f"revisions/{revision}")["deployed"])
    for revision in ended[:-3]:
        forget(revision)
