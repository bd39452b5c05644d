"""The replay of a dump's history, for keys that are new where it goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final

import msgspec

from memx_sdk import AsyncMemxContext
from memx_sdk.cli.transfer.dump import DumpedChange
from memx_sdk.errors import InvalidRequestError, SchemaViolationError

_WINDOW = 32
_LONGEST_REASON: Final = 1000
"""Bytes of a reason; the server takes 1024."""


async def replay(memory: AsyncMemxContext, changes: Iterable[DumpedChange]) -> int:
    """Write changes again, oldest first, and return how many.

    Revision, time and writer are those of the import; the reason names what they were. Keys that exist, or have a
    history, before their first change is replayed are left alone.
    """
    is_new: dict[str, bool] = {}
    replayed = 0
    window: dict[str, DumpedChange] = {}
    for change in changes:
        # Changes of different keys go side by side. Two of one key follow each other.
        if change.key in window or len(window) == _WINDOW:
            replayed += await _write(memory, window, is_new)
            window = {}
        window[change.key] = change
    return replayed + await _write(memory, window, is_new)


async def _write(
    memory: AsyncMemxContext, window: dict[str, DumpedChange], is_new: dict[str, bool]
) -> int:
    unknown = [key for key in window if key not in is_new]
    histories = await asyncio.gather(*(memory.history(key, 1) for key in unknown))
    is_new.update({key: not found for key, found in zip(unknown, histories, strict=True)})
    due = [change for key, change in window.items() if is_new[key]]
    return sum(await asyncio.gather(*(_write_one(memory, change) for change in due)))


async def _write_one(memory: AsyncMemxContext, change: DumpedChange) -> bool:
    reason = _reason(change)
    try:
        if change.action == "set":
            if change.value is msgspec.UNSET:
                return False
            await memory.set(change.key, change.value, reason=reason)
        elif change.action in ("delete", "expire"):
            await memory.delete(change.key, reason=reason)
    except (SchemaViolationError, InvalidRequestError):
        # An old value need not fit the present schema; the last one is imported, and told of, with the entries.
        return False
    return True


def _reason(change: DumpedChange) -> str:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(change.ts))
    origin = f"(by {change.writer or 'expiry'} at {when})"
    reason = f"{change.reason} {origin}" if change.reason else origin
    # Cut in front: what tells the origin is at the end. A character may have been cut in half.
    return reason.encode()[-_LONGEST_REASON:].decode(errors="ignore")
