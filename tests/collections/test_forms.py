"""Objects as JSON and back."""

from __future__ import annotations

import dataclasses
import enum
import json
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from memx_sdk.collections import ObjectForm
from memx_sdk.core import values


class Color(enum.Enum):
    RED = "red"


class Note(BaseModel):
    text: str
    at: datetime
    parts: list[Decimal] = []


@dataclasses.dataclass
class Point:
    x: int
    where: Any
    doubled: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        self.doubled = 2 * self.x


FORM = ObjectForm([Color, Note, Point])
NOW = datetime(2026, 11, 27, 12, 0, 0, 123456, tzinfo=UTC)
OBJECTS: list[Any] = [
    *(None, True, 5, 10**40, 1.5, "text", [], {}, {"a": [1, {"b": None}]}),
    *(b"\x00\xff", bytearray(b"x"), NOW, NOW.replace(tzinfo=None), date(2026, 1, 2), time(1, 2)),
    *(timedelta(days=99999, microseconds=1), Decimal("1.10"), uuid.UUID(int=5), float("inf")),
    *(
        (1, (2, [3])),
        {1, 2},
        frozenset(["a"]),
        {1: "a", (1, 2): "b"},
        {"memx:type": "bytes", "is": 5},
    ),
    *(Color.RED, Note(text="a", at=NOW, parts=[Decimal("0.1")]), Point(1, Point(2, Color.RED))),
    {"deep": [Note(text="ä", at=NOW), {"p": Point(3, {"k": b"y"})}]},
]


@pytest.mark.parametrize("value", OBJECTS, ids=repr)
def test_objects_come_back_as_what_they_were(value: Any) -> None:
    stored = json.loads(values.encode(FORM.dump(value)))
    found = FORM.load(stored)
    assert found == value
    assert type(found) is type(value)


def test_what_would_not_come_back_is_refused_when_it_is_written() -> None:
    with pytest.raises(TypeError, match=r"Color.*name the type: ObjectForm\(\[Color\]\)"):
        ObjectForm().dump({"a": [Color.RED]})
    with pytest.raises(TypeError, match="object"):
        FORM.dump(object())
    with pytest.raises(TypeError, match="no pydantic model, dataclass or enum"):
        ObjectForm([int])


@pytest.mark.parametrize(
    "stored",
    [
        {"memx:type": "os.system", "is": "x"},
        {"memx:type": ["a"], "is": "x"},
        {"memx:type": "bytes", "is": 5},
        {"memx:type": "tests.collections.test_forms.Note", "is": {"text": 5}},
        {"memx:type": "timedelta", "is": "abc"},
        {"memx:type": "dict", "is": [5]},
        {"memx:type": "bytes"},
    ],
)
def test_what_nobody_wrote_is_an_error_that_counts_as_not_there(stored: Any) -> None:
    with pytest.raises((ArithmeticError, AttributeError, LookupError, TypeError, ValueError)):
        FORM.load(stored)
