"""Who may see and do what: principals and callers, their scopes, and every rule that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from os.path import commonprefix
from typing import Literal

import msgspec

from memx_sdk.protocol.durability import Durability
from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import compile_pattern, covers, is_pattern, literal_prefix
from memx_server.domain.pattern_index import PatternIndex
from memx_server.storage.base import Change

Verb = Literal["read", "write", "admin"]

EventName = Literal["value", "schema", "all"]
"""The kinds of event that a reader of the log or a subscriber wants."""

_READ_AND_WRITE: tuple[Verb, Verb] = ("write", "read")

DEFAULT_SPACE = "default"

_Match = Callable[[str], object]


class KeySet:
    """The keys that a list of patterns matches.

    Whether a key is one of them is looked up once and remembered: an agent asks for the same keys
    again and again.

    Attributes:
        patterns: The patterns.
        everything: Whether ``*`` is among them.
    """

    __slots__ = ("_candidates", "_known", "everything", "patterns")
    _REMEMBERED = 4096
    """Keys; then all are forgotten, which costs less than to keep an order of use."""
    _TRIED_AT_ONCE = 16
    """Up to this many patterns are tried one by one; more are found by an index."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        self.everything = "*" in self.patterns
        self._candidates = self._find_candidates()
        self._known: dict[str, bool] = {}

    def __contains__(self, key: str) -> bool:
        if self.everything:
            return True
        known = self._known.get(key)
        if known is None:
            # Scopes never change: a principal with others has another set. So nothing here is stale.
            if len(self._known) >= self._REMEMBERED:
                self._known.clear()
            known = self._known[key] = any(match(key) for match in self._candidates(key))
        return known

    def _find_candidates(self) -> Callable[[str], list[_Match]]:
        """Make the function that finds, for a key, the patterns that may match it."""
        matches = [compile_pattern(pattern) for pattern in self.patterns]
        if len(matches) <= self._TRIED_AT_ONCE:
            return lambda key: matches
        index: PatternIndex[_Match] = PatternIndex()
        for pattern, match in zip(self.patterns, matches, strict=True):
            index.add(pattern, match)
        return index.candidates

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def covers(self, pattern: str) -> bool:
        """Tell whether all that ``pattern`` matches is surely in this set."""
        return covers(self.patterns, pattern) if is_pattern(pattern) else pattern in self


@dataclass(frozen=True)
class Scopes:
    """The keys that each verb is permitted on."""

    read: KeySet
    write: KeySet
    admin: KeySet
    by_verb: dict[Verb, KeySet] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_verb: dict[Verb, KeySet] = {"read": self.read, "write": self.write, "admin": self.admin}
        object.__setattr__(self, "by_verb", by_verb)

    @classmethod
    def of(
        cls,
        read: Iterable[str] = (),
        write: Iterable[str] = (),
        admin: Iterable[str] | None = None,
    ) -> Scopes:
        """Build scopes from patterns; without ``admin``, ``write`` stands for it.

        The same patterns make the same object: thousands of API keys mostly have few kinds of
        scopes, which then stay in the processor's cache.
        """
        write = tuple(write)
        return _scopes(tuple(read), write, write if admin is None else tuple(admin))


@lru_cache(maxsize=1024)
def _scopes(read: tuple[str, ...], write: tuple[str, ...], admin: tuple[str, ...]) -> Scopes:
    return Scopes(KeySet(read), KeySet(write), KeySet(admin))


@dataclass(frozen=True, slots=True)
class Principal:
    """The identity that a request acts as: the name, space and scopes of its API key.

    Attributes:
        name: The name given to the API key, else the first characters of its hash. Two API keys
            may have one name, such as the old and the new one of a rotation.
        space: The tenant whose keys it sees.
        scopes: What it may do there.
        credential: A digest of the API key, which tells it from every other one.
        expires_at: Unix seconds after which the API key is void, or None.
    """

    name: str
    scopes: Scopes
    space: str = DEFAULT_SPACE
    credential: str = field(default="", repr=False)
    expires_at: float | None = None

    def may(self, verb: Verb, key: str) -> bool:
        """Tell whether ``verb`` is permitted on ``key``."""
        return key in self.scopes.by_verb[verb]

    def require(self, verb: Verb, key: str) -> None:
        """Raise ``forbidden`` unless ``verb`` is permitted on ``key``, whether or not it exists."""
        if key not in self.scopes.by_verb[verb]:
            raise forbidden(verb, key)

    def require_read_and_write(self, key: str) -> None:
        """Raise ``forbidden`` unless both ``read`` and ``write`` are permitted on ``key``.

        Whatever depends on the present value needs both: a computed update, a touch, a compare. Their
        outcome shows something of the value, and by a schema or a bound of the caller's own making as
        much of it as the caller has patience for.
        """
        for verb in _READ_AND_WRITE:
            if key not in self.scopes.by_verb[verb]:
                raise ProtocolError(
                    "forbidden",
                    f"this API key may not {verb} {key!r}, and what depends on the present value "
                    "needs both read and write; ask for a scope that covers it, or use set or "
                    "delete, which need write alone",
                    verb=verb,
                    key=key,
                )

    def require_schema_admin(self, pattern: str) -> None:
        """Raise ``forbidden`` unless the admin scope covers all that ``pattern`` matches."""
        if not self.scopes.admin.covers(pattern):
            raise forbidden("admin", pattern)

    def require_any_read(self, pattern: str) -> None:
        """Raise ``forbidden`` where nothing at all may be read, or an exact key may not be."""
        if not self.scopes.read or not (is_pattern(pattern) or pattern in self.scopes.read):
            raise forbidden("read", pattern)

    def permits_the_same_as(self, other: Principal) -> bool:
        """Tell whether a connection that was opened as ``other`` may stay open."""
        return (self.space, self.expires_at) == (other.space, other.expires_at) and all(
            keys.patterns == other.scopes.by_verb[verb].patterns
            for verb, keys in self.scopes.by_verb.items()
        )

    def writer(self, agent: str | None) -> str:
        """Name the writer ``principal/agent``, or the principal alone."""
        return f"{self.name}/{agent}" if agent else self.name


def forbidden(verb: Verb, key: str) -> ProtocolError:
    """The error for a key that the API key's scopes do not cover."""
    return ProtocolError(
        "forbidden",
        f"this API key may not {verb} {key!r}; ask for a scope that covers it, or use another key",
        verb=verb,
        key=key,
    )


_KINDS: dict[EventName, frozenset[str]] = {
    "value": frozenset({"value"}),
    "schema": frozenset({"schema"}),
    "all": frozenset({"value", "schema"}),
}


def kinds_of(event: EventName) -> frozenset[str]:
    """Return the kinds of event that the word stands for."""
    return _KINDS[event]


def kind_of(change: Change) -> str:
    """Return the kind of event that a change of the log is."""
    return "schema" if change.action == "schema" else "value"


def may_see_schema(principal: Principal, key: str) -> bool:
    """Tell whether ``principal`` may read all that a schema's key or pattern stands for."""
    return principal.scopes.read.covers(key)


class Visibility:
    """The events that a reader of a pattern sees: those that match it and that its scopes permit.

    The log, long polls and subscriptions all decide by this.

    Args:
        pattern: The key or pattern that it reads.
        kinds: The kinds of event that it wants.
        readable: The keys that it may read.
    """

    __slots__ = ("_matches", "kinds", "pattern", "readable")

    def __init__(self, pattern: str, kinds: frozenset[str], readable: KeySet) -> None:
        self.pattern = pattern
        self.kinds = kinds
        self.readable = readable
        self._matches = compile_pattern(pattern)

    def matches(self, key: str) -> bool:
        """Tell whether the pattern matches ``key``, whoever may read that."""
        return bool(self._matches(key))

    def sees(self, kind: str, key: str) -> bool:
        """Tell whether an event of ``kind`` about ``key`` is visible."""
        if kind not in self.kinds or not self._matches(key):
            return False
        # The key of a schema may be a pattern: then every key that it matches must be readable.
        return self.readable.covers(key) if is_pattern(key) else key in self.readable

    def sees_change(self, change: Change) -> bool:
        """Tell whether a change of the log is visible."""
        return self.sees(kind_of(change), change.key)


_MOST_PREFIXES = 16


def listing_prefixes(principal: Principal, pattern: str) -> list[str]:
    """Return prefixes of all keys that match ``pattern`` and that ``principal`` may read.

    A list that goes through these reads hardly any key that it would filter out. That is faster; and
    neither the length of a page nor the time for it tells what others keep.

    Returns:
        Prefixes in code-point order, none of which begins with another.
    """
    wanted = literal_prefix(pattern)
    permitted = {literal_prefix(held) for held in principal.scopes.read.patterns}
    if len(permitted) > _MOST_PREFIXES:
        # Each prefix is at least one question to the store; so many are walked through as one.
        permitted = {commonprefix(sorted(permitted))}  # noqa: RUF071 - the common characters are wanted
    found: list[str] = []
    for prefix in sorted(permitted):
        # The pattern is the narrower one: all that it matches begins with its own prefix.
        if wanted.startswith(prefix):
            return [wanted]
        # Sorted, a prefix comes right before those that begin with it, which it covers.
        if prefix.startswith(wanted) and not (found and prefix.startswith(found[-1])):
            found.append(prefix)
    return found


class Caller(msgspec.Struct):
    """The caller of one request.

    Attributes:
        principal: The identity that it acts as.
        agent: The name that it gives itself (``x-memx-agent``); it never widens what the principal
            may do.
        durability: How safe a write of its is to be when it is answered; None for the server's setting.
        idempotency_key: The name of a write, so that it is applied once however often it is sent.
    """

    principal: Principal
    agent: str | None = None
    idempotency_key: str | None = None
    durability: Durability | None = None

    @property
    def space(self) -> str:
        """The space whose keys the caller sees."""
        return self.principal.space

    @property
    def writer(self) -> str:
        """What entries and changes name as their writer."""
        return self.principal.writer(self.agent)
