"""Errors of Redis, sorted by what they mean for a caller."""

from __future__ import annotations

import re

from hiredis import ReplyError

from memx_server.storage.base import StoreFull, StoreUnavailable

_FIRST_WORD = re.compile(r"(?:^|: -)(?!ERR )([A-Z]+) ")
"""What names an error; Redis 6.2 wraps those of a command that a script ran."""

_DENIED = ("NOPERM", "The user executing the script can't", "ACL failure in script")
"""What Redis says of a right that its user lacks: outside of scripts; inside, up to 7.0 and since."""

_NOT_LOCAL = "non local key"
"""What Redis says of a key that a script may not use as its slot is moving or has moved."""

WRONG_SERVER = frozenset({"READONLY", "MASTERDOWN"})
"""First words of errors of a server that is no longer the one to talk to."""


class RedisDenied(StoreUnavailable):
    """The user of Redis that memX introduces itself as lacks a right."""

    DETAIL = (
        "Redis, the store behind memX, denies memX's user a right that it needs; the server's log "
        "and `memx doctor` name it"
    )


class RedisCannotSave(StoreUnavailable):
    """Redis refuses writes since it could not write to its disk, or has too few replicas."""

    DETAIL = (
        "Redis, the store behind memX, refuses writes: its disk may be full, or it has too few replicas; "
        "its log tells more. Send the request again later"
    )


class SlotMoving(StoreUnavailable):
    """The slot of the space is on its way from one server of the cluster to another."""

    DETAIL = (
        "the cluster is moving this space to another of its servers; until it has arrived, which takes "
        "seconds as a rule, writes that make a key have to wait. Send the request again"
    )


_MEANING: dict[str, type[StoreUnavailable]] = {
    "OOM": StoreFull,
    "MISCONF": RedisCannotSave,
    "NOREPLICAS": RedisCannotSave,
    "NOPERM": RedisDenied,
    "TRYAGAIN": SlotMoving,
    "LOADING": StoreUnavailable,
    "BUSY": StoreUnavailable,
    "UNKILLABLE": StoreUnavailable,
    "READONLY": StoreUnavailable,
    "MASTERDOWN": StoreUnavailable,
    "CLUSTERDOWN": StoreUnavailable,
    "NOAUTH": StoreUnavailable,
    "WRONGPASS": StoreUnavailable,
}
"""Errors that lie in the state of the server and not in the command, by their first word."""


def first_word(error: Exception) -> str:
    """The word that names an error of Redis; empty for one without."""
    found = _FIRST_WORD.search(str(error))
    return found[1] if found else ""


def fault_of(error: Exception) -> Exception:
    """Turn an error that lies in the state of the server into ``StoreUnavailable``; return others as they are."""
    if not isinstance(error, ReplyError):
        return error
    text = str(error)
    if any(words in text for words in _DENIED):
        return RedisDenied(text)
    if _NOT_LOCAL in text:
        return SlotMoving(text)
    meaning = _MEANING.get(first_word(error))
    return error if meaning is None else meaning(text)


def is_log_above_head(error: Exception) -> bool:
    """Whether the commit script says that the log ends above the head of the space (``lua/repair.lua``)."""
    return isinstance(error, ReplyError) and (
        "LOGABOVE" in str(error) or "equal or smaller than the target stream" in str(error)
    )
