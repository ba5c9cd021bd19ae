"""gcloud run services proxy, between a browser and a private function."""

import base64
import socket
import subprocess

import pytest
import requests

from tool.testing import free_port
from toys import call, raw, start


@pytest.fixture(scope="module")
def address(local):
    """Where outer is open to a browser: the proxy runs as a person would run it."""
    port = free_port()
    words = [
        "gcloud",
        "run",
        "services",
        "proxy",
        "outer",
        "--region=us-central1",
        f"--port={port}",
    ]
    process = start(*words, env=local.env, stderr=subprocess.PIPE)
    try:
        said = [process.stderr.readline(), process.stderr.readline()]
        place = "in project [local-project] region [us-central1]"
        assert said == [
            f"Proxying to Cloud Run service [outer] {place}\n",
            f"http://127.0.0.1:{port} proxies to {local.url('outer')}\n",
        ]
        yield f"http://localhost:{port}"
    finally:
        process.terminate()
        assert process.wait(30) == 0
        process.stderr.close()


def host_of(address):
    return f"Host: {address.removeprefix('http://')}"


def test_it_lets_a_browser_in_as_you_whatever_the_browser_sends(address):
    for headers in ({}, {"Authorization": "Bearer x"}, {"X-Serverless-Authorization": "Bearer x"}):
        answer = call(address, headers=headers)
        assert answer.status_code == 200
        assert dict(answer.json()["headers"])["Authorization"].endswith(
            ".SIGNATURE_REMOVED_BY_GOOGLE"
        )


@pytest.mark.parametrize("host", ["rebound.example", "rebound.example:80", "localhost", ""])
def test_it_serves_no_foreign_host(address, host):
    assert call(address, headers={"Host": host}).status_code in (400, 403)


def test_it_follows_no_address_in_the_request_line(address):
    assert (
        raw(address, "GET http://rebound.example/ HTTP/1.1", host_of(address), "Connection: close")
        == 403
    )


def test_a_body_of_unknown_length_arrives(address):
    answer = call(address, method="POST", data=iter([b"one", b"two"])).json()
    assert base64.b64decode(answer["body"]) == b"onetwo"


@pytest.mark.parametrize("target", ["/caf%C3%A9", "/a%2Fb?c=%20d", "/a//b", "/a/../b"])
def test_a_path_is_handed_on_as_it_is(address, target):
    answer = raw(
        address, f"GET {target} HTTP/1.1", host_of(address), "Connection: close", read_all=True
    )
    assert f'"target":"{target}"'.encode() in answer


def test_what_was_packed_stays_packed(address):
    with requests.get(f"{address}/?gzip=1", stream=True, timeout=20) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.raw.read(2, decode_content=False) == b"\x1f\x8b"


def test_two_cookies_stay_two_and_reach_no_other_visitor(address):
    answer = requests.get(f"{address}/?cookies=2", timeout=20)
    assert answer.raw.headers.getlist("Set-Cookie") == ["c0=0", "c1=1"]
    assert "Cookie" not in dict(call(address).json()["headers"])
    mine = call(address, headers={"Cookie": "mine=1"}).json()
    assert dict(mine["headers"])["Cookie"] == "mine=1"


def test_odd_framing_does_not_disturb_the_next_request(address):
    odd = [
        (
            ["Content-Length: 4", "Transfer-Encoding: chunked"],
            b"0\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n",
        ),
        (["Transfer-Encoding: chunked"], b"zz\r\n\r\n"),
        (["Content-Length: 1", "Content-Length: 2"], b"ab"),
    ]
    for headers, body in odd:
        assert raw(address, "POST / HTTP/1.1", host_of(address), *headers, body=body) == 400
        assert call(address, path="/next").json()["target"] == "/next"


def test_a_body_that_ends_early_does_not_disturb_the_next_request(address):
    with socket.create_connection(
        ("127.0.0.1", int(address.rpartition(":")[2])), timeout=20
    ) as connection:
        lines = ["POST / HTTP/1.1", host_of(address), "Content-Length: 100"]
        connection.sendall("\r\n".join([*lines, "", "half"]).encode())
    assert call(address, path="/next").json()["target"] == "/next"


def test_a_port_that_is_taken_is_said_in_one_line(local):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        said = local.refused(f"run services proxy outer REGION --port={port}")
    assert f"port {port} cannot be opened" in said


def test_a_function_that_is_gone_is_told_to_the_browser(other):
    from tool.testing import succeeded

    other.up("lonely")
    succeeded(other.deploy("lonely", "def entry(r):\n    return ''\n", entry="entry"))
    port = free_port()
    words = [
        "gcloud",
        "run",
        "services",
        "proxy",
        "lonely",
        "--region=us-central1",
        f"--port={port}",
    ]
    process = start(*words, env=other.env, stderr=subprocess.PIPE)
    try:
        process.stderr.readline(), process.stderr.readline()
        other.end()
        answer = call(f"http://localhost:{port}")
        assert answer.status_code == 502
        assert "cannot be reached" in answer.text
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()
