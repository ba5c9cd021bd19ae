"""Records: each value that files, flags and functions pass on has a name and a type.

For mypy they are frozen dataclasses. Loading those, or typing for NamedTuple, would take 3 to 12 of
the 25 milliseconds of most commands, and a deploy runs many.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing
if TYPE_CHECKING:
    from typing import Any, Self, dataclass_transform

    Json = Any  # what json.loads returns
else:
    Json = object

    def dataclass_transform(**_):
        return lambda kind: kind


def filled(content: dict[str, Json]) -> dict[str, Json]:
    """Leaves out what is empty, as files and the answers of Google's APIs do."""
    return {key: value for key, value in content.items() if value not in (None, "", [], {})}


@dataclass_transform(frozen_default=True)
class Record:
    """Takes its fields in order or by name; one that is left out gets its default."""

    def __init__(self, *values: object, **named: object):
        fields = type(self).__annotations__
        given = dict(zip(fields, values, strict=False)) | named
        missing = [name for name in fields if name not in given and not hasattr(self, name)]
        if missing or given.keys() - fields:
            raise TypeError(f"{type(self).__name__} of {', '.join(given)}")
        vars(self).update(given)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} does not change")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.as_dict() == other.as_dict()

    def as_dict(self) -> dict[str, Json]:
        return {name: getattr(self, name) for name in type(self).__annotations__}

    def but(self, **changed: object) -> Self:
        """A copy with other values in these fields."""
        return type(self)(**(vars(self) | changed))

    @classmethod
    def of(cls, content: Json) -> Self | None:
        """The record in a JSON object, whose other keys are ignored; None if a field is missing."""
        try:
            return cls(**{name: content[name] for name in cls.__annotations__ if name in content})
        except TypeError:
            return None
