"""Records and changes, decoded from the stream (``lua/space.lua``) and from notices."""

from __future__ import annotations

import msgspec

from memx_sdk.protocol.cursors import Position
from memx_server.storage.base import Change, Record


class _Head(msgspec.Struct):
    action: str
    key: str


_decode_head = msgspec.json.Decoder(_Head).decode
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


def change_of(text: bytes) -> Change:
    """Make a change of its JSON text."""
    head = _decode_head(text)
    return Change(head.key, head.action, text)


def record_in_log(lineage: str, row: tuple[bytes, list[bytes]]) -> Record:
    """Make a record of an entry of the stream."""
    id, fields = row
    changes = []
    for field, text in zip(fields[2::2], fields[3::2], strict=True):
        action, _, key = field.decode().split(":", 2)
        changes.append(Change(key, action, text))
    return Record(Position(lineage, int(id.partition(b"-")[0])), int(fields[1]), changes)


def record_in_notice(notice: bytes) -> Record:
    """Make a record of a notice: lineage, revision, previous revision; a list of changes, if small."""
    head, _, body = notice.partition(b"\n")
    lineage, revision, previous = head.split()
    changes = [change_of(bytes(text)) for text in _split(body)] if body else None
    return Record(Position(lineage.decode(), int(revision)), int(previous), changes)
