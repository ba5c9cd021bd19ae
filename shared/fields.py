"""The fields of a JSON body, each with its rule.

    order = read_fields(article=text(1, 40), pieces=whole_number(1, 99))

A function has its own rules. A body that breaks one is answered 400, and the error names the field.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from werkzeug.exceptions import BadRequest

from shared.answers import json_body

__all__ = ["Rule", "matching", "read_fields", "text", "whole_number"]


class Rule(NamedTuple):
    """A check of a value, and the end of the error sentence for a value that fails it."""

    fits: Callable[[Any], bool]
    sentence: str


def matching(pattern: str, sentence: str) -> Rule:
    """A string that matches the regular expression as a whole."""
    return Rule(lambda v: isinstance(v, str) and bool(re.fullmatch(pattern, v)), sentence)


def text(shortest: int, longest: int) -> Rule:
    """A string whose number of characters is within these bounds."""
    # JSON can contain half a surrogate pair, but that is not text, and cannot be hashed or stored.
    pattern = rf"[^\ud800-\udfff]{{{shortest},{longest}}}"
    return matching(pattern, f"must be {shortest} to {longest} characters")


def whole_number(smallest: int, largest: int) -> Rule:
    """A number without a fraction, within these bounds."""
    sentence = f"must be a whole number from {smallest} to {largest}"
    return Rule(lambda v: type(v) is int and smallest <= v <= largest, sentence)


def read_fields(**rules: Rule) -> dict[str, Any]:
    """These fields of the request's JSON body. A missing or wrong one is answered 400."""
    body = json_body()
    for name, rule in rules.items():
        if name not in body:
            raise BadRequest(f"{name} is missing.")
        if not rule.fits(body[name]):
            raise BadRequest(f"{name} {rule.sentence}.")
    return {name: body[name] for name in rules}
