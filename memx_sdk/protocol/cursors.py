"""Cursors: opaque strings that name a position in a space's log."""

from __future__ import annotations

import re
from typing import NamedTuple

from memx_sdk.protocol.errors import ProtocolError

_CURSOR = re.compile(r"([0-9a-z]{1,32})-([0-9]{1,16})", re.ASCII)


class Position(NamedTuple):
    """A place in a space's log: all changes up to ``revision`` in the history named ``lineage``."""

    lineage: str
    revision: int


def encode_cursor(position: Position) -> str:
    """Write ``position`` as the string that clients hold."""
    return f"{position.lineage}-{position.revision}"


def decode_cursor(text: str) -> Position:
    """Read a cursor that a client sent back.

    Raises:
        ProtocolError: ``invalid_cursor`` when no memX server can have made it.
    """
    match = _CURSOR.fullmatch(text)
    if match is None or int(match[2]) >= 2**53:
        raise ProtocolError(
            "invalid_cursor",
            "this is no cursor that memX gave out; take one from an answer or event, or begin without",
            field="since",
        )
    return Position(match[1], int(match[2]))
