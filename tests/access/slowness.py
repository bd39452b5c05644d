"""Processor time of one call, bounded by the length of its input, and inputs that may make it slow."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

FUZZ_SECONDS = float(os.environ.get("MEMX_FUZZ_SECONDS", "20"))
"""How long each kind of input is searched; six kinds make two minutes. ``make fuzz`` takes longer."""
SLACK = float(os.environ.get("MEMX_FUZZ_SLACK", "1"))
"""Multiplies every bound, for a machine that is far slower."""


def processor_seconds(call: Callable[[], object]) -> float:
    """Processor time that ``call`` takes in this thread, with the collector set as a server sets it."""
    gc.freeze()
    thresholds = gc.get_threshold()
    gc.set_threshold(50_000, 50, 100)
    try:
        began = time.thread_time()
        call()
        return time.thread_time() - began
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def assert_quick(call: Callable[[], object], seconds: float, about: object) -> None:
    """Fail where ``call`` takes longer than ``seconds`` of processor time, three times in a row.

    Once may be the collector's, or a cache's that somebody else has just filled.
    """
    took = [processor_seconds(call)]
    while min(took) > seconds * SLACK and len(took) < 3:
        took.append(processor_seconds(call))
    assert min(took) <= seconds * SLACK, (
        f"{min(took) * 1e3:.1f} ms of processor time, where {seconds * SLACK * 1e3:.1f} ms are the bound: "
        f"{str(about)[:2000]}"
    )


def search(strategy: st.SearchStrategy[Any], check: Callable[[Any], None]) -> int:
    """Try inputs of ``strategy`` until ``FUZZ_SECONDS`` are over; return how many."""
    tried = 0
    round_number = int(os.environ.get("MEMX_FUZZ_SEED", "0"))
    ends = time.monotonic() + FUZZ_SECONDS
    while time.monotonic() < ends:

        @seed(round_number)
        @settings(
            max_examples=100,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def one_round(example: Any) -> None:
            nonlocal tried
            if time.monotonic() < ends:
                tried += 1
                check(example)

        one_round()
        round_number += 1
    return tried


def _repeated(parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """A few parts, written over and over until some length is reached."""
    lengths = st.sampled_from([100, 5_000, 60_000, 250_000])
    return st.builds(
        lambda chosen, length: b",".join(
            (chosen * (length // max(1, sum(map(len, chosen))) + 1))[: length // 2]
        )[: length * 2],
        st.lists(parts, min_size=1, max_size=4),
        lengths,
    )


NUMBERS = st.sampled_from(
    [
        *(
            b"0",
            b"1",
            b"-1",
            b"1.5",
            b"1e308",
            b"1e-308",
            b"1e999",
            b"1E+22",
            b"9007199254740993",
            b"1e-99999",
        ),
        *(
            b"9" * 30,
            b"9" * 300,
            b"0." + b"1" * 300,
            b"1e-999999999",
            b"1" + b"0" * 200 + b".5e-200",
        ),
        b"179769313486231580793e289",
    ]
)
STRINGS = st.sampled_from(
    [
        b'""',
        b'"a"',
        b'"\\n"',
        b'"\\u0041"',
        b'"\\ud83d\\ude00"',
        b'"[{,:"',
        b'"\\"\\\\"',
        '"é€😀"'.encode(),
        b'"//"',
    ]
)
PARTS = st.one_of(
    NUMBERS,
    STRINGS,
    st.sampled_from(
        [
            *(
                b"[]",
                b"{}",
                b"[[[]]]",
                b'{"a":{"b":[1,{}]}}',
                b"[" * 60 + b"]" * 60,
                b'{"a":' * 40 + b"1" + b"}" * 40,
            ),
            *(
                b"null",
                b"true",
                b"[",
                b"NaN",
                b"\xff",
                b'{"a":1,"a":2}',
                b'{"x":[],"y":{}, "z":1e308}',
            ),
        ]
    ),
)
BODIES = st.one_of(
    _repeated(PARTS).map(lambda text: b"[%b]" % text),
    _repeated(PARTS).map(lambda text: b'{"key":"k","value":[%b]}' % text),
    st.integers(1, 20_000).flatmap(
        lambda count: st.sampled_from(
            [
                json.dumps({f"n{n}": n for n in range(count)}).encode()[:-1]
                + b',"n%d":1}' % (count // 2),
                b"{" + b",".join([b'"a":1'] * count) + b"}",
                b"{" + b",".join([b'"\\u0061%d": [{}]' % n for n in range(count)]) + b"}",
            ]
        )
    ),
    st.binary(max_size=200),
)
"""Bodies and frames: valid, nearly valid and not at all."""


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([10**30, 1.5, 0.1, 1e300, 1e-300, "a", "ab" * 30, "é" * 20, ""]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["a", "b", "c", "$defs", "definitions"]), inner, max_size=4
        ),
        st.builds(lambda each, count: [each] * count, inner, st.sampled_from([10, 100, 1000])),
        st.builds(
            lambda each, count: {f"p{n}": each for n in range(count)},
            inner,
            st.sampled_from([10, 100]),
        ),
    ),
    max_leaves=6,
)

_REFERENCES = st.sampled_from(
    [
        *(
            "#",
            "#/$defs/a",
            "#/$defs/b",
            "#/$defs/c",
            "#/definitions/a",
            "#/$defs/%61",
            "#/$defs/a/allOf/0",
        ),
        *("#a", "other#/$defs/a", "#/properties/a", "#/$defs/missing"),
    ]
)
_REGEXES = st.sampled_from(
    [
        "a",
        "^a*$",
        "^(a|b|ab)*c$",
        "(a+)+$",
        "^[a-z]{1,60}$",
        "\\w{1,40}",
        "(a{1,9}){1,9}",
        "[^,]*,",
        "(?i)k{50}",
        ".",
    ]
)
_WORDS = st.lists(st.sampled_from(["a", "b", "c", "p1"]), max_size=4, unique=True)
_ENUMS = st.one_of(
    st.lists(VALUES, min_size=1, max_size=4),
    st.integers(1, 300).map(lambda count: list(range(count))),
    st.integers(1, 300).map(lambda count: [{"a": n} for n in range(count)]),
)


def _keywords(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=4)
    many = st.builds(lambda each, count: [each] * count, inner, st.sampled_from([2, 20, 200]))
    named = st.dictionaries(
        st.sampled_from(["a", "b", "c", "$defs", "definitions"]), inner, max_size=3
    )
    constants = st.integers(1, 200).map(lambda count: [{"const": n} for n in range(count)])
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(
                ["string", "integer", "number", "object", "array", ["null", "string"]]
            ),
            "enum": _ENUMS,
            "const": VALUES,
            "properties": named,
            "patternProperties": st.dictionaries(_REGEXES, inner, max_size=2),
            "additionalProperties": inner,
            "propertyNames": inner,
            "required": _WORDS,
            "items": inner,
            "prefixItems": some,
            "contains": inner,
            "uniqueItems": st.booleans(),
            "anyOf": st.one_of(some, many, constants),
            "oneOf": st.one_of(some, many),
            "allOf": st.one_of(some, many),
            "not": inner,
            "if": inner,
            "then": inner,
            "minimum": st.sampled_from([0, 0.3, 10**30]),
            "multipleOf": st.sampled_from([1, 7, 0.01, 1e-300]),
            "maxLength": st.integers(0, 50),
            "pattern": _REGEXES,
            "$ref": _REFERENCES,
            "$id": st.sampled_from(["other", "#a", "http://example.com/s"]),
            "$dynamicRef": st.just("#a"),
            "unevaluatedProperties": inner,
            "unevaluatedItems": inner,
            "dependentSchemas": named,
            "$defs": named,
            "definitions": named,
        },
    )


SCHEMAS = st.builds(
    lambda schema, definitions: (
        {**schema, "$defs": definitions} if isinstance(schema, dict) else schema
    ),
    st.recursive(st.booleans(), _keywords, max_leaves=8),
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.recursive(st.booleans(), _keywords, max_leaves=4),
        max_size=3,
    ),
)
"""Schemas of every keyword that could hide work, at the root and below it."""
