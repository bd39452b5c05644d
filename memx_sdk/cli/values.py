"""Values from the command line, and for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import msgspec
import typer

from memx_sdk.core.values import decode, encode
from memx_sdk.display import escaped, isolated

NEGATIVE_NUMBERS: Final = {"ignore_unknown_options": True}
"""Settings of a command that takes a value: ``-1`` is one, and no option."""


def read_text(argument: str, *, name: str = "VALUE") -> str:
    """Return what ``argument`` stands for: ``-`` the standard input, ``@file`` a file, else itself.

    Raises:
        typer.BadParameter: It cannot be read, or is no UTF-8.
    """
    try:
        if argument == "-":
            # Bytes and not text: the locale of the terminal must not decide how a value is read.
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
        # Only to check. The text itself is what is sent: read and written again, a number could
        # lose digits.
        decode(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{name} is not JSON ({error}). For a text, pass --string or quote it as JSON: "
            f"'\"some text\"'"
        ) from None
    return msgspec.Raw(text.strip().encode())


def compact(value: object) -> str:
    """Write ``value`` as JSON on one line that is safe to show on a terminal."""
    return escaped(encode(value).decode(), spaces=True)


def pretty(text: str) -> str:
    """Write JSON text over several lines that are safe to show on a terminal."""
    # Formatted as text and line by line, so that the breaks of the layout stay and those that a
    # value could bring are escaped.
    lines = msgspec.json.format(text, indent=2).split("\n")
    return "\n".join(isolated(escaped(line, spaces=True)) for line in lines)


printable = escaped
"""What others wrote, on one line of a terminal; see `memx_sdk.display`."""
