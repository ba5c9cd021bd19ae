"""Passes a request on to a server on this machine, and its answer back, bytes and headers unchanged."""

import contextlib
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import ClientResponse, ClientSession, DummyCookieJar, TCPConnector, http_writer, web
from multidict import CIMultiDict
from yarl import URL

HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer"
    " transfer-encoding upgrade expect".split()
)
AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
PIECE = 65536  # bytes
IDLE = 300  # seconds; Google's front end keeps idle connections for a while

Headers = CIMultiDict[str]
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def server(handler: Handler) -> web.Server:
    """Decompresses nothing: a body is passed on as it came, whatever its Content-Encoding."""
    return web.Server(
        handler,
        auto_decompress=False,
        access_log=None,
        keepalive_timeout=IDLE,
        max_line_size=16384,
        max_field_size=32768,
    )


def client() -> ClientSession:
    """Keeps no cookies, decompresses nothing, ignores proxies in the environment.

    Each request has its own connection: a reused one may be closed at that very moment, and then
    nobody knows whether the function saw the request.
    """
    return ClientSession(
        connector=TCPConnector(limit=0, force_close=True),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=AUTOMATIC,
        trust_env=False,
    )


def as_they_came(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Headers with their names in the original case, and every byte of their values."""
    return CIMultiDict(
        (name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
        for name, value in raw
    )


def as_bytes(status_line: str, headers: CIMultiDict[str]) -> bytes:
    lines = [status_line, *(f"{name}: {value}" for name, value in headers.items())]
    if any(end in line for line in lines for end in "\r\n\0"):
        raise ValueError("a line of a header ends within it")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


# aiohttp's own loses bytes that are not UTF-8, such as the Latin-1 of Flask and gunicorn.
http_writer._serialize_headers = as_bytes


class Answer(web.StreamResponse):
    """An answer that gets no Content-Type if it has none."""

    async def _prepare_headers(self) -> None:
        says_what = "Content-Type" in self.headers
        await super()._prepare_headers()
        if not says_what:
            self.headers.pop("Content-Type", None)


def end_to_end(headers: Headers) -> Headers:
    """The headers that are meant for the other end, not only for this connection."""
    named = ",".join(headers.getall("Connection", []))
    left_out = HOP_BY_HOP | {name.strip().lower() for name in named.split(",")}
    kept = ((name, value) for name, value in headers.items() if name.lower() not in left_out)
    return CIMultiDict(kept)


async def ask(
    session: ClientSession, request: web.BaseRequest, address: str, headers: Headers
) -> ClientResponse:
    """Sends the request to http://ADDRESS, streaming its body. Does not read the answer's body yet."""
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
    """Writes the answer to the client. If the client has left, still reads it to its end."""
    headers = end_to_end(as_they_came(answer.raw_headers))
    if server:
        headers["Server"] = server
    response = Answer(status=answer.status, reason=answer.reason, headers=headers)
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
            request.transport.abort()  # an answer that was cut off must not look complete
        raise
    return response


def has_left(request: web.BaseRequest) -> bool:
    return request.transport is None or request.transport.is_closing()
