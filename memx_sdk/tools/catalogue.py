"""The tools that every framework's adapter offers: one name, one description, one pair of types each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from memx_sdk.tools import arguments as args
from memx_sdk.tools import results


@dataclass(frozen=True)
class ToolSpec:
    """One tool.

    Attributes:
        name: Starts with ``memx_``.
        title: For people.
        description: For the model that chooses the tool.
        arguments: The pydantic model of what it takes.
        result: The pydantic model of what it returns.
        verbs: What the API key must be permitted somewhere, or the tool is not offered.
        read_only: It changes nothing.
        destructive: It may overwrite or remove what others wrote.
        idempotent: Calling it again with the same arguments changes nothing more.
    """

    name: str
    title: str
    description: str
    arguments: type[args.Arguments]
    result: type[BaseModel]
    verbs: frozenset[str]
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False


def _reader(
    name: str, title: str, arguments: type[args.Arguments], result: type[BaseModel], text: str
) -> ToolSpec:
    return ToolSpec(
        name, title, text, arguments, result, frozenset({"read"}), read_only=True, idempotent=True
    )


_ALL = (
    _reader(
        "memx_get",
        "Read a shared key",
        args.GetArguments,
        results.EntryResult,
        "Read one key of the memory that you share with the other agents: its value, its revision and who wrote "
        "it last. A missing key answers exists: false.",
    ),
    _reader(
        "memx_list",
        "List shared keys",
        args.ListArguments,
        results.ListResult,
        "List the shared keys that match a pattern, sorted; with values: true also what they hold. Use it to find "
        "out what the team has stored before you write under a new name.",
    ),
    ToolSpec(
        "memx_set",
        "Write a shared key",
        "Set a shared key to a JSON value, replacing what it held; every agent that watches it is told at once. "
        "To change a part of it, or a counter or list that others change too, use memx_update: it never "
        "loses another agent's change. To replace only what you have read, pass its revision as if_revision.",
        args.SetArguments,
        results.WrittenResult,
        frozenset({"write"}),
        destructive=True,
        idempotent=True,
    ),
    ToolSpec(
        "memx_update",
        "Change a part of a shared key",
        "Change a shared key in place, safely while others do the same: merge members into an object, apply a JSON "
        "patch, increment a number, or append items to a list. A missing key starts empty. "
        "Returns the new value.",
        args.UpdateArguments,
        results.WrittenResult,
        frozenset({"write"}),
        destructive=True,
    ),
    ToolSpec(
        "memx_delete",
        "Delete a shared key",
        "Delete a shared key. Deleting a missing key is no error.",
        args.DeleteArguments,
        results.DeleteResult,
        frozenset({"write"}),
        destructive=True,
        idempotent=True,
    ),
    _reader(
        "memx_wait",
        "Wait for a change",
        args.WaitArguments,
        results.WaitResult,
        "Wait until a key, or any key that matches a pattern, changes, and return what changed. You are told as "
        "soon as it happens, so use this instead of reading a key again and again. When the time runs out it returns "
        "timed_out: true and a cursor to go on waiting from.",
    ),
    _reader(
        "memx_changes",
        "See what changed",
        args.ChangesArguments,
        results.ChangesResult,
        "List the changes of all keys that match a pattern since a cursor, oldest first, each with its writer and "
        "reason. Use it to catch up with what the other agents did.",
    ),
    _reader(
        "memx_history",
        "See a key's history",
        args.HistoryArguments,
        results.HistoryResult,
        "List the changes of one key, newest first: what it held, who wrote it, when and why.",
    ),
    _reader(
        "memx_get_schema",
        "Read a key's schema",
        args.SchemaArguments,
        results.SchemaResult,
        "Read the JSON Schema registered for exactly this key or pattern. memX refuses values that do not fit it.",
    ),
    _reader(
        "memx_check",
        "Check a value",
        args.CheckArguments,
        results.CheckResult,
        "Check whether a value would be accepted for a key, without writing it; says what to mend.",
    ),
    ToolSpec(
        "memx_set_schema",
        "Set a key's schema",
        "Register a JSON Schema for a key or a pattern of keys: from now on memX refuses values that do not fit. "
        "Replaces the schema that was there.",
        args.SetSchemaArguments,
        results.SchemaResult,
        frozenset({"admin"}),
        destructive=True,
        idempotent=True,
    ),
    ToolSpec(
        "memx_transaction",
        "Change several keys at once",
        "Change several shared keys together: if all conditions hold, all writes happen at one revision; otherwise "
        "none does and it returns done: false. Use it where half a change would mislead the others, for example "
        "moving a task from one list to another.",
        args.TransactionArguments,
        results.TransactionResult,
        frozenset({"write"}),
        destructive=True,
    ),
    ToolSpec(
        "memx_lock",
        "Take a lock",
        "Take a lock that only one agent holds at a time: a key that exists while it is held. It frees itself "
        "after ttl seconds. If another holds it you get a conflict that says who; wait with memx_wait.",
        args.LockArguments,
        results.LockResult,
        frozenset({"write"}),
    ),
    ToolSpec(
        "memx_unlock",
        "Free a lock",
        "Free a lock that you took, by its token. Does nothing if it has passed to somebody else.",
        args.UnlockArguments,
        results.UnlockResult,
        frozenset({"write"}),
        idempotent=True,
    ),
)

TOOLS: Mapping[str, ToolSpec] = {spec.name: spec for spec in _ALL}
"""Every tool by name, in the order in which a model should see them."""


def permitted_tools(scopes: Mapping[str, Sequence[Any]]) -> list[ToolSpec]:
    """Select the tools of which an API key can make any use.

    Args:
        scopes: Patterns by verb, as ``whoami()`` reports them.
    """
    # A verb without a pattern permits nothing. Which keys it permits is the server's to say, call
    # by call: a tool is offered where any use of it may succeed.
    held = {verb for verb, patterns in scopes.items() if patterns}
    return [spec for spec in _ALL if spec.verbs <= held]
