"""Google's own answers to calls that no function saw, recognisable by their HTML."""

import html

from aiohttp import web

PAGE = """
<html><head>
<meta http-equiv="content-type" content="text/html;charset=utf-8">
<title>{status} {title}</title>
</head>
<body text=#000000 bgcolor=#ffffff>
<h1>Error: {name}</h1>
<h2>{text}</h2>
<h2></h2>
</body></html>
"""
# The titles and texts of 401, 403 and 404 are Google's; the others are inferred.
PAGES = {
    400: ("Bad Request", "Your client has issued a malformed or illegal request."),
    401: (
        "Unauthorized",
        "Your client does not have permission to the requested URL <code>{path}</code>.",
    ),
    403: (
        "Forbidden",
        "Your client does not have permission to get URL <code>{path}</code> from this server.",
    ),
    404: ("Page not found", "The requested URL was not found on this server."),
    405: ("Method Not Allowed", "The request method is not allowed for this URL."),
    429: ("Too Many Requests", "Rate exceeded."),
    500: ("Server Error", "The server encountered an error and could not complete your request."),
    503: ("Service Unavailable", "The service you requested is not available at this time."),
    504: ("Gateway Timeout", "The request has reached its timeout."),
}
CHALLENGE = (
    'Bearer error="invalid_token" error_description="The access token could not be verified"'
)


SERVER = "Google Frontend"  # from memory


def page(status: int, path: str = "/") -> web.Response:
    name, text = PAGES[status]
    text = text.format(path=html.escape(path, quote=False))
    body = PAGE.format(status=status, title=name, name=name, text=text)
    headers = {"Content-Type": "text/html; charset=UTF-8", "Server": SERVER}
    if status == 401:
        headers["WWW-Authenticate"] = CHALLENGE
    return web.Response(body=body.encode(), status=status, headers=headers)
