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
        "Read a key of the memory that you share with the other agents: its value, its revision, who wrote it. "
        "Long values come in parts.",
    ),
    _reader(
        "memx_list",
        "List shared keys",
        args.ListArguments,
        results.ListResult,
        "List the shared keys that match a pattern. Look here before you write under a new name.",
    ),
    ToolSpec(
        "memx_set",
        "Write a shared key",
        "Set a shared key to a JSON value. To change a part of what others change too, use memx_update, which loses "
        "no change of theirs; to replace only what you have read, pass its revision as if_revision.",
        args.SetArguments,
        results.WrittenResult,
        frozenset({"write"}),
        destructive=True,
        idempotent=True,
    ),
    ToolSpec(
        "memx_update",
        "Change a part of a shared key",
        "Change a shared key in place, safely while others do: give one of merge, patch, increment, append. A "
        "missing key starts empty.",
        args.UpdateArguments,
        results.WrittenResult,
        frozenset({"write"}),
        destructive=True,
    ),
    ToolSpec(
        "memx_delete",
        "Delete a shared key",
        "Delete a shared key.",
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
        "Wait until a key that matches a pattern changes, instead of reading it again and again. When the time runs "
        "out you get timed_out and a cursor to go on from.",
    ),
    _reader(
        "memx_changes",
        "See what changed",
        args.ChangesArguments,
        results.ChangesResult,
        "Catch up: the changes since a cursor, oldest first, with writers and reasons.",
    ),
    _reader(
        "memx_history",
        "See a key's history",
        args.HistoryArguments,
        results.HistoryResult,
        "See what a key held, who wrote it, when and why; newest first.",
    ),
    _reader(
        "memx_get_schema",
        "Read a key's schema",
        args.SchemaArguments,
        results.SchemaResult,
        "Read the JSON Schema that is set for exactly this key or pattern.",
    ),
    _reader(
        "memx_check",
        "Check a value",
        args.CheckArguments,
        results.CheckResult,
        "Check whether a key would take a value, without writing it.",
    ),
    ToolSpec(
        "memx_set_schema",
        "Set a key's schema",
        "Set the JSON Schema of a key or pattern: values that do not fit are refused from now on.",
        args.SetSchemaArguments,
        results.SchemaResult,
        frozenset({"admin"}),
        destructive=True,
        idempotent=True,
    ),
    ToolSpec(
        "memx_transaction",
        "Change several keys at once",
        "Change several shared keys together: if all conditions hold all writes happen, otherwise none, and done is "
        "false. For what would mislead others when half done.",
        args.TransactionArguments,
        results.TransactionResult,
        frozenset({"write"}),
        destructive=True,
    ),
    ToolSpec(
        "memx_lock",
        "Take a lock",
        "Take a lock that one agent holds at a time: a key of its own. It frees itself after ttl; call again with "
        "its token to keep it. If another holds it, wait with memx_wait.",
        args.LockArguments,
        results.LockResult,
        frozenset({"write"}),
    ),
    ToolSpec(
        "memx_unlock",
        "Free a lock",
        "Free a lock that you took, by its token.",
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
