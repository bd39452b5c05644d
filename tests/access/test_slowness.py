"""No input is found that holds the event loop for longer than its length explains.

Each test searches for two minutes' sixth; ``make fuzz`` searches longer. The measure is processor time, so
that a busy machine does no harm.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st
from memx_server.domain.memory.computing import compute, work_of
from memx_server.domain.pattern_index import PatternIndex
from memx_server.domain.requests import (
    AppendOperation,
    Computed,
    IncrementOperation,
    MergeOperation,
    PatchOperation,
)
from memx_server.domain.schema.schema import Schema
from memx_server.domain.values import check_exact, check_value, is_quick_to_read, same_json
from memx_server.routes.api.decoding import decode_body, decode_query
from memx_server.routes.api.operations import OPERATIONS
from memx_server.settings import Limits
from msgspec import Raw

from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import compile_pattern, validate_pattern
from tests.access.slowness import BODIES, PARTS, SCHEMAS, VALUES, assert_quick, search

BASE = 0.003
"""Seconds that any input may take."""
PER_BYTE = 250e-9
"""Seconds for each further byte: 1 MiB in the worst of forms takes 0.26 s at the most, and the event loop
gets no such text of more than 100,000 parts."""
VALIDATION = 0.006
"""Seconds that a validation on the event loop may take, whatever the schema and the value are: the bound is
two milliseconds for a value that fits, and six to say what is wrong with a small one."""
PREPARATION = 0.012
"""Seconds that a schema may take to be weighed, and to be compiled if it is for the event loop."""
MATCH = 0.0005
LIMITS = Limits()
_SET = next(each for each in OPERATIONS if each.name == "set")
_CHANGES = next(each for each in OPERATIONS if each.name == "changes")


def test_reading_a_request() -> None:
    def check(body: bytes) -> None:
        def read() -> None:
            if is_quick_to_read(body):
                with suppress(ProtocolError):
                    check_exact(body)
                    check_value(body, LIMITS)
                    decode_body(_SET, body)

        assert_quick(read, BASE + PER_BYTE * len(body), body)

    assert search(BODIES, check)


def test_validating_on_the_event_loop() -> None:
    def check(example: tuple[Any, Any]) -> None:
        schema_text, value = (json.dumps(each).encode() for each in example)
        if len(schema_text) > LIMITS.schema_bytes or len(value) > LIMITS.value_bytes:
            return
        schema = Schema("k", schema_text)

        def validate() -> None:
            with suppress(ProtocolError):
                schema.violations_at_once(value)

        # The first time the schema is weighed, and compiled where it is for the event loop.
        assert_quick(lambda: _weigh_anew(schema_text, value), PREPARATION + VALIDATION, example)
        assert_quick(validate, VALIDATION, example)

    assert search(st.tuples(SCHEMAS, VALUES), check)


def _weigh_anew(schema: bytes, value: bytes) -> None:
    with suppress(ProtocolError):
        Schema("k", schema).violations_at_once(value)


def test_matching_a_pattern() -> None:
    texts = st.lists(
        st.sampled_from(["*", "?", "[ab]", "[!a]", "a", "b", "aa", "a" * 30, "ab" * 9, "aaab"]),
        max_size=60,
    ).map("".join)
    keys = st.lists(st.sampled_from(["a", "b", "aa", "ab", "a" * 100, "aab"]), max_size=60).map(
        "".join
    )

    def check(example: tuple[list[str], str]) -> None:
        wanted, key = example
        key = key[:512]
        index: PatternIndex[str] = PatternIndex()
        for pattern in wanted:
            with suppress(ProtocolError):
                validate_pattern(pattern)
                index.add(pattern, pattern)
                match = compile_pattern(pattern)
                assert_quick(lambda match=match: match(key), MATCH, (pattern, key))  # type: ignore[misc]  # mypy cannot infer a default's type
        assert_quick(lambda: index.candidates(key), MATCH + 20e-6 * len(wanted), example)

    assert search(st.tuples(st.lists(texts, max_size=20), keys), check)


def _operations() -> st.SearchStrategy[tuple[Computed, bytes]]:
    raw = st.one_of(
        PARTS,
        VALUES.map(lambda value: json.dumps(value).encode()),
        st.sampled_from([b"1", b"[]", b"{}"]),
    )
    paths = st.sampled_from(
        ["", "/0", "/a", "/a/b", "/-", "/~0", "/" * 1000, "/9" * 500, "/p1", "/" + "9" * 4000]
    )
    steps = st.fixed_dictionaries(
        {
            "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]),
            "path": paths,
        },
        optional={"from": paths, "value": VALUES},
    )
    patches = st.builds(
        lambda chosen, count: json.dumps((chosen * count)[:1000]).encode(),
        st.lists(steps, min_size=1, max_size=3),
        st.sampled_from([1, 10, 300]),
    )
    operations = st.one_of(
        raw.map(lambda text: MergeOperation(key="k", merge=Raw(text))),
        raw.map(lambda text: AppendOperation(key="k", append=Raw(text), cap=100)),
        raw.map(lambda text: IncrementOperation(key="k", increment=Raw(text))),
        patches.map(lambda text: PatchOperation(key="k", patch=Raw(text))),
    )
    present = st.one_of(
        raw,
        st.builds(
            lambda text, count: b"[" + b",".join([text] * count) + b"]", raw, st.integers(1, 3000)
        ),
    )
    return st.tuples(operations, present)


def test_computing_on_the_event_loop() -> None:
    def check(example: tuple[Computed, bytes]) -> None:
        operation, present = example
        for text in (present, bytes(getattr(operation, str(operation.__struct_config__.tag)))):
            try:
                check_exact(text)
                check_value(text, LIMITS)
            except ProtocolError:
                return  # it would not have got so far

        def update() -> None:
            if work_of(operation, present) <= 10_000:
                with suppress(ProtocolError):
                    compute(operation, present, LIMITS)

        assert_quick(update, 10 * BASE + PER_BYTE * len(present), example)

    assert search(_operations(), check)


def test_comparing_on_the_event_loop() -> None:
    numbers = st.one_of(PARTS, VALUES.map(lambda value: json.dumps(value).encode()))

    def check(pair: tuple[bytes, bytes]) -> None:
        try:
            for text in pair:
                check_exact(text)
        except ProtocolError:
            return
        assert_quick(lambda: same_json(*pair), BASE + PER_BYTE * sum(map(len, pair)), pair)

    assert search(st.tuples(numbers, numbers), check)


def test_reading_a_query() -> None:
    parts = st.lists(
        st.sampled_from(
            [
                b"%",
                b"%41",
                b"+",
                b"&",
                b"=",
                b"a",
                b"pattern",
                b"limit=9",
                b"%ff",
                b"since=",
                b"9" * 100,
                b"*a",
            ]
        ),
        max_size=40,
    )
    queries = st.builds(
        lambda chosen, count: b"".join(chosen * count)[:65_536],
        parts,
        st.sampled_from([1, 50, 2000]),
    )

    def check(query: bytes) -> None:
        def read() -> None:
            with suppress(ProtocolError):
                decode_query(_CHANGES, query)

        assert_quick(read, BASE + 4 * PER_BYTE * len(query), query)

    assert search(queries, check)
