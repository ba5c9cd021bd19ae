"""gcloud run services proxy: opens a private function to a browser on this machine, as you."""

import sys
import time

import requests
from werkzeug.http import is_hop_by_hop_header
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from local import tokens

RENEW_AFTER = 55 * 60  # seconds, as the real one does


class Proxy:
    """WSGI application that hands every request on to `url`, with a token of `new_token()`."""

    def __init__(self, url: str, port: int, new_token):
        self.url, self.new_token, self.renew_at = url, new_token, 0
        self.hosts = [f"{host}:{port}".removesuffix(":80") for host in ("127.0.0.1", "localhost")]
        self.session = requests.Session()
        self.session.trust_env = False

    def __call__(self, environ, start_response):
        return self.answer(Request(environ))(environ, start_response)

    def answer(self, request: Request) -> Response:
        # A web page that reaches this under a name of its own must not act as you.
        path = request.environ["RAW_URI"]
        if request.host not in self.hosts or not path.startswith("/"):
            return Response("not a host of this proxy\n", 403)
        if time.time() > self.renew_at:
            self.token, self.renew_at = self.new_token(), time.time() + RENEW_AFTER
        headers = {k: v for k, v in request.headers if not is_hop_by_hop_header(k) and k != "Host"}
        headers["Authorization"] = f"Bearer {self.token}"
        try:
            answer = self.session.request(
                request.method,
                self.url + path,
                headers=headers,
                data=request.get_data(),
                allow_redirects=False,
                timeout=60,
            )
        except requests.RequestException as error:
            return Response(f"{self.url} cannot be reached: {type(error).__name__}\n", 502)
        kept = [(k, v) for k, v in answer.headers.items() if not is_hop_by_hop_header(k)]
        return Response(answer.content, answer.status_code, kept)


class Quietly(WSGIRequestHandler):
    def log_request(self, *_):
        pass


def serve(url: str, port: int, account: dict) -> None:
    """Runs until it is interrupted."""
    proxy = Proxy(url, port, lambda: tokens.id_token(account, tokens.GCLOUD_CLIENT_ID))
    server = make_server("127.0.0.1", port, proxy, threaded=True, request_handler=Quietly)
    print(f"http://127.0.0.1:{port} proxies to {url}", file=sys.stderr)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
