"""Answers in JSON, whatever happens: {"error": "one sentence"} and the right status."""

import logging
import time
from http import HTTPMethod

import functions_framework
from flask import Flask, abort, current_app, g, request
from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.wrappers import Response

from shared import logs

__all__ = ["json_app", "json_body", "answer"]

log = logging.getLogger(__name__)

SENTENCES = {
    404: "There is nothing at this path.",
    405: "This path does not answer this method.",
    500: "Something went wrong here; it has been logged.",
}


class App(Flask):
    def log_exception(self, exc_info):  # Flask's own entry contains the path
        log.critical("Unexpected %s: a bug.", exc_info[0].__name__, exc_info=exc_info)


def json_app(name: str, largest_body: int = 16 * 1024) -> Flask:
    """A Flask app for one function's routes, whose errors are JSON.

    `largest_body`: bytes; a larger one is answered 413.
    """
    logs.to_standard_output()
    app = App(name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = largest_body + 1  # one byte more shows that it is too large
    sentences = {**SENTENCES, 413: f"The body is larger than {largest_body / 1024:g} KiB."}
    app.url_map.merge_slashes = False  # "//" is not one of our paths, and not redirected

    @app.before_request
    def begin():
        g.begun = time.monotonic()

    @app.after_request
    def end(response):
        # Logs the rule, not the path, which can contain a name. Skips OPTIONS: a deploy's test
        # calls use it, and the log should show only your own calls.
        if request.method != "OPTIONS":
            method = request.method if request.method in HTTPMethod.__members__ else "?"
            answered = f"{request.url_rule} answered {response.status_code}"
            log.info("%s %s in %.0f ms", method, answered, (time.monotonic() - g.begun) * 1000)
        return response

    @app.route("/", methods=["OPTIONS"])
    def let_in():
        # "deploy.sh verify" calls this. A caller that gets this answer was let in by the platform.
        return {}

    @functions_framework.errorhandler(500)  # for an event function, which does not use the app
    @functions_framework.errorhandler(HTTPException)  # errors before the app is reached
    @app.errorhandler(HTTPException)
    def refusal(error):
        ours = error.description != type(error).description
        sentence = error.description if ours else sentences.get(error.code, error.name + ".")
        headers = [(k, v) for k, v in error.get_headers() if k in ("Allow", "Retry-After")]
        return {"error": sentence}, error.code, headers

    return app


def json_body() -> dict:
    """The JSON object that the request carries. Anything else is answered 400, 413 or 415."""
    # A body without a Content-Length is only cut off at the limit, not refused.
    if len(request.get_data()) >= current_app.config["MAX_CONTENT_LENGTH"]:
        abort(413)
    if not request.is_json:
        abort(415, "Send the body as Content-Type: application/json.")
    try:
        body = request.get_json()
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None
    except BadRequest:
        raise BadRequest("The body is not valid JSON.") from None
    if not isinstance(body, dict):
        abort(400, "The body must be a JSON object.")
    return body


def answer(app: Flask, request) -> Response:
    """The app's answer to the request that functions-framework passes to an entry point."""
    return Response.from_app(app, request.environ)
