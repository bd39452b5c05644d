"""The budget of bytes that requests or responses under way may hold in a process, with a share for each space."""

from __future__ import annotations

from memx_sdk.protocol.errors import ProtocolError

_RETRY_AFTER = 1.0
"""Seconds; what is under way ends, or is given up, within the deadline of bodies or of responses."""

LARGE_RESPONSE = 64 * 1024
"""Responses up to this length are not counted; so much a connection may hold anyway."""


class ByteBudget:
    """Counts the bytes of large bodies from their arrival to the response, or of large responses until they are sent.

    Small ones, which come and go at once, are not counted, and a caller whose large ones fill the budget must not hold
    them up.

    Args:
        limit: Bytes of all spaces together. One space may hold half of them, so that no space takes all.
        name: What the limit is called.
        counted: What is counted, for the sentence that refuses more.
    """

    def __init__(self, limit: int, name: str, counted: str) -> None:
        self._limit = limit
        self._name = name
        self._counted = counted
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
            ProtocolError: ``unavailable``, with nothing counted; its ``limit`` is the budget's name.
        """
        # Both checks come before anything is counted: a refusal leaves nothing to give back.
        held = self._by_space.get(space, 0) + count
        if self._held + count > self._limit or held > self._share:
            raise ProtocolError(
                "unavailable",
                f"the {self._counted} that are under way hold more than {self._limit} bytes, or those of one space "
                f"more than {self._share}; send this request again in a moment, or in smaller parts",
                limit=self._name,
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
