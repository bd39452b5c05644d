"""The part of a page of the log that a reader may be given."""

from __future__ import annotations

from dataclasses import replace

from memx_sdk.protocol.cursors import Position
from memx_server.storage.base import LogPage


def up_to_head(page: LogPage) -> LogPage:
    """Return ``page`` without what lies above the head.

    A record above the head belongs to a commit that failed half-way: the store removes it sooner or
    later, or opens a new lineage. Whoever had seen it would have seen what did not happen, and the
    cursor behind it would be refused at its next use.
    """
    if not page.records or page.records[-1].position.revision <= page.head:
        return page
    records = [record for record in page.records if record.position.revision <= page.head]
    position = records[-1].position if records else Position(page.position.lineage, page.head)
    return replace(page, records=records, position=position)
