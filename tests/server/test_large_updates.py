"""Updates of large values are computed elsewhere, with the same results and errors."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from memx_server.domain.evaluator import EvaluationTimeout, Evaluator
from memx_server.domain.memory.computing import compute
from memx_server.domain.requests import (
    AppendOperation,
    Computed,
    MergeOperation,
    PatchOperation,
)
from memx_server.settings import Limits
from msgspec import Raw

from memx_sdk.protocol.errors import ProtocolError
from tests.server.conftest import Api

MANY = 12_000


class Elsewhere:
    """Does what is slow, notes that it was asked, or takes too long."""

    def __init__(self, *, is_too_slow: bool = False) -> None:
        self.asked = 0
        self._is_too_slow = is_too_slow

    async def compute(
        self, space: str, operation: Computed, present: bytes | None, limits: Limits
    ) -> bytes:
        self.asked += 1
        if self._is_too_slow:
            raise EvaluationTimeout
        return compute(operation, present, limits)

    async def same(self, space: str, one: bytes, other: bytes) -> bool:
        self.asked += 1
        return one == other

    async def check(self, *_: Any) -> None:
        raise AssertionError

    read: Any = check
    violations: Any = check
    matching: Any = check


def _append(items: bytes) -> AppendOperation:
    return AppendOperation(key="k", append=Raw(items))


_TEXT = json.dumps("a" * 900_000).encode()


def _merge(depth: int) -> MergeOperation:
    return MergeOperation(key="k", merge=Raw(b'{"a":' * depth + b"1" + b"}" * depth))


def _copies(count: int) -> bytes:
    return json.dumps([{"op": "copy", "from": "", "path": "/0"}] * count).encode()


def _pointer(steps: int) -> bytes:
    return json.dumps([{"op": "add", "path": "/" * steps, "value": 1}]).encode()


def _numbers(count: int) -> bytes:
    return json.dumps(list(range(count))).encode()


@pytest.mark.parametrize(
    ("operation", "present", "is_elsewhere"),
    [
        (_merge(40), b'{"a":' * 40 + _TEXT + b"}" * 40, True),
        (_merge(1), b'{"a":' + _TEXT + b"}", False),
        (PatchOperation(key="k", patch=Raw(_copies(2))), b"[2]", False),
        (PatchOperation(key="k", patch=Raw(_copies(10))), b"[2]", True),
        (PatchOperation(key="k", patch=Raw(_pointer(20_000))), b"{}", True),
        (_append(b"[1]"), b"[2]", False),
        (_append(b"[1]"), _numbers(500), False),
        (_append(b"[1]"), _numbers(MANY), True),
        (_append(_numbers(MANY)), None, True),
        (_append(b"[1]"), json.dumps(["a" * 900_000]).encode(), False),
        (
            PatchOperation(key="k", patch=Raw(b"[%b]" % b",".join([b'{"op":"x"}'] * 900))),
            b"1",
            True,
        ),
    ],
    ids=[
        "deep into a long text",
        "into a long text",
        "few copies",
        "many copies",
        "a long pointer",
        "small",
        "middling",
        "large",
        "much to add",
        "one long text",
        "many operations",
    ],
)
async def test_the_number_of_parts_decides_where(
    operation: Computed, present: bytes | None, is_elsewhere: bool
) -> None:
    slow = Elsewhere()
    with suppress(ProtocolError):
        await Evaluator(slow, Limits()).compute("space", operation, present)
    assert slow.asked == is_elsewhere


async def test_what_takes_too_long_is_refused_with_the_limit() -> None:
    with pytest.raises(ProtocolError) as refused:
        await Evaluator(Elsewhere(is_too_slow=True), Limits()).compute(
            "space", _append(_numbers(MANY)), None
        )
    assert (refused.value.code, refused.value.extra["limit"]) == ("too_large", "update_deadline")


async def test_equal_texts_are_the_same_without_a_look() -> None:
    slow = Elsewhere()
    large = _numbers(MANY)
    assert await Evaluator(slow, Limits()).same("space", "k", large, large)
    assert slow.asked == 0
    assert not await Evaluator(slow, Limits()).same("space", "k", large, b"[]")
    assert slow.asked == 1


def test_each_kind_of_update_of_a_large_value(api: Api) -> None:
    numbers = list(range(MANY))
    api.set("list", numbers)
    api.set("object", {str(number): number for number in numbers})

    appended = api.post("/update", {"key": "list", "append": [MANY]})
    assert appended["value"] == [*numbers, MANY]
    patched = api.post("/update", {"key": "list", "patch": [{"op": "remove", "path": f"/{MANY}"}]})
    assert patched["value"] == numbers
    merged = api.post("/update", {"key": "object", "merge": {"0": None, "new": [0.10]}})
    assert list(merged["value"])[-1] == "new"
    assert len(merged["value"]) == MANY
    assert (patched["version"], merged["version"]) == (3, 2)


def test_an_update_that_does_not_fit_a_large_value_says_why(api: Api) -> None:
    api.set("list", list(range(MANY)))
    patch = [{"op": "remove", "path": "/0"}, {"op": "remove", "path": "/no"}]

    refusal = api.post("/update", {"key": "list", "patch": patch}, 400)

    assert (refusal["error"], refusal["field"], refusal["operation"]) == (
        *("invalid_update", "patch"),
        1,
    )
    refusal = api.post(
        "/txn",
        {
            "then": [
                {"op": "merge", "key": "x", "merge": {}},
                {"op": "patch", "key": "list", "patch": patch},
            ]
        },
        400,
    )
    assert (refusal["branch"], refusal["operation"], refusal["key"]) == ("then", 1, "list")


def test_a_refusal_does_not_repeat_a_large_value(api: Api) -> None:
    api.set("object", {"text": "a" * 100_000})
    patch = [{"op": "replace", "path": "/x/y", "value": 1}]
    assert len(api.post("/update", {"key": "object", "patch": patch}, 400)["detail"]) < 1000


def test_a_transaction_compares_large_values(api: Api) -> None:
    numbers = list(range(MANY))
    api.set("list", numbers)

    def branch(value: Any) -> str:
        answer = api.post("/txn", {"if": [{"key": "list", "value": value}]})
        return str(answer["branch"])

    assert branch([float(number) for number in numbers]) == "then"
    assert branch(numbers[:-1]) == "else"


def test_a_transaction_that_takes_too_much_apart_is_refused(api: Api) -> None:
    api.set("text", "a" * 600_000)
    compares = [{"key": "text", "value": "b"}] * 8

    refusal = api.post("/txn", {"if": compares, "then": []}, 413)

    assert (refusal["error"], refusal["key"]) == ("too_large", "text")
    assert api.post("/txn", {"if": compares[:6]})["branch"] == "else"
