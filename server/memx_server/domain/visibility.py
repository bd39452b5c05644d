"""Which changes and schemas a principal may see."""

from __future__ import annotations

from collections.abc import Callable
from os.path import commonprefix
from typing import Literal

from memx_sdk.protocol.keys import compile_pattern, literal_prefix
from memx_server.domain.access import Principal
from memx_server.storage.base import Change

EventKind = Literal["value", "schema", "all"]


def may_see_schema(principal: Principal, key: str) -> bool:
    """Tell whether ``principal`` may read all that a schema's key or pattern stands for."""
    return principal.scopes.read.covers(key)


def visible(principal: Principal, pattern: str, kind: EventKind) -> Callable[[Change], bool]:
    """Return what tells whether a change matches ``pattern`` and ``principal`` may see it."""
    match = compile_pattern(pattern)
    readable = principal.scopes.read
    values, schemas = kind != "schema", kind != "value"

    def is_visible(change: Change) -> bool:
        key = change.key
        if change.action == "schema":
            return schemas and bool(match(key)) and readable.covers(key)
        return values and bool(match(key)) and key in readable

    return is_visible


def listing_prefix(principal: Principal, pattern: str) -> str:
    """Return the prefix of all keys that match ``pattern`` and that ``principal`` may read.

    It keeps a list from walking through what it would filter out.
    """
    asked = literal_prefix(pattern)
    permitted = [literal_prefix(held) for held in principal.scopes.read.patterns]
    shared = commonprefix(permitted)  # noqa: RUF071 - the common characters are what is wanted
    return shared if shared.startswith(asked) else asked
