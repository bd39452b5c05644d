"""The names of the Redis keys in which a space is kept.

All keys of a space carry one hash tag, so that a cluster keeps them in one slot. The tag is a
digest made here: no text of a user reaches it, and what a user's key says behind it is no matter.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache, partial

from redis.crc import key_slot

_REMEMBERED = 131_072
"""Spaces whose names are kept, at about a kilobyte each: more of them are seldom in use at a time."""


class Keyspace:
    """The keys of one space.

    Attributes:
        id: The space's name.
        slot: The cluster's slot that they are all in.
        meta: Hash: head, lineage, replication id, ended lineages, floor and size of the log, schema
            revision.
        log: Stream of records; also the name of the channel on which each is published.
        names: Sorted set of the keys that exist, in code-point order.
        expiries: Sorted set of the keys that expire, by milliseconds since the epoch.
        newest: Hash of the newest revision of each key that the log still knows.
        schemas: Hash of the schemas by key or pattern.
        shared: All of these, in the order in which the commit script takes them.
    """

    def __init__(self, prefix: str, space: str) -> None:
        self.id = space
        self._base = base = b"%b:{%b}:" % (prefix.encode(), _digest(space))
        self.slot = key_slot(base)
        self.meta = base + b"meta"
        self.log = base + b"log"
        self.names = base + b"names"
        self.expiries = base + b"expiries"
        self.newest = base + b"newest"
        self.schemas = base + b"schemas"
        self.shared = (
            *(self.meta, self.log, self.names, self.expiries, self.newest, self.schemas),
        )

    def entry(self, key: str) -> bytes:
        """The string that holds the entry of ``key`` and nothing else."""
        return b"%be:%b" % (self._base, key.encode())

    def answer(self, token: str) -> bytes:
        """The string that holds what was answered under an idempotency token."""
        return b"%bi:%b" % (self._base, _digest(token))


class GroupKeys:
    """The keys of one group of the state.

    Attributes:
        slot: The cluster's slot that they are all in.
        index: Sorted set of the group's names, by when they expire.
    """

    def __init__(self, prefix: str, group: str) -> None:
        self._base = base = b"%b:{s%b}:" % (prefix.encode(), _digest(group))
        self.slot = key_slot(base)
        self.index = base + b"index"

    def record(self, name: str) -> bytes:
        """The string that holds a record."""
        return b"%br:%b" % (self._base, name.encode())


class Keyspaces:
    """The keys of each space and group under one prefix; the recent ones are remembered.

    Attributes:
        expiring: Sorted set of the spaces that may hold expiries, by when a writer last named them.
        format: String: the version of what is kept.
        registry_slot: The cluster's slot of ``expiring``.
        format_slot: The cluster's slot of ``format``.

    Raises:
        ValueError: The prefix holds a brace, which would make it the hash tag.
    """

    def __init__(self, prefix: str) -> None:
        if "{" in prefix or "}" in prefix:
            raise ValueError(f"the prefix of Redis keys holds no braces: {prefix!r}")
        self.space = lru_cache(maxsize=_REMEMBERED)(partial(Keyspace, prefix))
        self.group = lru_cache(maxsize=_REMEMBERED)(partial(GroupKeys, prefix))
        self.expiring = b"%b:expiring" % prefix.encode()
        self.format = b"%b:format" % prefix.encode()
        self.registry_slot = key_slot(self.expiring)
        self.format_slot = key_slot(self.format)


def _digest(text: str) -> bytes:
    return base64.urlsafe_b64encode(hashlib.blake2b(text.encode(), digest_size=15).digest())
