"""gcloud run services proxy, as it stands between a browser and a private login."""

import json
import socket

import pytest
import requests
from werkzeug.test import Client

from local.proxy import Proxy


def test_it_lets_a_browser_in_as_you_whatever_the_browser_sends(address):
    for headers in ({}, {"Authorization": "Bearer x"}):
        assert requests.options(address, headers=headers, timeout=20).status_code == 200


@pytest.mark.parametrize("host", ["rebound.example", "rebound.example:80", "localhost", ""])
def test_it_serves_no_foreign_host(address, host):
    answer = requests.get(address, headers={"Host": host}, timeout=20)
    assert answer.status_code in (400, 403)


def test_it_follows_no_address_in_the_request_line(address):
    port = int(address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(
            f"GET http://rebound.example/ HTTP/1.1\r\nHost: localhost:{port}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        assert connection.makefile("rb").readline().split()[1] == b"403"


def test_a_body_of_unknown_length_arrives(address):
    def parts():
        yield json.dumps({"username": "nobody-at-all", "password": "a pass phrase"}).encode()

    headers = {"Content-Type": "application/json"}
    answer = requests.post(address, data=parts(), headers=headers, timeout=20)
    assert (answer.status_code, answer.json()["error"][:12]) == (401, "Unknown name")


def test_a_path_is_handed_on_as_it_is(receiver):
    client = Client(Proxy(f"http://{receiver.address}", 80, lambda: "a"))
    for path in ("/caf%C3%A9", "/a%2Fb?c=%20d", "/a//b"):
        assert client.get("/", environ_overrides={"RAW_URI": path}).status_code == 200
        assert receiver.requests[-1].path == path


def test_its_token_is_renewed_in_time(receiver):
    made = iter(["first", "second"])
    proxy = Proxy(f"http://{receiver.address}", 80, lambda: next(made))
    client = Client(proxy)
    for token in ("first", "first", "second"):
        assert client.get("/", environ_overrides={"RAW_URI": "/"}).status_code == 200
        assert receiver.requests[-1].headers["Authorization"] == f"Bearer {token}"
        if len(receiver.requests) == 2:
            proxy.renew_at = 0  # fifty-five minutes later


def test_a_function_that_is_gone_is_bad_gateway():
    client = Client(Proxy("http://127.0.0.1:9", 80, lambda: "a"))
    assert client.get("/", environ_overrides={"RAW_URI": "/"}).status_code == 502
