"""Which JSON can be kept exactly: bytes that every reader understands in the same way.

Refused are bad UTF-8, lone surrogates, NaN, numbers beyond a double's range, and names that come
twice in one object. What passes is kept as it was sent, byte for byte.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any

import msgspec

from memx_sdk.protocol.errors import ProtocolError
from memx_server.settings import Limits


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("Number out of range")
    return number


_decode = msgspec.json.Decoder().decode
_decode_unusual = msgspec.json.Decoder(float_hook=_finite).decode
_exact = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder().encode

_SHORT = 512
# Two, since an expression that begins with one certain character is found far faster.
_LARGE_EXPONENTS = (re.compile(rb"e[+-]?[0-9]{3}"), re.compile(rb"E[+-]?[0-9]{3}"))
_ALL_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_MARKS = bytes(set(range(256)) - set(b'[]{}"'))


def check_exact(text: bytes) -> None:
    """Refuse JSON text that readers could understand differently, or not at all.

    Args:
        text: A whole request, or a value.

    Raises:
        ProtocolError: ``invalid_json``; names the place where it can.
    """
    # msgspec takes fifty times longer for numbers of such a size; many of them would hold others up.
    unusual = len(text) > _SHORT and any(each.search(text) for each in _LARGE_EXPONENTS)
    try:
        document = _decode_unusual(text) if unusual else _decode(text)
    except (ValueError, RecursionError) as error:
        raise _not_json(text, error) from None
    if not _names_are_distinct(text, _encode(document)):
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
    brackets = _brackets(text)
    for _ in range(levels):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")  # takes away the innermost level
    return bool(brackets)


def _brackets(text: bytes) -> bytes:
    """Return the brackets of JSON text that lie outside its strings, all of them square."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes side by side are an empty string, or end one and begin the next: both may go.
    marks = text.translate(_ALL_SQUARE, _NO_MARKS).replace(b'""', b"")
    return b"".join(marks.split(b'"')[::2])


def parts_of(text: bytes) -> int:
    """Estimate of how many parts a value (JSON text) is made; texts with commas seem to have more."""
    if len(text) <= _SHORT:
        return 0
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def same_json(one: bytes, other: bytes) -> bool:
    """Tell whether two JSON texts mean the same: 1 equals 1.0, but true does not equal 1."""
    return one == other or _same(_exact(one), _exact(other))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(_same(value, other[name]) for name, value in one.items())
        )
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _names_are_distinct(text: bytes, again: bytes) -> bool:
    """Tell by what decoding and encoding made of ``text`` that no name was lost; False: look closer.

    Each member has a colon, and without escapes a string comes back as it was, colons and all.
    """
    return again == text or (b"\\" not in text and again.count(b":") == text.count(b":"))


def _refuse_repeated_names(text: bytes) -> None:
    try:
        _decode_pairs(text.decode())
    except RecursionError as error:
        raise _not_json(text, error) from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ProtocolError(
            "invalid_json",
            f"the name {twice!r} comes twice in one object, and readers would not agree which holds",
            field=twice,
        )
    return members


_decode_pairs = json.JSONDecoder(object_pairs_hook=_distinct).decode


def _not_json(text: bytes, error: Exception) -> ProtocolError:
    if not text.strip():
        detail = "the body is empty; send a JSON object"
    elif isinstance(error, RecursionError):
        detail = "arrays and objects are nested far too deep"
    elif isinstance(error, UnicodeDecodeError):
        detail = f"the text is not UTF-8: byte 0x{error.object[error.start]:02x} cannot stand there"
    elif "out of range" in str(error):
        detail = "a number is beyond the range of a double (1.8e308); send it as a string"
    elif _SURROGATE.search(text):
        detail = "a lone surrogate (\\ud800 to \\udfff without its other half) is no Unicode text"
    elif _NOT_A_NUMBER.search(text):
        detail = "NaN and Infinity are no JSON; send null or a string"
    else:
        detail = f"this is no valid JSON: {error}"
    return ProtocolError("invalid_json", detail, field="body")


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NOT_A_NUMBER = re.compile(rb"[:,\[\s](?:-?Infinity|NaN)")
