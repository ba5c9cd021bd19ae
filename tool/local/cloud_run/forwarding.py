"""Handing a request on to a server on this machine, and its answer back, bytes and headers as they are."""

import contextlib

from aiohttp import ClientResponse, ClientSession, DummyCookieJar, TCPConnector, web
from multidict import CIMultiDict, MultiMapping
from yarl import URL

HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer"
    " transfer-encoding upgrade expect".split()
)
AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
PIECE = 65536  # bytes

Headers = CIMultiDict[str]


def client() -> ClientSession:
    """Keeps no cookies, unpacks nothing, follows no proxy of the environment.

    A connection for each request: one that was kept may be closed the moment it is used again,
    and then nobody knows whether the function saw the request.
    """
    return ClientSession(
        connector=TCPConnector(limit=0, force_close=True),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=AUTOMATIC,
        trust_env=False,
    )


def end_to_end(headers: MultiMapping[str]) -> Headers:
    """The headers that are for the other end, and not for the connection alone."""
    named = ",".join(headers.getall("Connection", []))
    left_out = HOP_BY_HOP | {name.strip().lower() for name in named.split(",")}
    kept = ((name, value) for name, value in headers.items() if name.lower() not in left_out)
    return CIMultiDict(kept)


async def ask(
    session: ClientSession, request: web.BaseRequest, address: str, headers: Headers
) -> ClientResponse:
    """Sends the request to http://ADDRESS, its body as it comes. The answer's body is not read yet."""
    body = None
    if request.body_exists:
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = request.content
    url = URL(f"http://{address}{request.raw_path}", encoded=True)
    return await session.request(
        request.method, url, headers=headers, data=body, allow_redirects=False, timeout=None
    )


async def hand_back(
    answer: ClientResponse, request: web.BaseRequest, server: str | None = None
) -> web.StreamResponse:
    """Writes the answer to the client. Where the client has left, it is still read to its end."""
    headers = end_to_end(answer.headers)
    if server:
        headers["Server"] = server
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    try:
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            async for piece in answer.content.iter_chunked(PIECE):
                await response.write(piece)
            await response.write_eof()
            return response
        async for _ in answer.content.iter_chunked(PIECE):
            pass
    except BaseException:
        if response.prepared and request.transport:
            request.transport.abort()  # what has begun and cannot be finished must not look whole
        raise
    return response


def has_left(request: web.BaseRequest) -> bool:
    return request.transport is None or request.transport.is_closing()
