"""Revisions: how one is started, and which one serves."""

import os
import pathlib
import signal

from tool.local import accounts, policies, roles, services, state
from tool.local.runtime import log, origin, processes
from tool.local.services import Revision, SecretVersion, Service, Serving
from tool.local.state import SECRETS, STATE, secret_file

PATIENCE = 20  # seconds that a process may take to end


class StartFailed(Exception):
    """One line that says why."""


def folder(name: str) -> pathlib.Path:
    return STATE / "revisions" / name


def command(revision: Revision) -> list[str]:
    # Not through the script's first line, which a long path or a copied clone can break.
    programs = pathlib.Path(revision.environment) / "bin"
    return [str(programs / "python"), str(programs / "functions-framework")]


def environment(revision: Revision, port: int, home: str) -> dict[str, str]:
    """The environment of a function: as in the cloud, with nothing from this shell."""
    metadata = services.service(revision.service).metadata_host
    return {
        "PATH": f"{revision.environment}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": home,  # short, because gunicorn has a socket there, and its path has a limit
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "TRUE",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "K_SERVICE": revision.service,
        "K_REVISION": revision.name,
        "K_CONFIGURATION": revision.service,
        "FUNCTION_TARGET": revision.entry,
        "FUNCTION_SIGNATURE_TYPE": "http",
        "LOG_EXECUTION_ID": "true",
        "CLOUD_RUN_TIMEOUT_SECONDS": str(revision.timeout),
        # In the cloud, the front end's address is not 127.0.0.1, which gunicorn trusts.
        "FORWARDED_ALLOW_IPS": "192.0.2.1",
        # Where Google's libraries look for the metadata server, and where they check that it is there.
        "GCE_METADATA_HOST": metadata,
        "GCE_METADATA_IP": metadata,
        **revision.variables,
        **{name: secret(which, revision.account) for name, which in revision.secrets.items()},
    }


def secret(which: SecretVersion, email: str) -> str:
    """The value of a secret, if the account may read it, as in the cloud."""
    name = which.name
    if not policies.allowed(roles.SECRET, accounts.account(email), f"secret.{name}"):
        denied = f"Permission denied on secret: {name} for Revision service account {email}."
        raise StartFailed(
            f"{denied} The service account used must be granted the 'Secret Manager Secret Accessor'"
            " role (roles/secretmanager.secretAccessor) at the secret, project or higher level."
        )
    try:
        content = secret_file(name).read_bytes()
    except OSError:
        raise StartFailed(
            f"the secret {name} has no value here: write it into {SECRETS / name}"
        ) from None
    if b"\0" in content:
        raise StartFailed(f"the secret {name} contains a zero byte, which no variable can contain")
    return os.fsdecode(content)  # byte for byte: a newline at the end is part of it


def start(revision: Revision) -> int:
    """Starts a revision and returns its port. Raises StartFailed."""
    from tool.local.runtime import ports  # slow to load, and most commands do not need it

    file = STATE / "logs" / f"{revision.service}.log"
    written = file.stat().st_size if file.exists() else 0
    if not pathlib.Path(revision.environment, "bin").is_dir():
        raise StartFailed(f"its installed packages are no longer in {revision.environment}")
    port = ports.set_aside(f"{STATE} {revision.name}", set())
    environment(revision, port, "")  # raises for a missing secret before anything is started
    try:
        processes.start(revision.name, "instance", revision.name, str(port), log=revision.service)
    except ChildProcessError:
        said = said_since(file, written)
        start_log(revision.service).write_text("\n".join(said) + "\n", "utf-8", "replace")
        where = origin.place(said, revision.origin) if revision.origin else ""
        raise StartFailed(f"{where}: {last_of(said)}" if where else last_of(said)) from None
    return port


def start_log(service: str) -> pathlib.Path:
    """The file with the output of a revision that did not start, as plain text."""
    return STATE / "logs" / f"{service}.start.log"


def said_since(log_file: pathlib.Path, written: int) -> list[str]:
    """The lines that a process has written since its log was that long."""
    with open(log_file, "rb") as file:
        file.seek(written)
        entries = map(log.entry, file.read().decode("utf-8", "replace").splitlines())
        return [line for entry in entries for line in entry.message.splitlines() if line.strip()]


def last_of(said: list[str]) -> str:
    """The last line that a process wrote before it ended: of a traceback, the line with the error."""
    last = said[-1].strip() if said else "it ended without a word"
    return last.removeprefix("functions_framework.exceptions.")


def serve(revision: Revision, port: int, timeout: int | None) -> None:
    """Sends the calls to this revision from now on. Its predecessor finishes what it has begun."""
    service = services.service(revision.service)
    serving = Serving(revision.name, port, revision.places, timeout)
    services.put(service.but(serving=serving))
    if service.serving and service.serving.revision != revision.name:
        processes.send(service.serving.revision, signal.SIGTERM)


def is_up(service: Service) -> bool:
    """Whether the process that serves runs and is not about to end."""
    from tool.local.runtime import ports

    serving = service.serving
    if not serving or processes.is_ending(serving.revision):
        return False
    name = serving.revision
    is_whole = processes.running(name) and processes.is_here(name) and processes.is_kept(name)
    return is_whole and ports.answers(serving.port)


def bring_back(name: str) -> str:
    """Starts a function that should serve but no longer runs, for example after a reboot; says so."""
    service = services.service(name)
    if not service.serving or is_up(service):
        return ""
    try:
        start_and_serve(service.serving.revision)
    except StartFailed as error:
        return f"{name} does not start again: {error}"
    return f"{name} was no longer running, and was started again"


def start_and_serve(name: str) -> None:
    """Starts an existing revision, and sends it the calls. Raises StartFailed."""
    processes.wait_or_kill(name, PATIENCE)
    revision = services.revision(name)
    if not revision:
        raise StartFailed(f"the revision {name} is gone. Deploy its function")
    serve(revision, start(revision), revision.timeout)


def end(name: str) -> None:
    """Ends every process of a service, and removes its revisions."""
    for revision in services.revisions_of(name):
        processes.stop(revision.name)
        forget(revision.name)


def forget(name: str) -> None:
    import shutil  # slow to load, and most commands of a deploy remove nothing

    shutil.rmtree(folder(name), ignore_errors=True)
    state.remove(f"revisions/{name}")
    for file in (STATE / "run" / name, STATE / "locks" / f"keeper.{name}", log.note_of_pipe(name)):
        file.unlink(missing_ok=True)


def clear(service: Service) -> None:
    """Removes revisions that have ended, except three to go back to.

    One that runs without getting calls is told to end: its deploy was cut short after it listened.
    """
    needed = {service.ready, service.serving.revision if service.serving else ""}
    others = [r for r in services.revisions_of(service.name) if r.name not in needed]
    for revision in others:
        if processes.running(revision.name) and not processes.is_ending(revision.name):
            processes.send(revision.name, signal.SIGTERM)
    ended = [r for r in others if not processes.running(r.name)]
    ended.sort(key=lambda revision: revision.deployed)
    for revision in ended[:-3]:
        forget(revision.name)
