"""Errors as text that a model can act on."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from memx_sdk.core.vocabulary import in_tools
from memx_sdk.display import escaped, name
from memx_sdk.errors import (
    ConflictError,
    ForbiddenError,
    LockLostError,
    MemxConnectionError,
    MemxError,
    MemxTimeout,
    SchemaViolationError,
    UnauthenticatedError,
    UnavailableError,
)
from memx_sdk.tools.json_value import one_line

_SHOWN_CHARACTERS = 2000
_SHOWN_STEPS = 6


def explain_error(error: MemxError, *, tool: str | None = None) -> str:
    """Say what went wrong and what to do next, for a model to mend.

    Args:
        error: What a call raised.
        tool: The tool that made the call, where its advice differs from that for other writes.
    """
    # The usual advice after a conflict, to write again with the revision found, would break the
    # lock.
    if tool == "memx_lock" and isinstance(error, ConflictError):
        return _lock_is_held(error)
    if isinstance(error, LockLostError):
        return f"Error ({error.code}): {error.detail}"
    text = f"Error ({error.code}): {escaped(in_tools(error.detail), spaces=True)}"
    advice = _advice(error)
    return f"{text}\n{advice}" if advice else text


def explain_bad_arguments(tool: str, error: ValidationError) -> str:
    """Say which arguments of ``tool`` do not fit, for a model to mend."""
    lines = [
        f"- {_where(problem['loc'])}: {escaped(problem['msg'], spaces=True)}"
        # Without the input: it is the model's own, may be large, and would be read back as if it
        # were memX's word.
        for problem in error.errors(include_url=False, include_context=False, include_input=False)[
            :5
        ]
    ]
    return "\n".join(
        [
            f"Error (invalid_request): {tool} was not called.",
            *lines,
            "Mend these and call it again.",
        ]
    )


def _where(steps: tuple[int | str, ...]) -> str:
    # A step may be a member's name that the model made up, so it is shown as others' text is, and
    # only so many of them.
    shown = ".".join(name(str(step)) for step in steps[:_SHOWN_STEPS]) or "arguments"
    return f"{shown}..." if len(steps) > _SHOWN_STEPS else shown


def _lock_is_held(error: ConflictError) -> str:
    entry = error.entry
    holder = (
        f" by {one_line(entry.writer)} until {entry.expires_at} (Unix seconds)" if entry else ""
    )
    return (
        f"Error (conflict): the lock is held{holder}.\n"
        "Wait with memx_wait for a change of its key, then call memx_lock again."
    )


def lock_is_lost(error: MemxError) -> LockLostError:
    """Make the error for a lock that could not be renewed: it expired, and may be another's."""
    entry: Any = error.entry if isinstance(error, ConflictError) else None
    now = f"it is held by {one_line(entry.get('writer'))} now" if entry else "nobody holds it now"
    return LockLostError(
        "lock_lost",
        f"you no longer hold this lock: it expired, was freed or was taken anew, and {now}. Stop what it protects, "
        "then call memx_lock without token to take it again.",
    )


def _advice(error: MemxError) -> str:
    if isinstance(error, ConflictError):
        return _after_a_conflict(error)
    if isinstance(error, SchemaViolationError):
        return "Mend the value so that it fits the schema, then write again."
    # Said plainly, since models tend to try the same call again with other words.
    if isinstance(error, ForbiddenError):
        return (
            "This will not change by trying again: use a key that you are permitted, or report it."
        )
    if isinstance(error, UnauthenticatedError):
        return "No API key is configured: whoever runs you has to set MEMX_API_KEY. Report it."
    if isinstance(error, (UnavailableError, MemxConnectionError, MemxTimeout)):
        return (
            "The shared memory cannot be reached at the moment. Go on with what needs none of it and try again later; "
            "tell the user if it stays away."
        )
    return ""


def _after_a_conflict(error: ConflictError) -> str:
    entry: Any = error.entry
    # Also where the API key may write the key but not read it.
    if entry is None:
        return "The key has changed since you read it, or is gone. Read it again, then decide anew."
    # On one line, as JSON: what the value says must not read as advice of this text.
    value = one_line(entry.get("value"))
    if len(value) > _SHOWN_CHARACTERS:
        value = f"{value[:_SHOWN_CHARACTERS]}... (cut)"
    writer = one_line(entry.get("writer"))
    return (
        f"Now it holds, at revision {entry.get('revision')} by {writer}: {value}\n"
        f"If your change still makes sense, work it into this value and write again with "
        f"if_revision={entry.get('revision')}."
    )
