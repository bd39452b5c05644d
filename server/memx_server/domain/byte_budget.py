"""The budget of bytes that requests under way may hold in a process, with a share for each space."""

from __future__ import annotations

from memx_sdk.protocol.errors import ProtocolError

_RETRY_AFTER = 1.0
"""Seconds; a body under way ends, or is given up, within the deadline of bodies."""


class ByteBudget:
    """Counts the bytes of large bodies from their arrival to the response.

    Small bodies, which arrive at once, are not counted: they are gone as soon as they are decoded, and a caller whose
    large bodies fill the budget must not hold them up.

    Args:
        limit: Bytes of all spaces together. One space may hold half of them, so that no space takes all.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._share = max(1, limit // 2)
        self._held = 0
        self._by_space: dict[str, int] = {}

    @property
    def held(self) -> int:
        """The bytes that are held at present."""
        return self._held

    def take(self, space: str, count: int) -> None:
        """Count ``count`` more bytes, for ``give_back`` to return.

        Raises:
            ProtocolError: ``unavailable``, with nothing counted; the ``limit`` is ``bodies_bytes``.
        """
        # Both checks come before anything is counted: a refusal leaves nothing to give back.
        held = self._by_space.get(space, 0) + count
        if self._held + count > self._limit or held > self._share:
            raise ProtocolError(
                "unavailable",
                f"the large requests that are under way hold more than {self._limit} bytes, or those of one space more "
                f"than {self._share}; send this one again in a moment, or in smaller parts",
                limit="bodies_bytes",
                retry_after=_RETRY_AFTER,
            )
        self._held += count
        self._by_space[space] = held

    def give_back(self, space: str, count: int) -> None:
        """Count ``count`` bytes fewer."""
        if not count:
            return
        self._held -= count
        self._by_space[space] -= count
        # A space that holds nothing leaves no entry: there may be as many spaces as API keys.
        if not self._by_space[space]:
            del self._by_space[space]
