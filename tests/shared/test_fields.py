"""The fields of a body, each by its rule."""

import flask
import pytest
from werkzeug.exceptions import BadRequest

from shared.fields import matching, read_fields, text, whole_number

RULES = {
    "code": matching("[a-z]{2}", "must be two letters"),
    "name": text(1, 5),
    "pieces": whole_number(1, 9),
}
ORDER = {"code": "ab", "name": "\N{SNOWMAN}", "pieces": 9}


@pytest.fixture
def read():
    app = flask.Flask("small")
    app.config["MAX_CONTENT_LENGTH"] = 1000

    def read(body):
        with app.test_request_context(method="POST", json=body):
            return read_fields(**RULES)

    return read


def test_the_fields_that_are_asked_for_are_returned_and_no_others(read):
    assert read({**ORDER, "admin": True}) == ORDER


@pytest.mark.parametrize("field", RULES)
def test_a_missing_field_is_named(read, field):
    with pytest.raises(BadRequest) as raised:
        read({k: v for k, v in ORDER.items() if k != field})
    assert raised.value.description == f"{field} is missing."


@pytest.mark.parametrize(
    "field, value, sentence",
    [
        ("code", "abc", "must be two letters."),
        ("code", "ab\n", "must be two letters."),
        ("code", ["ab"], "must be two letters."),
        ("name", "", "must be 1 to 5 characters."),
        ("name", "sixsix", "must be 1 to 5 characters."),
        ("name", "\ud800", "must be 1 to 5 characters."),
        ("name", None, "must be 1 to 5 characters."),
        ("pieces", 0, "must be a whole number from 1 to 9."),
        ("pieces", 10, "must be a whole number from 1 to 9."),
        ("pieces", 1.0, "must be a whole number from 1 to 9."),
        ("pieces", True, "must be a whole number from 1 to 9."),
        ("pieces", "1", "must be a whole number from 1 to 9."),
    ],
)
def test_a_wrong_field_is_named_with_its_rule(read, field, value, sentence):
    with pytest.raises(BadRequest) as raised:
        read({**ORDER, field: value})
    assert raised.value.description == f"{field} {sentence}"
