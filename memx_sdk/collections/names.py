"""The reserved prefix, and names as parts of keys."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from urllib.parse import quote, unquote

from memx_sdk.protocol.keys import literal_prefix

RESERVED_PREFIX = "memx:"
"""What the keys of programs' own records start with: checkpoints, messages, caches, saved teams.

A program restores objects and conversations from them, so an agent that could write them could put words and state
into another one. The tools of every framework, MCP's resources and briefings leave these keys out unless the
program says otherwise. An API key without them is what keeps everybody else out: the tools are only the first door.
"""

_LONGEST_SEGMENT = 80
_LONGEST_PATH = 320
_LONGEST_NAME = 180
_KEPT_OF_A_LONG_NAME = 96


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


def record_name(name: str) -> str:
    """Write any text as the last part of a record's key; no two texts are written alike.

    Letters, digits and ``_ . - ~ /`` stay, so that names list in their order and a name that begins another is
    written as its beginning; other characters are percent-encoded. Of a name that would get too long for a key the
    beginning stays, and ``^`` and a digest follow.
    """
    # The empty name needs a form of its own: no record's key ends where the prefix of all records does.
    if not name:
        return "~"
    if name == "~":
        return "%7E"
    encoded = quote(name, safe="/", errors="surrogatepass")
    if len(encoded) <= _LONGEST_NAME:
        return encoded
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    return f"{_beginning(encoded)}^{digest}"


def record_names_prefix(prefix: str) -> str:
    """Write what the keys of all records whose names start with ``prefix`` have in common."""
    encoded = quote(prefix, safe="/", errors="surrogatepass")
    return encoded if len(encoded) <= _KEPT_OF_A_LONG_NAME else _beginning(encoded)


def name_in(written: str) -> str | None:
    """Read the name that `record_name` wrote; None for a long one, and for what it cannot have written."""
    if written == "~":
        return ""
    name = unquote(written, errors="surrogatepass")
    return name if record_name(name) == written else None


def _beginning(encoded: str) -> str:
    """Cut an encoded name so that no percent-encoded character is cut in two."""
    beginning = encoded[:_KEPT_OF_A_LONG_NAME]
    start = beginning.rfind("%", _KEPT_OF_A_LONG_NAME - 2)
    return beginning if start < 0 else beginning[:start]
