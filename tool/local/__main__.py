"""The entry point of this package: python -I -X utf8 tool/local/__main__.py COMMAND ARGUMENT...

-I keeps the caller's folder and PYTHON* variables out of it; -X utf8, the caller's locale. The commands:
    up ID REGION NAME...    make the local project, or bring it back, for these functions
    down                    end every process of the local project, and remove the project
    gcloud ARGUMENT...      the stand-in for gcloud (tool/local/bin/gcloud ends up here)
    run NAME                run a function in this terminal (./deploy.sh run ends up here)
What it starts itself:
    servers                 front end, metadata servers and token endpoint
    instance REVISION PORT  one function
"""

import importlib
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from tool.python.printing import prepare  # noqa: E402

COMMANDS = {
    "up": ("project", "up"),
    "down": ("project", "down"),
    "gcloud": ("gcloud.command", "main"),
    "run": ("runtime.foreground", "main"),
    "servers": ("cloud_run.servers", "main"),
    "instance": ("runtime.instance", "main"),
}

if __name__ == "__main__":
    os.umask(0o077)  # nobody else on this machine may read what this makes
    if not sys.argv[1:]:
        raise SystemExit(__doc__)
    prepare(sys.stdout, sys.stderr)  # type: ignore[arg-type]
    command, *arguments = sys.argv[1:]
    module, function = COMMANDS[command]
    try:
        getattr(importlib.import_module(f"tool.local.{module}"), function)(*arguments)
    except OSError as error:  # such as a folder instead of a file
        raise SystemExit(f"ERROR: {error}") from None
    sys.stdout.flush()
    os._exit(0)  # a deploy runs many short commands: none should spend time on shutting Python down
