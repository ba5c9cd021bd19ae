"""The one way into this package: python -I local/__main__.py COMMAND ARGUMENT...

-I keeps the caller's folder and PYTHON* variables out of it. The commands:
    up ID REGION NAME...    make the local project, or bring it back, for these functions
    down                    end every process of the local project, and remove it
    gcloud ARGUMENT...      the stand-in for gcloud (local/bin/gcloud ends up here)
    watch FOLDER...         print what changes below, a line each time, until it is ended
    run NAME                run a function in this terminal (local/run ends up here)
What it starts itself:
    servers                 front end, metadata servers and token endpoint
    instance REVISION PORT  one function
"""

import importlib
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

if __name__ == "__main__":
    os.umask(0o077)  # what this makes is for nobody else on this machine
    if not sys.argv[1:]:
        raise SystemExit(__doc__)
    command, *arguments = sys.argv[1:]
    if command in ("up", "down"):
        getattr(importlib.import_module("local.project"), command)(*arguments)
    elif command == "run":
        importlib.import_module("local.foreground").main(*arguments)
    else:
        importlib.import_module(f"local.{command}").main(*arguments)
    sys.stdout.flush()
    os._exit(0)  # a deploy runs many short commands: none spends time on taking Python apart
