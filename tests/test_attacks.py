"""What an attacker tries, and what they get."""

import pathlib
import socket
import sys

import pytest
import requests
from names import LOGIN, SEARCH, USER_PROFILES

from local.testing import FUNCTIONS, variable


def raw(project, name, *lines, body=b""):
    """Sends exactly these lines, and returns the status of the answer."""
    port = int(project.url(name).rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        answer = connection.makefile("rb").readline().split()
    return int(answer[1]) if answer else None


@pytest.fixture
def token(project):
    return project.token(LOGIN, project.url(USER_PROFILES))


@pytest.fixture
def start(project):
    """The beginning of a request to user-profiles that is in order."""
    host = project.url(USER_PROFILES).removeprefix("http://")
    return [f"Host: {host}", "Connection: close"]


@pytest.mark.parametrize(
    "request_line, headers, status",
    [
        ("OPTIONS / HTTP/1.1", ["Authorization: Bearer {good}"], 200),
        ("OPTIONS / HTTP/1.1", ["Authorization: bearer {good}"], 200),
        ("OPTIONS / HTTP/1.1", ["Authorization: Bearer {good}", "Authorization: Bearer x"], 401),
        ("OPTIONS / HTTP/1.1", ["Authorization: Bearer x", "Authorization: Bearer {good}"], 401),
        ("OPTIONS / HTTP/1.1", ["Authorization: Basic {good}"], 401),
        ("OPTIONS / HTTP/1.1", ["Authorization: {good}"], 401),
        ("OPTIONS / HTTP/1.1", ["Authorization: Bearer"], 401),
        ("OPTIONS / HTTP/1.1", ["Authorization:"], 403),
        ("OPTIONS / HTTP/1.1", ["X_Serverless_Authorization: Bearer {good}"], 403),
        ("OPTIONS / HTTP/1.1", ["Proxy-Authorization: Bearer {good}"], 403),
        ("OPTIONS / HTTP/1.1", ["Cookie: Authorization=Bearer {good}"], 403),
        ("OPTIONS /?access_token={good} HTTP/1.1", [], 403),
        ("OPTIONS / HTTP/1.1", ["X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: localhost"], 403),
        ("OPTIONS / HTTP/1.1", ["X-Goog-Authenticated-User-Email: login@example.com"], 403),
        ("OPTIONS / HTTP/1.1", ["X-Serverless-Authorization: Bearer x", "Authorization: Bearer {good}"], 401),
        ("GET /healthz HTTP/1.1", ["Authorization: Bearer {good}"], 404),
        ("GET /%68ealthz HTTP/1.1", ["Authorization: Bearer {good}"], 404),
        ("GET /profiles/../../etc/passwd HTTP/1.1", ["Authorization: Bearer {good}"], 404),
        ("GET //profiles/ada HTTP/1.1", ["Authorization: Bearer {good}"], 404),
        ("GET /profiles/%2e%2e%2fverify HTTP/1.1", ["Authorization: Bearer {good}"], 404),
        ("GET /profiles/ada%00 HTTP/1.1", ["Authorization: Bearer {good}"], 404),
        ("TRACE / HTTP/1.1", ["Authorization: Bearer {good}"], 405),
        ("POST /profiles HTTP/1.1", ["Authorization: Bearer {good}", "Content-Length: 2",
                                     "Transfer-Encoding: chunked"], 400),
        ("POST /profiles HTTP/1.1", ["Authorization: Bearer {good}", "Content-Length: 2",
                                     "Content-Length: 3"], 400),
        ("POST /profiles HTTP/1.1", ["Authorization: Bearer {good}", "Content-Length: -1"], 400),
        ("POST /profiles HTTP/1.1", ["Authorization: Bearer {good}", "Content-Length: 99999999"], 413),
    ],
)  # fmt: skip
def test_smuggled_headers_and_tricky_paths(project, token, start, request_line, headers, status):
    lines = [line.format(good=token) for line in (request_line, *start, *headers)]
    assert raw(project, USER_PROFILES, *lines, body=b"{}") == status


def test_a_foreign_host_in_the_request_line_reaches_nothing(project, token):
    address = project.url(USER_PROFILES).removeprefix("http://")
    for line, host in (
        ("OPTIONS http://rebound.example/ HTTP/1.1", "rebound.example"),
        ("OPTIONS / HTTP/1.1", f"rebound.example:{address.rpartition(':')[2]}"),
        ("OPTIONS / HTTP/1.1", f"{address}.rebound.example"),
    ):
        status = raw(
            project, USER_PROFILES, line, f"Host: {host}", f"Authorization: Bearer {token}"
        )
        assert status in (400, 404)


def test_an_id_token_is_no_access_token(project, token):
    """Replayed where a token of another kind is asked for, it is of no use."""
    port = project.token_port()
    url = f"http://127.0.0.1:{port}/v1/projects/-/serviceAccounts/{project.email(SEARCH)}:generateIdToken"
    body = {"audience": project.url(USER_PROFILES)}
    for credential in (token, project.token("you", None), "ya29." + token, "", "x"):
        headers = {"Authorization": f"Bearer {credential}"}
        assert requests.post(url, json=body, headers=headers, timeout=20).status_code == 401


def test_a_function_s_access_token_makes_no_tokens_of_another(project):
    metadata = f"http://{project.env['SEARCH_METADATA_HOST']}/computeMetadata/v1/instance"
    access = requests.get(
        f"{metadata}/service-accounts/default/token",
        headers={"Metadata-Flavor": "Google"},
        timeout=20,
    ).json()["access_token"]
    url = (
        f"http://127.0.0.1:{project.token_port()}/v1/projects/-/serviceAccounts/"
        f"{project.email(LOGIN)}:generateIdToken"
    )
    headers = {"Authorization": f"Bearer {access}"}
    body = {"audience": project.url(USER_PROFILES)}
    assert requests.post(url, json=body, headers=headers, timeout=20).status_code == 403


def test_an_exchanged_token_is_not_exchanged_again(project, token):
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": token}
    url = f"http://127.0.0.1:{project.token_port()}/token"
    answer = requests.post(url, data=form, timeout=20)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_the_token_endpoint_answers_no_foreign_host(project):
    url = f"http://127.0.0.1:{project.token_port()}/oauth2/v1/certs"
    headers = {"Host": "rebound.example"}
    assert requests.get(url, headers=headers, timeout=20).status_code == 404


@pytest.mark.skipif(sys.platform != "linux", reason="left out: needs /proc")
def test_everything_listens_on_loopback_only(project):
    ports = {int(project.url(name).rpartition(":")[2]) for name in FUNCTIONS}
    for name in FUNCTIONS:
        ports.add(int(project.env[f"{variable(name)}_METADATA_HOST"].rpartition(":")[2]))
    ports.add(project.token_port())
    listening = []
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            address, _, port = line.split()[1].partition(":")
            if line.split()[3] == "0A" and int(port, 16) in ports:
                listening.append(address)
    assert listening == ["0100007F"] * len(ports)  # 127.0.0.1, its bytes reversed
