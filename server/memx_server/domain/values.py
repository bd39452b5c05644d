"""The rules of exact JSON: bytes that every reader understands in the same way.

Refused are bad UTF-8, lone surrogates, NaN, numbers beyond a double's range, and names that come twice in
one object. What passes is kept as it was sent, byte for byte.

Everything here takes time that grows with the length of the text and no faster; ``tests/access`` holds
it to that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from decimal import Decimal
from itertools import accumulate
from typing import Any

import msgspec
import orjson

from memx_sdk.protocol.errors import ProtocolError
from memx_server.settings import Limits

SHORT_JSON = 512
"""Up to this length of a text no count of its parts is worth its time."""

_LOOP_PARTS = 100_000
"""So many parts of a text are decoded within some 20 milliseconds."""
_QUICKLY_NAMED_BYTES = 32 * 1024
"""In a text of this length the name that comes twice is found within some milliseconds; to find it takes ten
times as long as to decode the text."""

# It writes as deep as orjson reads, which orjson itself does not.
_encode = msgspec.json.Encoder().encode
_exact = msgspec.json.Decoder(float_hook=Decimal).decode

_ALL_SQUARE = bytes.maketrans(b"{}", b"[]")
_BRACKETS = b"[]{}"
_COLONS = b":"


class RepeatedNameError(Exception):
    """A name comes twice in an object of a text so long that to find it would hold others up."""


def is_quick_to_read(text: bytes) -> bool:
    """Tell whether ``check_exact`` can be done on the event loop without holding others up for long."""
    return len(text) <= _LOOP_PARTS or _count_parts(text) <= _LOOP_PARTS


def check_exact(text: bytes, *, is_patient: bool = True) -> None:
    """Refuse JSON text that readers could understand differently, or not at all.

    Args:
        text: A whole request, or a value.
        is_patient: Whether a name that comes twice is looked for in a long text, too.

    Raises:
        ProtocolError: ``invalid_json``; names the place where it can.
        RepeatedNameError: A name comes twice in a long text, and ``is_patient`` is false.
    """
    # orjson refuses all that is refused here but repeated names, and reads numbers of every size in one
    # pass; other decoders turn to arithmetic with thousands of digits where an exponent is large.
    try:
        again = _encode(orjson.loads(text))
    except (ValueError, RecursionError) as error:
        raise _not_json(text, error) from None
    # A name that comes twice is one member fewer in what was decoded, and so one colon fewer. Without
    # escapes a string comes back as it was, and its own colons cancel out.
    if again == text or (b"\\" not in text and again.count(b":") == text.count(b":")):
        return
    if len(_outside_strings(again, _COLONS)) != len(_outside_strings(text, _COLONS)):
        if len(text) > _QUICKLY_NAMED_BYTES and not is_patient:
            raise RepeatedNameError
        _refuse_repeated_names(text)


def check_value(value: bytes, limits: Limits, field: str = "value") -> None:
    """Refuse a value (JSON text that is exact) that is too long or too deep.

    Raises:
        ProtocolError: ``too_large``, naming the limit.
    """
    if len(value) > limits.value_bytes:
        raise ProtocolError(
            "too_large",
            f"the {field} is {len(value)} bytes of JSON; the limit is {limits.value_bytes}",
            field=field,
            limit="value_bytes",
        )
    if nests_deeper_than(limits.nesting, value):
        raise ProtocolError(
            "too_large",
            f"the {field} nests deeper than {limits.nesting} levels of arrays and objects",
            field=field,
            limit="nesting",
        )


def nests_deeper_than(levels: int, text: bytes) -> bool:
    """Tell whether arrays and objects in ``text`` (valid JSON) lie more than ``levels`` deep."""
    if text.count(b"[") + text.count(b"{") <= levels:
        return False
    brackets = _outside_strings(text.translate(_ALL_SQUARE), _BRACKETS)
    for level in range(levels):
        # Each round takes away the innermost level. It goes on while that makes the text much shorter,
        # so that all rounds together read no more than a few times its length.
        shorter = brackets.replace(b"[]", b"")
        if len(shorter) * 4 > len(brackets) * 3:
            return _deepest(shorter) > levels - level - 1
        brackets = shorter
    return bool(brackets)


def _deepest(brackets: bytes) -> int:
    """Return how deep ``brackets`` nest, in steps over runs of equal ones, of which there are few here."""
    steps = (len(run) if run[0] == 0x5B else -len(run) for run in _RUNS.findall(brackets))
    return max(accumulate(steps), default=0)


_RUNS = re.compile(rb"\[+|\]+")


def _outside_strings(text: bytes, marks: bytes) -> bytes:
    """Return those of ``marks`` in JSON text that lie outside its strings."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes side by side are an empty string, or end one and begin the next: both may go.
    kept = text.translate(None, _NO_MARKS[marks]).replace(b'""', b"")
    return b"".join(kept.split(b'"')[::2])


_NO_MARKS = {marks: bytes(set(range(256)) - {*marks, 0x22}) for marks in (_BRACKETS, _COLONS)}


def parts_of(text: bytes) -> int:
    """Estimate of how many parts a value (JSON text) is made; texts with commas seem to have more."""
    return 0 if len(text) <= SHORT_JSON else _count_parts(text)


def _count_parts(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def same_json(one: bytes, other: bytes) -> bool:
    """Tell whether two JSON texts mean the same: 1 equals 1.0, but true does not equal 1."""
    return one == other or same(_exact(one), _exact(other))


def same(one: Any, other: Any) -> bool:
    """Tell whether two decoded values mean the same, where floats were decoded to ``Decimal``."""
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(same(value, other[name]) for name, value in one.items())
        )
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _refuse_repeated_names(text: bytes) -> None:
    try:
        _decode_pairs(text.decode())
    except RecursionError as error:
        raise _not_json(text, error) from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        twice = _first_repeated(name for name, _ in pairs)
        raise ProtocolError(
            "invalid_json",
            f"the name {twice!r} comes twice in one object, and readers would not agree which holds",
            field=twice,
        )
    return members


def _first_repeated(names: Iterable[str]) -> str:
    """Return the first name that comes a second time, in one pass over them."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    raise AssertionError("no name comes twice")


_decode_pairs = json.JSONDecoder(object_pairs_hook=_distinct).decode


def _not_json(text: bytes, error: Exception) -> ProtocolError:
    reason = str(error)
    if not text.strip():
        detail = "the body is empty; send a JSON object"
    elif isinstance(error, RecursionError) or "depth limit" in reason:
        detail = "arrays and objects are nested far too deep"
    elif (broken := _broken_utf8(text)) is not None:
        detail = f"the text is not UTF-8: byte 0x{broken:02x} cannot stand there"
    elif "infinity" in reason:
        detail = "a number is beyond the range of a double (1.8e308); send it as a string"
    elif _SURROGATE.search(text):
        detail = "a lone surrogate (\\ud800 to \\udfff without its other half) is no Unicode text"
    elif (b"NaN" in text or b"Infinity" in text) and _NOT_A_NUMBER.search(text):
        detail = "NaN and Infinity are no JSON; send null or a string"
    else:
        detail = f"this is no valid JSON: {reason}"
    return ProtocolError("invalid_json", detail, field="body")


def _broken_utf8(text: bytes) -> int | None:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return text[error.start]
    return None


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NOT_A_NUMBER = re.compile(rb"[:,\[\s](?:-?Infinity|NaN)")
