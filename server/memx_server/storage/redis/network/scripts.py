"""Lua scripts: read once, run by digest, sent again to a server that has forgotten them."""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import Any

from hiredis import ReplyError

from memx_server.storage.redis.network.topology import SentCommand, Topology

_PART = re.compile(r"^--> (\w+)$", re.MULTILINE)
"""A line that stands for another file."""


class Script:
    """One Lua script of ``lua/``; a line ``--> name`` in it stands for the file of that name.

    Args:
        name: The file's name without ending.
        constants: Numbers that the script knows by name.
    """

    def __init__(self, name: str, **constants: int) -> None:
        known = "".join(f"local {name} = {value}\n" for name, value in constants.items())
        self.source = (known + _source(name)).encode()
        self._digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()

    async def run(
        self,
        topology: Topology,
        slot: int,
        keys: list[bytes],
        arguments: list[bytes | str | int],
        sent: SentCommand | None = None,
    ) -> Any:
        """Run it and return its reply; ``sent`` is what ``begin`` returned, if that came first."""
        command = (b"EVALSHA", self._digest, len(keys), *keys, *arguments)
        try:
            if sent is None:
                return await topology.call(slot, *command)
            return await topology.finish(slot, sent, *command)
        except ReplyError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        return await topology.call(slot, b"EVAL", self.source, len(keys), *keys, *arguments)

    def begin(
        self, topology: Topology, slot: int, keys: list[bytes], arguments: list[bytes | str | int]
    ) -> SentCommand | None:
        """Have it run; as ``Topology.begin``."""
        return topology.begin(slot, b"EVALSHA", self._digest, len(keys), *keys, *arguments)


def _source(name: str) -> str:
    text = (resources.files("memx_server.storage.redis") / "lua" / f"{name}.lua").read_text()
    return _PART.sub(lambda part: _source(part[1]), text)
