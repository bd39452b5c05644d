"""Text that others wrote, shown so that it can pass for nothing else.

Whatever an agent writes (a key, its name, a value, a reason) may hold a line break that forges a line, an escape
sequence that a terminal obeys, characters that nobody sees, or characters that turn the direction of the text around.
The command line shows such text by these functions alone.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any, Final

_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "AN"})
_ISOLATE, _END_ISOLATE = "\u2068", "\u2069"
"""FIRST STRONG ISOLATE and POP DIRECTIONAL ISOLATE (Unicode Standard Annex 9)."""


def escaped(text: str, *, spaces: bool = False) -> str:
    r"""Return ``text`` on one line, with what nobody sees written as JSON writes it, such as ``\u202e``.

    Args:
        text: What somebody else wrote.
        spaces: Leave spaces other than U+0020 as they are: for text in quotes, where they cannot pass for its end.
    """
    if text.isprintable():
        return text
    # What `str.isprintable` takes for invisible covers controls, format characters such as the
    # marks of direction, surrogates and what is not assigned.
    return "".join(
        char
        if char.isprintable() or (spaces and unicodedata.category(char) == "Zs")
        else _code(char)
        for char in text
    )


def quoted(text: str) -> str:
    """Return ``text`` as one JSON string, so that what stands behind it is surely not of it."""
    return escaped(json.dumps(text, ensure_ascii=False), spaces=True)


def name(text: str) -> str:
    """Return a key or a writer's name: as it is where it is one word, else quoted."""
    # A name with a space could pass for two words of the line, and one with a quote for the quoted
    # form of another.
    if any(char.isspace() or char in "\"'" for char in text):
        return quoted(text)
    return escaped(text)


def one_line_json(value: Any) -> str:
    """Return a value as JSON on one line; what JSON does not know is written as its text."""
    return escaped(json.dumps(value, ensure_ascii=False, default=str), spaces=True)


def isolated(text: str) -> str:
    """Return ``text`` so that right-to-left letters in it do not move what stands beside it on a terminal."""
    # Most text needs no isolates, and they would end up in what people copy from their terminal.
    if text.isascii() or not any(
        unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in text
    ):
        return text
    return f"{_ISOLATE}{text}{_END_ISOLATE}"


def _code(char: str) -> str:
    # Beyond U+FFFF JSON writes two surrogates; what is escaped inside a JSON string stays that string.
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{int.from_bytes(units[at : at + 2]):04x}" for at in range(0, len(units), 2))
