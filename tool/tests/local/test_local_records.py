"""Records behave at run time as mypy expects."""

import pytest

from tool.local.records import Record


class Point(Record):
    x: int
    y: int = 0


def test_fields_are_given_in_their_order_or_by_name():
    assert Point(1, 2) == Point(y=2, x=1) == Point(1).but(y=2)
    assert Point(1).y == 0 and Point(1).as_dict() == {"x": 1, "y": 0}
    assert Point(1) != Point(2) and Point(1) != (1, 0)


@pytest.mark.parametrize("given", [{}, {"y": 1}, {"x": 1, "z": 1}])
def test_a_field_that_is_missing_or_unknown_is_a_mistake(given):
    with pytest.raises(TypeError):
        Point(**given)


def test_a_record_does_not_change():
    with pytest.raises(AttributeError):
        Point(1).x = 2


def test_of_json_the_known_fields_are_taken():
    assert Point.of({"x": 1, "z": 2}) == Point(1)
    for content in ({"y": 1}, None, [], 3, "x"):
        assert Point.of(content) is None
