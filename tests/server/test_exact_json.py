"""No name may come twice in an object, however the text is spaced or escaped."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memx_server.domain.values import check_exact, nests_deeper_than

from memx_sdk.protocol.errors import ProtocolError

TEXTS = st.text(st.sampled_from('ab:" \\{}[],é\u2028\U0001f600'), max_size=6)
DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":1}',
        '{"a": 1, "a": 2}',
        '{ "b": {"a": {}, "a": []} }',
        '[{"a":":", "a":":"}]',
        # As many colons as what is left of it, because one comes out of an escape.
        r'{"a":1,"a":1,"b":"\u003a"}',
        r'{"a": 1, "\u0061": 2}',
        r'{"a:":1, "a\u003a":2}',
    ],
)
def test_a_name_that_comes_twice_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match="comes twice"):
        check_exact(text.encode())


@given(DOCUMENTS, st.sampled_from([None, 0, 2]), st.booleans())
def test_all_else_passes(document: object, indent: int | None, ascii_only: bool) -> None:
    check_exact(json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode())


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


@given(DOCUMENTS, st.integers(0, 6), st.booleans())
def test_only_brackets_outside_strings_nest(
    document: object, levels: int, ascii_only: bool
) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only).encode()
    assert nests_deeper_than(levels, text) == (depth(document) > levels)
