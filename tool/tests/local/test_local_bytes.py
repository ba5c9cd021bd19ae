"""Requests and answers are passed on byte for byte: nothing is compressed, decompressed, added or lost."""

import asyncio
import base64
import gzip
import os
import zlib

import pytest

from tool.local.cloud_run import forwarding
from toys import call

PACKED = {
    "gzip": gzip.compress(b"a small body"),
    "deflate": zlib.compress(b"a small body"),
    "br": b"\x0b\x05\x80a small body\x03",
    "zstd": b"\x28\xb5\x2f\xfd",
    "gzip, gzip": b"not packed at all",
}


@pytest.mark.parametrize("encoding", PACKED)
def test_a_packed_body_arrives_packed_also_through_the_proxy(local, outer, encoding):
    for content in (PACKED[encoding], PACKED[encoding] + os.urandom(200_000)):
        for url, token in outer:
            headers = {"Content-Encoding": encoding}
            answer = call(url, token, method="POST", data=content, headers=headers).json()
            assert base64.b64decode(answer["body"]) == content
            found = dict(answer["headers"])
            assert (found["Content-Encoding"], found["Content-Length"]) == (encoding, str(len(content)))


@pytest.fixture(scope="module")
def outer(local):
    """The URL of outer with your token, and the URL of a proxy to outer."""
    import subprocess

    from tool.testing import free_port
    from toys import start

    port, token = free_port(), local.gcloud("auth print-identity-token")
    words = ("gcloud", "run", "services", "proxy", "outer", "--region=us-central1", f"--port={port}")
    process = start(*words, env=local.env, stderr=subprocess.PIPE)
    try:
        process.stderr.readline(), process.stderr.readline()
        yield [(local.url("outer"), token), (f"http://localhost:{port}", None)]
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()


def exchanged(request: bytes, answer: bytes) -> tuple[bytes, bytes]:
    """Sends a request to a function, and its answer back. Returns what each of the two got."""
    got = []

    async def function(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        ends = b"\r\n0\r\n\r\n" if b"chunked" in head else b"." if b"Length" in head else b""
        got.append(head + (await reader.readuntil(ends) if ends else b""))
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def call():
        behind = await asyncio.start_server(function, "127.0.0.1", 0)
        address = f"127.0.0.1:{behind.sockets[0].getsockname()[1]}"
        async with forwarding.client() as session:

            async def hand_on(request):
                headers = forwarding.end_to_end(forwarding.as_they_came(request.raw_headers))
                async with await forwarding.ask(session, request, address, headers) as found:
                    return await forwarding.hand_back(found, request)

            loop = asyncio.get_running_loop()
            front = await loop.create_server(forwarding.server(hand_on), "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*front.sockets[0].getsockname())
            writer.write(request)
            async with asyncio.timeout(20):
                said = await reader.read()
            writer.close()
            front.close()
        behind.close()
        return said

    said = asyncio.run(call())
    return got[0], said


BEGIN = b"POST /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
SENT = BEGIN + b"Content-Length: 1\r\n\r\n."
OK = b"HTTP/1.1 200 Fine By Me\r\nDate: now\r\nServer: mine\r\n"


@pytest.mark.parametrize("header", [b"x-LoWer: caf\xe9 \xff", b"ETag: \xc3\xa9", b"X-Two: a  b", b"X-None: "])
def test_a_header_arrives_as_it_came(header):
    got, said = exchanged(
        BEGIN + header + b"\r\nContent-Length: 1\r\n\r\n.",
        OK + header + b"\r\nContent-Length: 0\r\n\r\n",
    )
    assert header + b"\r\n" in got
    assert header + b"\r\n" in said and said.startswith(b"HTTP/1.1 200 Fine By Me\r\n")


def test_an_answer_of_no_type_gets_none():
    _, said = exchanged(SENT, OK + b"Content-Length: 2\r\n\r\nok")
    assert b"content-type" not in said.lower() and said.endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("encoding", PACKED)
def test_an_answer_stays_packed(encoding):
    content = PACKED[encoding]
    headers = b"Content-Encoding: %s\r\nContent-Length: %d\r\n" % (encoding.encode(), len(content))
    _, said = exchanged(SENT, OK + headers + b"\r\n" + content)
    assert headers in said and said.endswith(b"\r\n\r\n" + content)


def test_trailers_end_a_body_and_are_no_part_of_it():
    chunked = b"Transfer-Encoding: chunked\r\n"
    body = b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
    got, said = exchanged(
        BEGIN + chunked + b"Trailer: X-Sum\r\n\r\n" + body, OK + chunked + b"\r\n" + body
    )
    for found in (got, said):
        assert found.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n") and b"X-Sum" not in found


def test_who_asks_whether_to_send_a_body_is_told_to_and_the_function_is_not_asked():
    lines = BEGIN + b"Expect: 100-Continue\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\na."
    got, said = exchanged(lines, OK + b"Content-Length: 0\r\n\r\n")
    assert b"Expect" not in got and got.endswith(b"\r\n\r\na.")
    assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


def test_no_header_can_begin_another_one():
    for ends in "\r\n\0":
        with pytest.raises(ValueError):
            forwarding.as_bytes("HTTP/1.1 200 OK", forwarding.Headers({"X": f"a{ends}b"}))
