"""Lua scripts: read once, run by digest, sent again to a server that has forgotten them."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any, Protocol

from hiredis import ReplyError


class Caller(Protocol):
    """Sends a command to the server that holds ``slot``."""

    async def call(self, slot: int, *command: bytes | str | int) -> Any:
        """Return the reply; raises ``ReplyError`` where it is an error."""


class Script:
    """One Lua script, joined from the files of ``lua/`` that are named.

    Args:
        parts: The files' names without ending.
        constants: Numbers that the script knows by name.
    """

    def __init__(self, *parts: str, **constants: int) -> None:
        folder = resources.files(__package__) / "lua"
        known = "".join(f"local {name} = {value}\n" for name, value in constants.items())
        source = [(folder / f"{part}.lua").read_bytes() for part in parts]
        self.source = b"\n".join([known.encode(), *source])
        self._digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()

    async def run(
        self, caller: Caller, slot: int, keys: list[bytes], arguments: list[bytes | str | int]
    ) -> Any:
        """Run it and return its reply."""
        try:
            return await caller.call(slot, b"EVALSHA", self._digest, len(keys), *keys, *arguments)
        except ReplyError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        return await caller.call(slot, b"EVAL", self.source, len(keys), *keys, *arguments)
