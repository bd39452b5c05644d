"""Values from the command line, and for it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import msgspec
import typer

from memx_sdk.core.values import decode, encode

_OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters but the line feed, line separators, and what turns the text around."""


def read_text(argument: str, *, name: str = "VALUE") -> str:
    """Return what ``argument`` stands for: ``-`` the standard input, ``@file`` a file, else itself.

    Raises:
        typer.BadParameter: It cannot be read, or is no UTF-8.
    """
    try:
        if argument == "-":
            return sys.stdin.buffer.read().decode()
        if argument.startswith("@"):
            return Path(argument[1:]).read_bytes().decode()
    except OSError as error:
        reason = error.strerror or str(error)
        raise typer.BadParameter(f"{name}: cannot read {argument[1:]!r}: {reason}") from None
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{name} is not UTF-8: {error}") from None
    return argument


def read_value(argument: str, *, as_string: bool = False, name: str = "VALUE") -> msgspec.Raw:
    """Return the JSON text that ``argument`` stands for, unchanged, so that no number is rounded.

    Args:
        argument: As for ``read_text``.
        as_string: Take the text as it is for a JSON string.
        name: What to call it in an error.

    Raises:
        typer.BadParameter: It is no JSON.
    """
    text = read_text(argument, name=name)
    if as_string:
        # A file or a pipe ends its last line; the string meant is the text without it.
        return msgspec.Raw(encode(text if text is argument else text.removesuffix("\n")))
    try:
        decode(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{name} is not JSON ({error}). For a text, pass --string or quote it as JSON: "
            f"'\"some text\"'"
        ) from None
    return msgspec.Raw(text.strip().encode())


def printable(text: str) -> str:
    """Return ``text`` with what a terminal would obey, not show, escaped: others wrote it."""
    return _OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def compact(value: object) -> str:
    """Write ``value`` as JSON on one line that is safe to show on a terminal."""
    return printable(encode(value).decode())
