"""The version of what memX keeps in Redis, and the refusal of a newer one."""

from __future__ import annotations

from contextlib import suppress

from hiredis import ReplyError

from memx_server.storage.base import StoreUnavailable
from memx_server.storage.errors import CannotOpen
from memx_server.storage.redis.keyspace import Keyspaces
from memx_server.storage.redis.network.topology import Topology

FORMAT = 3
"""Raised with every change after which an older server would read or write something wrong.

1: what the first servers of 0.2.0 wrote; they kept no version.
2: the hash of a space counts kept results and schemas. Servers of both formats work side by side: the older ones do
not count, and leave the fields alone.
3: keys may be unlogged. An older server would log them, and give a revision of theirs a second time.
"""


async def check_format(topology: Topology, keyspaces: Keyspaces) -> None:
    """Compare the version in Redis with this server's, and raise it there where this one is newer.

    The commit script compares too, space by space (``space.lua``): a server that is running when a newer
    one raises the version must not write what that one would misread.

    Raises:
        CannotOpen: A newer memX has written there.
        StoreUnavailable: Redis does not answer.
    """
    slot, key = keyspaces.format_slot, keyspaces.format
    held: bytes | None = await topology.call(slot, b"GET", key)
    if held is not None and int(held) > FORMAT:
        raise CannotOpen(
            f"this Redis holds what a newer memX has written (format {int(held)}, this server knows up "
            f"to {FORMAT}): update it with `pip install --upgrade memx-server`, or use another Redis"
        )
    if held is None or int(held) < FORMAT:
        # A Redis that takes no writes just now (it is full) is served for reading; each space carries
        # the version too, and the next start tries again.
        with suppress(StoreUnavailable, ReplyError):
            await topology.call(slot, b"SET", key, FORMAT)
