"""The computation of a new value from the present one: merge, patch, increment, append.

No number is ever rounded, and merge, append and increment leave every byte that they do not change as
it was. Nothing here waits or reads anything: an evaluating process runs it too.
"""

from __future__ import annotations

import math
import re
from decimal import Context, Decimal, DecimalException, Inexact
from typing import Any

import jsonpatch
import jsonpointer
import msgspec
import simplejson

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.requests import (
    AppendOperation,
    Computed,
    IncrementOperation,
    MergeOperation,
    PatchOperation,
)
from memx_server.domain.values import check_value, parts_of
from memx_server.settings import Limits
from memx_server.storage.encoding import quote

_PATCH_OPERATIONS = 1000
_COPIED_BYTES = 256 * 1024
"""Bytes that one patch may copy; copies of copies double, and would outgrow the memory."""

# Weights by which ``work_of`` estimates, measured in parts of a value.
_PARTS_PER_OPERATION = 30
"""An operation of a patch has two or three parts and takes as long as a hundred parts of a value."""
_BYTES_PER_PART, _DEEPEST = 256, 64
"""A merge reads a value once for each object on its way into it: bytes read in the time of a part,
and the most levels there are."""
_SHOWN_CHARACTERS = 300
_PARTS_PER_COPY = 1500
"""Copies of copies may outgrow the value."""

_to_json = msgspec.json.Encoder(decimal_format="number").encode
_EXACT = Context(prec=2000, traps=[Inexact])
_INTEGER = re.compile(rb"-?[0-9]+")

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode

Number = int | Decimal


def compute(operation: Computed, present: bytes | None, limits: Limits) -> bytes:
    """Return the value (JSON text) that ``operation`` makes of ``present`` (None: there is none).

    Raises:
        ProtocolError: ``invalid_update`` where it does not fit the present value.
    """
    match operation:
        case MergeOperation():
            patch = bytes(operation.merge)
            check_value(patch, limits, "merge")
            return merged(present, patch)
        case PatchOperation():
            return _patched(present, bytes(operation.patch))
        case IncrementOperation():
            return _incremented(operation, present)
        case AppendOperation():
            return _appended(present, bytes(operation.append), operation.cap)


def work_of(operation: Computed, present: bytes | None) -> int:
    """Estimate the work of ``compute``.

    Returns:
        The parts of values (members and items) that it takes apart and puts together, so that the
        evaluator can tell what would hold up the event loop.
    """
    held = 0 if present is None else parts_of(present)
    match operation:
        case MergeOperation():
            merge = bytes(operation.merge)
            read = len(present or b"") * min(merge.count(b"{"), _DEEPEST)
            return 2 * (held + parts_of(merge)) + read // _BYTES_PER_PART
        case PatchOperation():
            patch = bytes(operation.patch)
            copies = patch.count(b"copy") + patch.count(
                b"\\u"
            )  # "copy" may be written with escapes
            steps = patch.count(b"/")  # those of the pointers
            operations = _PARTS_PER_OPERATION * parts_of(patch)
            return held + steps + operations + copies * (held + _PARTS_PER_COPY)
        case AppendOperation():
            return held + parts_of(bytes(operation.append))
        case IncrementOperation():
            return 0


def merged(target: bytes | None, patch: bytes) -> bytes:
    """Apply an RFC 7396 merge patch; only the objects that it names are taken apart."""
    if not _is_object(patch):
        return patch
    members = dict(_decode_object(target)) if target is not None and _is_object(target) else {}
    for name, raw in _decode_object(patch).items():
        value = bytes(raw)
        if value == b"null":
            members.pop(name, None)  # RFC 7396: null removes the member
        else:
            old = members.get(name)
            members[name] = msgspec.Raw(merged(None if old is None else bytes(old), value))
    return b"{%b}" % b",".join(b"%b:%b" % (quote(n), bytes(v)) for n, v in members.items())


def _is_object(text: bytes) -> bool:
    return text.lstrip()[:1] == b"{"


def _appended(present: bytes | None, items: bytes, cap: int | None) -> bytes:
    added = _list(items, "append", "append takes a list of items")
    held = (
        []
        if present is None
        else _list(present, "key", "append needs a list, and the present value is none")
    )
    joined = held + added
    # The cap counts after the append, and keeps the newest.
    if cap is not None:
        joined = joined[-cap:]
    return b"[%b]" % b",".join(map(bytes, joined))


def _list(text: bytes, field: str, detail: str) -> list[msgspec.Raw]:
    try:
        return _decode_list(text)
    except msgspec.ValidationError:
        raise ProtocolError("invalid_update", detail, field=field) from None


def _incremented(operation: IncrementOperation, present: bytes | None) -> bytes:
    by = _number(bytes(operation.increment), "increment", "invalid_request")
    held = 0 if present is None else _number(present, "key", "invalid_update")
    total = _sum(held, by)
    low = _bound(operation.minimum, "minimum")
    high = _bound(operation.maximum, "maximum")
    if (low is not None and total < low) or (high is not None and total > high):
        bound = f"minimum {low}" if low is not None and total < low else f"maximum {high}"
        raise ProtocolError(
            "invalid_update",
            f"{held} plus {by} would pass the {bound}; nothing was written",
            field="increment",
            value=held,
        )
    return str(total).encode()


def _sum(held: Number, by: Number) -> Number:
    try:
        # Integers of any length add up exactly; a decimal sum that would have to be rounded is trapped.
        exact = held + by if isinstance(held, int) and isinstance(by, int) else _exact_sum(held, by)
        fits = math.isfinite(float(exact))
    except (DecimalException, OverflowError):
        fits = False
    if not fits:
        raise ProtocolError(
            "invalid_update",
            "the sum is too large or has too many digits to be kept exactly; nothing was written",
            field="increment",
        )
    return exact


def _exact_sum(held: Number, by: Number) -> Decimal:
    return _EXACT.add(Decimal(held), Decimal(by))


def _bound(raw: msgspec.Raw | msgspec.UnsetType, field: str) -> Number | None:
    if isinstance(raw, msgspec.UnsetType):
        return None
    return _number(bytes(raw), field, "invalid_request")


def _number(text: bytes, field: str, code: str) -> Number:
    text = text.strip()
    if _INTEGER.fullmatch(text):
        return int(text)
    if text[:1] in b"-0123456789":
        return Decimal(text.decode())
    what = "the present value" if field == "key" else field
    raise ProtocolError(code, f"{what} is no number; increment needs one", field=field)


def _patched(present: bytes | None, patch: bytes) -> bytes:
    operations = simplejson.loads(patch, use_decimal=True)
    if not isinstance(operations, list) or len(operations) > _PATCH_OPERATIONS:
        raise ProtocolError(
            "invalid_request",
            f"patch takes a list of at most {_PATCH_OPERATIONS} RFC 6902 operations",
            field="patch",
        )
    if present is None and not _adds_root(operations):
        raise ProtocolError(
            "invalid_update",
            'there is no value to patch; begin with {"op": "add", "path": "", "value": ...}',
            field="patch",
        )
    # Decimals in place of floats: a number that the patch does not touch comes back digit for digit.
    document: Any = simplejson.loads(present or b"null", use_decimal=True)
    size = 0
    for index, operation in enumerate(operations):
        # Before it is applied: a copy of copies must not exist even for a moment.
        size += _copied_bytes(document, operation)
        if size > _COPIED_BYTES:
            raise ProtocolError(
                "too_large", f"the patch copies more than {_COPIED_BYTES} bytes", field="patch"
            )
        document = _apply(document, operation, index)
    return _dump(document)


def _adds_root(operations: list[Any]) -> bool:
    first = operations[0] if operations else None
    return isinstance(first, dict) and first.get("op") == "add" and first.get("path") == ""


def _apply(document: Any, operation: Any, index: int) -> Any:
    try:
        return jsonpatch.apply_patch(document, [operation], in_place=True)
    except jsonpatch.JsonPatchTestFailed:
        detail = f"the test at {operation['path'][:_SHOWN_CHARACTERS]!r} does not hold"
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        # The library writes the whole value into some messages.
        detail = str(error)[:_SHOWN_CHARACTERS] or type(error).__name__
    except (TypeError, KeyError, AttributeError, IndexError, ValueError):
        detail = "the operation is malformed or does not fit the value"
    raise ProtocolError(
        "invalid_update",
        f"patch operation {index}: {detail}; nothing was written",
        field="patch",
        operation=index,
    )


def _copied_bytes(document: Any, operation: Any) -> int:
    """Return the bytes that an operation adds by copying; 0 where it is no copy."""
    if not isinstance(operation, dict) or operation.get("op") != "copy":
        return 0
    try:
        return len(_to_json(jsonpointer.resolve_pointer(document, operation["from"])))
    except (jsonpointer.JsonPointerException, TypeError, KeyError, AttributeError):
        return 0


def _dump(document: Any) -> bytes:
    text: str = simplejson.dumps(
        document, use_decimal=True, ensure_ascii=False, separators=(",", ":")
    )
    return text.encode()
