"""What adapters share to keep records: the reserved prefix, names as parts of keys, the notice of foreign values."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from urllib.parse import quote

from memx_sdk.protocol.keys import literal_prefix

RESERVED_PREFIX = "memx:"
"""What the keys of programs' own records start with: checkpoints, messages, caches, saved teams.

A program restores objects and conversations from them, so an agent that could write them could put words and state
into another one. The tools of every framework, MCP's resources and briefings leave these keys out unless the
program says otherwise. An API key without them is what keeps everybody else out: the tools are only the first door.
"""

_LONGEST_SEGMENT = 80
_LONGEST_PATH = 320
_MOST_NOTED = 1000


def is_reserved(key_or_pattern: str) -> bool:
    """Whether a key, or whatever a pattern matches, is one of programs' own records."""
    return literal_prefix(key_or_pattern).startswith(RESERVED_PREFIX)


def may_match_reserved(pattern: str) -> bool:
    """Whether a pattern may match programs' own records among others, as ``*`` does."""
    literal = literal_prefix(pattern)
    return literal.startswith(RESERVED_PREFIX) or RESERVED_PREFIX.startswith(literal)


def segment(text: str) -> str:
    """Write any text as a segment of a key; no two texts have the same segment, and none holds a colon.

    Letters, digits and ``_ . -`` stay, other characters are percent-encoded. What would get long becomes
    ``^`` and a digest, which no encoded text starts with.
    """
    encoded = quote(text, safe="", errors="surrogatepass").replace("~", "%7E") or "~"
    if len(encoded) <= _LONGEST_SEGMENT:
        return encoded
    return f"^{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"


def path(parts: Sequence[str]) -> str:
    """Write a sequence of ids so that what starts a sequence also starts its path.

    Each part ends with ``/``. Where the whole would get too long for a key, its end becomes a digest.
    """
    written = ""
    for number, part in enumerate(parts):
        longer = f"{written}{segment(part)}/"
        if len(longer) > _LONGEST_PATH:
            rest = "/".join(segment(p) for p in parts[number:])
            return f"{written}^^{hashlib.sha256(rest.encode()).hexdigest()}/"
        written = longer
    return written


def path_prefix(parts: Sequence[str]) -> str:
    """Write what the path of every sequence that starts with ``parts`` starts with."""
    return path(parts).partition("^^")[0]


class ForeignValues:
    """The notice of values that are none of an adapter's records, each key logged once.

    Keys are open to whoever has an API key for them. What somebody else put among the records counts as not there,
    so that one value breaks no reader; the log says where it is.

    Args:
        log: Where to write.
        noun: What the values should be, for example ``message``.
    """

    def __init__(self, log: logging.Logger, noun: str) -> None:
        self._log = log
        self._noun = noun
        self._noted: set[str] = set()

    def note(self, key: str) -> None:
        """Log that a key holds something else; not again for the same key, nor for ever more keys."""
        if key not in self._noted and len(self._noted) < _MOST_NOTED:
            self._noted.add(key)
            self._log.warning("%r holds no %s, so it counts as not there", key, self._noun)
