"""One instance of a function: functions-framework, started as on Cloud Run, behind the check."""

import os
import sys

import functions_framework
from functions_framework._http import create_server

from local import processes
from local.project import ROOT


def main(name: str) -> None:
    # The function must find what was staged with it, and nothing else of this repository.
    sys.path.remove(str(ROOT))
    os.environ.pop("LOCAL_STATE")
    app = functions_framework.create_app()  # FUNCTION_TARGET in ./main.py
    from local.invoker import InvokerCheck  # after the function, as nothing precedes it there

    app.wsgi_app = InvokerCheck(app.wsgi_app, name)
    server = create_server(
        app,
        False,
        when_ready=lambda _: processes.ready(),
        control_socket_disable=True,
        keepalive=300,  # seconds; Google's front end does not hang up on an idle caller soon
    )
    server.run("127.0.0.1", int(os.environ["PORT"]))
