"""gcloud run services proxy: opens a private function to a browser on this machine, as you."""

import sys
import time

from werkzeug.middleware.http_proxy import ProxyMiddleware
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

from local import tokens

RENEW_AFTER = 55 * 60  # seconds, as the real one does


class Handler(WSGIRequestHandler):
    def log_request(self, *_):
        pass


class Proxy:
    """WSGI application that hands every request on to `url`, with a token of `account`."""

    def __init__(self, url: str, port: int, account: dict):
        self.account, self.headers, self.renew_at = account, {}, 0
        self.hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        host = url.partition("//")[2]
        self.target = {"target": url, "host": host, "headers": self.headers, "remove_prefix": False}
        self.middleware = ProxyMiddleware(Response(), {}, timeout=60)

    def __call__(self, environ, start_response):
        # A web page that reaches this under a name of its own must not act as you.
        if environ.get("HTTP_HOST") not in self.hosts:
            return Response("not a host of this proxy\n", 403)(environ, start_response)
        if time.time() > self.renew_at:
            token = tokens.id_token(self.account, tokens.GCLOUD_CLIENT_ID)
            self.headers["Authorization"] = f"Bearer {token}"
            self.renew_at = time.time() + RENEW_AFTER
        environ.pop("HTTP_AUTHORIZATION", None)
        forward = self.middleware.proxy_to(self.target, environ["PATH_INFO"], "/")
        return forward(environ, start_response)


def serve(url: str, port: int, account: dict) -> None:
    """Runs until it is interrupted."""
    server = make_server(
        "127.0.0.1", port, Proxy(url, port, account), threaded=True, request_handler=Handler
    )
    print(f"http://127.0.0.1:{port} proxies to {url}", file=sys.stderr)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
