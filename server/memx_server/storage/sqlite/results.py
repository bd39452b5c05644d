"""The results that are kept for idempotency tokens."""

from __future__ import annotations

import sqlite3

import msgspec

from memx_server.storage.base import Committed, Idempotency, IdempotencyMismatch
from memx_server.storage.sqlite.spaces import Space, Spaces

PURGED_AT_ONCE = 2_000
"""Results that one purge removes at the most; more of them would hold up the writes behind it."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Committed).decode


class KeptResults:
    """The table of results, and the bytes that each space is charged for its own.

    A result is kept in the savepoint of the transaction that it belongs to: both or neither.

    The bytes are in the row of the space. A result whose time has come is never returned any more, but
    counts until a purge has removed it. The commit queue purges about once a minute, and whoever finds
    no room for a result purges first.

    Args:
        connection: The one connection that writes.
        spaces: The spaces, whose bytes are counted.
    """

    def __init__(self, connection: sqlite3.Connection, spaces: Spaces) -> None:
        self._connection = connection
        self._spaces = spaces

    def find(
        self, space: Space, idempotency: Idempotency, now_ms: int
    ) -> Committed | IdempotencyMismatch | None:
        """Return what the request was answered before; None where it comes for the first time."""
        row = self._connection.execute(
            "SELECT digest, answer, expires_at, size FROM idempotency"
            " WHERE space = ? AND token = ?",
            (space.id, idempotency.token),
        ).fetchone()
        if row is None:
            return None
        digest, result, expires_at, size = row
        if expires_at <= now_ms:
            # The token is used anew before a purge has come by. The row that `keep` replaces must not
            # stay in the sum.
            space.result_bytes -= size
            self._connection.execute(
                "DELETE FROM idempotency WHERE space = ? AND token = ?",
                (space.id, idempotency.token),
            )
            self._spaces.save(space)
            return None
        return _decode(result) if digest == idempotency.digest else IdempotencyMismatch()

    def keep(
        self,
        space: Space,
        idempotency: Idempotency,
        committed: Committed,
        now_ms: int,
        size: int,
    ) -> None:
        """Keep a result; the caller has added ``size`` to the space's bytes, and saves the space."""
        repeated = Committed(
            committed.position, committed.ts, committed.written, replayed_note=idempotency.note
        )
        self._connection.execute(
            "INSERT INTO idempotency (space, token, digest, expires_at, answer, size)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                space.id,
                idempotency.token,
                idempotency.digest,
                now_ms + idempotency.kept_ms,
                _encode(repeated),
                size,
            ),
        )

    def purge(self, now_ms: int) -> bool:
        """Remove results whose time has come, the oldest first; return whether some are left."""
        removed = self._connection.execute(
            "DELETE FROM idempotency WHERE (space, token) IN (SELECT space, token FROM idempotency"
            " WHERE expires_at <= ? ORDER BY expires_at LIMIT ?) RETURNING space, size",
            (now_ms, PURGED_AT_ONCE),
        ).fetchall()
        freed: dict[int, int] = {}
        for space_id, size in removed:
            freed[space_id] = freed.get(space_id, 0) + size
        for space_id, size in freed.items():
            space = self._spaces.by_id(space_id)
            space.result_bytes -= size
            self._spaces.save(space)
        return len(removed) == PURGED_AT_ONCE
