"""Ids of other systems as parts of keys: none is refused, and no two become one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from urllib.parse import quote

_LONGEST_SEGMENT = 80
_LONGEST_PATH = 320


def segment(text: str) -> str:
    """Write any text as a segment of a key.

    Letters, digits and ``_ . -`` stay, other characters are percent-encoded. What would get long becomes
    ``^`` and a digest, which no encoded text starts with.
    """
    encoded = quote(text, safe="", errors="surrogatepass").replace("~", "%7E") or "~"
    if len(encoded) <= _LONGEST_SEGMENT:
        return encoded
    return f"^{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"


def path(parts: Sequence[str]) -> str:
    """Write a sequence of ids so that what starts a sequence also starts its path.

    Each part ends with ``/``. Where the whole would get too long for a key, its tail becomes a digest.
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
