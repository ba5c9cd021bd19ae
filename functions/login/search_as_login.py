"""GET /search calls search, although nobody may: it shows what happens without a binding."""

from flask import Blueprint, request
from werkzeug.exceptions import Forbidden

from shared.calls import Function, Refused, Unreachable

blueprint = Blueprint("search_as_login", __name__)
search = Function("search")


@blueprint.get("/search")
def search_as_login():
    try:
        _, body = search.call("GET", "/", params={"q": request.args.get("q", "")})
    except Refused:
        raise Forbidden(
            "search does not let login in: its policy has no binding of roles/run.invoker"
            f" for {search.auth.principal}."
        ) from None
    try:
        return {"results": body["results"]}
    except (KeyError, TypeError):
        reason = "no results in it; is it of the same version?"
        raise Unreachable("search gave no usable answer.", reason) from None
