"""The form of a stored record: its value as it is, or an envelope around a long name or a value in parts."""

from __future__ import annotations

import base64
import secrets
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from memx_sdk.core import values
from memx_sdk.models import Entry

MARK = "memx:record"
"""The one member of an envelope."""

INLINE_BYTES = 900_000
"""A value's text up to this length is stored as it is: memX's limit is 1 MiB."""

PART_BYTES = 690_000
"""As base64 920,000 characters."""

MOST_PARTS = 60
"""The parts of a new value and those of the one that it replaces fit into one transaction."""

MOST_BYTES = 256 * 1024 * 1024
"""The longest text of a value, whatever it is compressed to: its reader has to hold it."""

_WORTH_PACKING = 0.9
_MARKED = b'{"memx:record":'


class Split(NamedTuple):
    """A value that is too large for one entry.

    Attributes:
        id: Names its parts; no other value has it.
        name: The record's name where its key does not hold it.
        packing: ``zlib`` or ``plain``.
        texts: The parts, as base64.
        size: The length of the value's text in bytes.
    """

    id: str
    name: str | None
    packing: str
    texts: Sequence[str]
    size: int

    def pointer(self) -> dict[str, Any]:
        """Write what is stored in place of the value."""
        parts = {
            "id": self.id,
            "count": len(self.texts),
            "bytes": self.size,
            "packing": self.packing,
        }
        return {MARK: parts if self.name is None else {**parts, "name": self.name}}


class Stored(NamedTuple):
    """What a key holds, with its parts joined.

    Attributes:
        entry: The entry as memX has it.
        value: The value.
        name: The record's name, where the key does not hold it.
        parts: The keys of its parts.
    """

    entry: Entry
    value: Any
    name: str | None = None
    parts: tuple[str, ...] = ()


class Pointer(msgspec.Struct, frozen=True):
    """The members of an envelope."""

    id: str = ""
    count: int = 0
    bytes: int = 0
    packing: str = "plain"
    name: str | None = None
    value: Any = msgspec.UNSET

    def keys(self, parts: str) -> tuple[str, ...]:
        """The keys of the parts; ``parts`` is what they start with."""
        return tuple(part_key(parts, self.id, number) for number in range(self.count))


def part_key(parts: str, identity: str, number: int) -> str:
    """The key of one part of a value."""
    return f"{parts}{identity}:{number:02d}"


def write(value: Any, name: str | None) -> msgspec.Raw | Split:
    """Write a value for one entry, or in parts where it is too large.

    Args:
        value: Anything that has a form in JSON.
        name: The record's name where its key does not hold it, else None.

    Raises:
        InvalidRequestError: It has no form in JSON.
        ValueError: It is larger than a record can be.
    """
    text = values.encode(value)
    if len(text) > INLINE_BYTES:
        return _split(text, name)
    # A value that looks like an envelope gets one, or its reader would take it apart.
    if name is not None or text.startswith(_MARKED):
        envelope = {MARK: {"value": msgspec.Raw(text), "name": name}}
        return msgspec.Raw(values.encode(envelope))
    return msgspec.Raw(text)


def read_pointer(value: Any) -> Pointer | None:
    """Read an envelope; None where a value has none.

    Raises:
        ValueError: It looks like one and is none that `write` makes.
    """
    if not isinstance(value, Mapping) or value.keys() != {MARK}:
        return None
    try:
        pointer = msgspec.convert(value[MARK], Pointer)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    # Whoever may write the key may claim any count: no reader asks for more than a writer makes.
    if pointer.value is msgspec.UNSET and not (
        0 < pointer.count <= MOST_PARTS and 0 < pointer.bytes <= MOST_BYTES
    ):
        raise ValueError(f"{pointer.count} parts, {pointer.bytes} bytes")
    return pointer


def join(pointer: Pointer, texts: Sequence[Any]) -> Any:
    """Join the parts of a value.

    Raises:
        ValueError: They are none, or not those that were written.
    """
    try:
        data = b"".join(base64.b64decode(text, validate=True) for text in texts)
        if pointer.packing == "zlib":
            # Bounded by what the envelope says, so that a few bytes cannot unfold into gigabytes.
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(data, pointer.bytes + 1)
    except (TypeError, zlib.error) as error:
        raise ValueError(str(error)) from None
    if len(data) != pointer.bytes:
        raise ValueError(f"{len(data)} bytes in place of {pointer.bytes}")
    return values.decode(data)


def _split(text: bytes, name: str | None) -> Split:
    if len(text) > MOST_BYTES:
        raise ValueError(f"a value of {len(text)} bytes; a record holds {MOST_BYTES} at the most")
    packed = zlib.compress(text, 1)
    packing, data = "plain", text
    if len(packed) < len(text) * _WORTH_PACKING:
        packing, data = "zlib", packed
    parts = [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]
    if len(parts) > MOST_PARTS:
        raise ValueError(
            f"a value of {len(text)} bytes is larger than a record can be: "
            f"{MOST_PARTS * PART_BYTES} bytes after compression"
        )
    texts = [base64.b64encode(part).decode() for part in parts]
    return Split(secrets.token_hex(8), name, packing, texts, len(text))
