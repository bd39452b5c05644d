"""The list of the spaces that hold schemas, for an operator who has to find one without a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from memx_server.storage.base import StateStore

_GROUP: Final = "spaces with schemas"
_KEPT_MS: Final = 10 * 365 * 24 * 3600 * 1000
"""Ten years: Redis names the keys of a space by a digest, so that nothing else there tells a space's name."""


async def note_space(state: StateStore, space: str) -> None:
    """Note that a space holds schemas, or is about to."""
    await state.put(_GROUP, space, b"", _KEPT_MS)


async def forget_space(state: StateStore, space: str) -> None:
    """Drop a space that holds none any more."""
    await state.remove(_GROUP, space)


async def noted_spaces(state: StateStore) -> Sequence[str]:
    """Return the spaces that were noted, in order; some may hold no schema any more."""
    return sorted(await state.list(_GROUP))
