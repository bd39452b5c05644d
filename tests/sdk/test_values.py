"""Values travel exactly or are refused before they are sent."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from memx_sdk.core.values import decode, encode, parse, schema_of
from memx_sdk.errors import InvalidRequestError, MemxError, ModelError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**60), max_value=10**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


class Mood(Enum):
    CALM = "calm"


@dataclass
class Step:
    name: str
    cost: Decimal = Decimal(0)


@dataclass
class Plan:
    steps: list[Step]
    mood: Mood = Mood.CALM
    due: datetime | None = None


class Finding(BaseModel):
    text: str
    score: float = Field(default=0.0, alias="confidence")
    price: Decimal | None = None


class Note(TypedDict):
    title: str
    pages: int


class Loud(str):
    __slots__ = ()


@given(JSON)
def test_json_values_come_back_equal(value: Any) -> None:
    assert decode(encode(value)) == value
    assert json.loads(encode(value)) == value


@given(st.integers(min_value=-(10**200), max_value=10**200))
def test_integers_are_exact(number: int) -> None:
    assert encode(number) == str(number).encode()
    assert decode(encode(number)) == number


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_decimals_are_numbers_and_exact(number: Decimal) -> None:
    text = encode([number])
    assert not text.startswith(b'["')
    assert parse(text, list[Decimal], key="k") == [number]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (math.nan, "its top"),
        ([1, math.inf], "/1"),
        ({"a": [{"b": -math.inf}]}, "/a/0/b"),
        (Decimal("NaN"), "its top"),
        ({"a": (Decimal("Infinity"),)}, "/a/0"),
        (Finding(text="x", confidence=math.nan), "/confidence"),
    ],
)
def test_what_is_no_number_is_refused_with_its_place(value: Any, path: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        encode(value)
    assert caught.value.code == "invalid_value"
    assert f"at {path} " in caught.value.detail


@pytest.mark.parametrize("text", ["null", "NaN", "Infinity", "-Infinity"])
def test_words_for_what_is_no_number_are_strings_like_any_other(text: str) -> None:
    assert decode(encode({text: [text, None]})) == {text: [text, None]}


def circle() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    "value", [object(), {("a", "b"): 1}, {None: 1}, "\ud800", {"\udfff": 1}, circle(), 1j, len]
)
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        encode(value)
    assert caught.value.code == "invalid_value"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (OrderedDict(a=1), b'{"a":1}'),
        (MappingProxyType({"a": 1}), b'{"a":1}'),
        ((1, [2]), b"[1,[2]]"),
        (Loud("hey"), b'"hey"'),
        (Mood.CALM, b'"calm"'),
        (datetime(2030, 1, 2, tzinfo=UTC), b'"2030-01-02T00:00:00Z"'),
        (Step("read", Decimal("1.10")), b'{"name":"read","cost":1.10}'),
        ({"plan": Plan([Step("a")])}, None),
        ([Finding(text="x", confidence=0.5)], b'[{"text":"x","confidence":0.5,"price":null}]'),
    ],
)
def test_other_types_take_the_form_that_json_has_for_them(value: Any, text: bytes | None) -> None:
    assert text is None or encode(value) == text
    assert json.loads(encode(value)) is not None


def test_models_come_back_as_they_were() -> None:
    plan = Plan([Step("a", Decimal("0.10")), Step("b")], due=datetime(2030, 1, 2, tzinfo=UTC))
    finding = Finding(text="x", confidence=0.25, price=Decimal("1.10"))
    note: Note = {"title": "t", "pages": 3}
    assert parse(encode(plan), Plan, key="k") == plan
    assert parse(encode(finding), Finding, key="k") == finding
    assert parse(encode([finding]), list[Finding], key="k") == [finding]
    assert parse(encode(note), Note, key="k") == note
    assert parse(encode(None), Finding | None, key="k") is None


@dataclass
class Board:
    findings: dict[str, Finding] = field(default_factory=dict)


def test_a_pydantic_model_may_stand_inside_a_dataclass() -> None:
    board = Board({"a": Finding(text="x", confidence=1)})
    assert parse(encode(board), Board, key="k") == board


@pytest.mark.parametrize("model", [Step, Note, Finding, list[Step], int])
def test_a_value_that_does_not_fit_its_model_says_so(model: Any) -> None:
    with pytest.raises(ModelError, match="'team:plan'") as caught:
        parse(b'{"wrong": true}', model, key="team:plan")
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, MemxError)
    assert caught.value.__cause__ is not None


def test_a_schema_may_be_a_model() -> None:
    assert schema_of({"type": "number"}) == {"type": "number"}
    assert schema_of(False) is False
    assert schema_of(Finding)["properties"].keys() == {"text", "confidence", "price"}
    (step,) = schema_of(Step)["$defs"].values()
    assert step["properties"]["cost"]["type"] == "number"
    assert step["properties"]["name"]["type"] == "string"
