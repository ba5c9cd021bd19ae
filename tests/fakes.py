"""Stand-ins for the network edges of a function: real servers on real sockets.

It also runs as a program, as a service outside, and prints its address at a free port:
    .venv/bin/python -m tests.fakes '{"paid": true}'
"""

import collections
import contextlib
import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import google.auth.crypt
import google.auth.jwt

from tool.local import tokens

SIGNER = google.auth.crypt.RSASigner.from_string(tokens.key_pair("a key for tests")[0])


Request = collections.namedtuple("Request", "method path headers body")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer goes out in one piece, as a real server's does

    def answer(self):
        length = int(self.headers.get("Content-Length", 0))
        request = Request(self.command, self.path, dict(self.headers), self.rfile.read(length))
        self.server.requests.append(request)
        status, headers, body = self.server.answer(request)
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_):
        pass


class Fake(ThreadingHTTPServer):
    """A server that answers what `answer(request)` returns: status, headers, body."""

    daemon_threads = True
    request_queue_size = 200

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.requests, self.connections = [], []
        self.released = threading.Event()  # ends every answer that hangs
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.server_port}"

    def process_request(self, request, client_address):
        self.connections.append(request)
        super().process_request(request, client_address)

    def hang_up(self):
        """Shuts down every connection that it has."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address):
        pass  # some tests are about clients that give up waiting

    def close(self):
        self.released.set()
        self.shutdown()
        self.hang_up()
        self.server_close()

    def hang(self, _request=None):
        self.released.wait(60)
        return 200, {}, ""


def as_json(status, content):
    return lambda request: (status, {"Content-Type": "application/json"}, json.dumps(content))


class FakeMetadata(Fake):
    """A metadata server. A test can replace `identity`, which answers each request for an ID token."""

    def __init__(self, port=0):
        super().__init__(port)
        self.behave()

    def behave(self):
        """Undoes what a test changed."""
        self.requests.clear()
        self.lifetime = 3600
        self.identity = self.good_token

    def answer(self, request):
        url = urlsplit(request.path)
        flavor = {"Metadata-Flavor": "Google"}
        if url.path.endswith("/identity"):
            status, headers, body = self.identity(request)
            return status, {**flavor, **headers}, body
        if "recursive=true" in url.query:
            info = {"aliases": ["default"], "email": "caller@example.com", "scopes": []}
            return 200, {**flavor, "Content-Type": "application/json"}, json.dumps(info)
        return 200, {**flavor, "Content-Type": "text/plain"}, "computeMetadata/\n"

    def good_token(self, request):
        [audience] = parse_qs(urlsplit(request.path).query)["audience"]
        return 200, {"Content-Type": "text/html"}, self.token(aud=audience)

    def token(self, **claims):
        now = int(time.time())
        claims = {"iat": now, "exp": now + self.lifetime, "email": "caller@example.com", **claims}
        return google.auth.jwt.encode(SIGNER, claims).decode()

    @property
    def identity_requests(self):
        return [r for r in self.requests if "/identity" in r.path]


if __name__ == "__main__":
    fake = Fake()
    fake.answer = as_json(200, json.loads(sys.argv[1]))
    print(f"http://{fake.address}", flush=True)
    threading.Event().wait()
