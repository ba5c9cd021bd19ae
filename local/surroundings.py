"""What stands around the functions: a metadata server for each, and the token endpoint."""

import os
import signal
import threading

from werkzeug.serving import WSGIRequestHandler, make_server

from local import processes
from local.endpoint import token_endpoint
from local.metadata import metadata_server
from local.project import names, read


class Handler(WSGIRequestHandler):
    def version_string(self) -> str:
        return "Metadata Server for Serverless"


def main() -> None:
    token_port = read("project")["token_port"]
    apps = {token_port: token_endpoint(token_port)}
    for name in names("services"):
        port = read(f"services/{name}")["metadata_port"]
        apps[port] = metadata_server(name, port)
    servers = [
        make_server("127.0.0.1", port, app, threaded=True, request_handler=Handler)
        for port, app in apps.items()
    ]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()

    def end(*_):
        for server in servers:
            server.socket.close()  # before the lock is free, so that the next finds its ports free
        os._exit(0)

    signal.signal(signal.SIGQUIT, end)  # as processes.stop() asks for
    processes.ready()
    for thread in threads:
        thread.join()  # where the main thread has ended, Python 3.12 starts no other
