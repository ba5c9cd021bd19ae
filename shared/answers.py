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
    def log_exception(self, exc_info):  # Flask's own entry has the path in it
        log.critical("Unexpected %s: a bug.", exc_info[0].__name__, exc_info=exc_info)


def json_app(name: str, largest_body: int = 16 * 1024) -> Flask:
    """A Flask app for one function's routes, whose errors are JSON.

    `largest_body`: bytes; a larger one is answered 413.
    """
    logs.to_standard_output()
    app = App(name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = largest_body + 1  # one more shows that it is too large
    sentences = {**SENTENCES, 413: f"The body is larger than {largest_body / 1024:g} KiB."}
    app.url_map.merge_slashes = False  # "//" is no path of ours, and no redirect

    @app.before_request
    def begin():
        g.begun = time.monotonic()

    @app.after_request
    def end(response):
        # The rule and not the path, for a path can hold a name. Nothing of OPTIONS, which
        # asks for nothing: after a deploy, the log shows what its reader did.
        if request.method != "OPTIONS":
            method = request.method if request.method in HTTPMethod.__members__ else "?"
            answered = f"{request.url_rule} answered {response.status_code}"
            log.info("%s %s in %.0f ms", method, answered, (time.monotonic() - g.begun) * 1000)
        return response

    @app.route("/", methods=["OPTIONS"])
    def let_in():
        # What "deploy.sh verify" asks for: a caller that gets this was let in by the platform.
        return {}

    @functions_framework.errorhandler(500)  # of an event function, which has no use for the app
    @functions_framework.errorhandler(HTTPException)  # what does not even reach the app
    @app.errorhandler(HTTPException)
    def refusal(error):
        ours = error.description != type(error).description
        sentence = error.description if ours else sentences.get(error.code, error.name + ".")
        headers = [(k, v) for k, v in error.get_headers() if k in ("Allow", "Retry-After")]
        return {"error": sentence}, error.code, headers

    return app


def json_body() -> dict:
    """The JSON object that the request carries. Anything else is answered 400, 413 or 415."""
    # A body without a length is only cut off.
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
    """What the app answers to the request that functions-framework hands to an entry point."""
    return Response.from_app(app, request.environ)
