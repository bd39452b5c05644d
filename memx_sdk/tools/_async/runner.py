"""The runner of the tools of ``memx_sdk.tools`` on a context."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from memx_sdk._async.client import AsyncMemxContext
from memx_sdk.errors import ConflictError, InvalidRequestError, MemxError, NotFoundError
from memx_sdk.tools import arguments as args
from memx_sdk.tools import results
from memx_sdk.tools._async.agent_keys import AsyncAgentKeys
from memx_sdk.tools.catalogue import TOOLS, ToolSpec, permitted_tools
from memx_sdk.tools.explain import explain_bad_arguments, explain_error
from memx_sdk.tools.json_value import one_line
from memx_sdk.tools.outcome import ToolOutcome

_LONGEST_POLL = 20.0
"""Seconds of one long poll: short enough for any proxy on the way."""

_MOST_PAGES = 50


class AsyncToolRunner:
    """Runs memX tools for a model: checks arguments, returns typed results and errors as text.

    Args:
        context: Whose keys.
        reserved: Whether the tools reach programs' own records too: see ``memx_sdk.collections.RESERVED_PREFIX``.
    """

    def __init__(self, context: AsyncMemxContext, *, reserved: bool = False) -> None:
        self.context = context
        self._keys = AsyncAgentKeys(context, reserved=reserved)
        # Written out and not found by name with ``getattr``: a type checker sees that each exists,
        # and a model cannot reach any other method.
        self._run_by_name: dict[str, Callable[[Any], Awaitable[BaseModel]]] = {
            "memx_get": self._get,
            "memx_list": self._list,
            "memx_set": self._set,
            "memx_update": self._update,
            "memx_delete": self._delete,
            "memx_wait": self._wait,
            "memx_changes": self._changes,
            "memx_history": self._history,
            "memx_get_schema": self._get_schema,
            "memx_check": self._check,
            "memx_set_schema": self._set_schema,
            "memx_transaction": self._transaction,
            "memx_lock": self._lock,
            "memx_unlock": self._unlock,
        }

    async def permitted(self) -> list[ToolSpec]:
        """Select the tools of which the context's API key can make any use.

        Raises:
            MemxError: The server cannot be reached, or does not know the API key.
        """
        return permitted_tools((await self.context.whoami())["scopes"])

    async def run(self, name: str, arguments: Mapping[str, Any] | args.Arguments) -> ToolOutcome:
        """Call a tool; whatever goes wrong comes back as an outcome that a model can read.

        Args:
            name: A key of ``TOOLS``.
            arguments: As JSON members, or already as the tool's argument model.

        Raises:
            KeyError: There is no such tool.
        """
        try:
            # An unknown name is a mistake of the adapter and no error for the model, so the
            # KeyError is let through.
            checked = self._checked(TOOLS[name], arguments)
        except ValidationError as error:
            text = explain_bad_arguments(name, error)
            return ToolOutcome(text, error=InvalidRequestError("invalid_request", text))
        try:
            # Before the call and for every key that it names, those of conditions too: a compare
            # would tell what a record holds.
            self._keys.check(args.named_keys(checked))
            result = await self._run_by_name[name](checked)
        except MemxError as error:
            return ToolOutcome(explain_error(error, tool=name), error=error)
        return ToolOutcome(_as_text(result), result)

    def _checked(
        self, spec: ToolSpec, arguments: Mapping[str, Any] | args.Arguments
    ) -> args.Arguments:
        if isinstance(arguments, args.Arguments):
            return arguments
        return spec.arguments.model_validate(arguments)

    async def _get(self, given: args.GetArguments) -> results.EntryResult:
        return _entry_result(given.key, await self.context.get(given.key, at=given.at))

    async def _list(self, given: args.ListArguments) -> results.ListResult:
        if not given.values:
            # One more than is wanted tells whether there are more.
            keys = await self._keys.find(given.pattern, given.limit + 1)
            return results.ListResult(keys=keys[: given.limit], more=len(keys) > given.limit)
        found = await self._keys.entries(given.pattern, given.limit + 1)
        entries = [_entry_result(entry["key"], entry) for entry in found[: given.limit]]
        return results.ListResult(
            keys=[entry.key for entry in entries], entries=entries, more=len(found) > given.limit
        )

    async def _set(self, given: args.SetArguments) -> results.WrittenResult:
        written = await self.context.set(
            given.key,
            given.value,
            if_revision=given.if_revision,
            ttl=given.ttl,
            reason=given.reason,
        )
        return results.WrittenResult(
            key=given.key, revision=written["revision"], version=written["version"]
        )

    async def _update(self, given: args.UpdateArguments) -> results.WrittenResult:
        options: dict[str, Any] = {"if_revision": given.if_revision, "reason": given.reason}
        # The arguments have checked that exactly one of the four is given.
        if given.merge is not None:
            entry = await self.context.merge(given.key, given.merge, **options)
        elif given.patch is not None:
            # Unset members are left out, since a null would be a value to add. ``from`` is an
            # alias, being a word of Python.
            operations = [
                operation.model_dump(by_alias=True, exclude_unset=True) for operation in given.patch
            ]
            entry = await self.context.patch(given.key, operations, **options)
        elif given.increment is not None:
            entry = await self.context.increment(
                given.key,
                given.increment,
                minimum=given.minimum,
                maximum=given.maximum,
                **options,
            )
        else:
            entry = await self.context.append(
                given.key, given.append or [], cap=given.cap, **options
            )
        return results.WrittenResult.model_validate({"key": given.key, **entry})

    async def _delete(self, given: args.DeleteArguments) -> results.DeleteResult:
        gone = await self.context.delete(
            given.key, if_revision=given.if_revision, reason=given.reason
        )
        return results.DeleteResult(key=given.key, deleted=gone["deleted"])

    async def _wait(self, given: args.WaitArguments) -> results.WaitResult:
        deadline = time.monotonic() + given.timeout
        # Before the first wait, so that a change between two polls is behind the cursor and is
        # found by the next one.
        cursor = given.since or await self.context.cursor()
        while True:
            wait = max(0.0, min(deadline - time.monotonic(), _LONGEST_POLL))
            page = await self.context.changes(given.pattern, since=cursor, wait=wait)
            # Moved over what the model does not see, too, or the same records of programs would end
            # each poll at once.
            cursor = page.cursor
            changes = self._keys.visible(page.changes)
            if changes or time.monotonic() >= deadline:
                return results.WaitResult(
                    changes=_change_results(changes),
                    cursor=cursor,
                    timed_out=not changes,
                )

    async def _changes(self, given: args.ChangesArguments) -> results.ChangesResult:
        page = await self.context.changes(given.pattern, since=given.since, limit=given.limit)
        changes = self._keys.visible(page.changes)
        # A page of programs' own records alone would show the model nothing, so the next ones are read, up to a bound:
        # after it the model gets the cursor, with more to come.
        pages = 1
        while page.more and not changes and pages < _MOST_PAGES:
            pages += 1
            page = await self.context.changes(given.pattern, since=page.cursor, limit=given.limit)
            changes = self._keys.visible(page.changes)
        return results.ChangesResult(
            changes=_change_results(changes), cursor=page.cursor, more=page.more
        )

    async def _history(self, given: args.HistoryArguments) -> results.HistoryResult:
        changes = await self.context.history(given.key, limit=given.limit)
        return results.HistoryResult(key=given.key, changes=_change_results(changes))

    async def _get_schema(self, given: args.SchemaArguments) -> results.SchemaResult:
        try:
            found = await self.context.get_schema(given.key)
        except NotFoundError:
            # For a model that asks whether there is a schema, this is an answer and no error.
            return results.SchemaResult(key=given.key, exists=False)
        return results.SchemaResult(key=given.key, exists=True, json_schema=found["schema"])

    async def _check(self, given: args.CheckArguments) -> results.CheckResult:
        validation = await self.context.validate(given.key, given.value)
        return results.CheckResult(
            valid=validation["valid"],
            schema_key=validation.get("schema"),
            errors=validation.get("errors", []),
        )

    async def _set_schema(self, given: args.SetSchemaArguments) -> results.SchemaResult:
        await self.context.set_schema(given.key, given.json_schema)
        return results.SchemaResult(key=given.key, exists=True, json_schema=given.json_schema)

    async def _transaction(self, given: args.TransactionArguments) -> results.TransactionResult:
        answer = await self.context.txn(
            if_=[condition.model_dump(exclude_unset=True) for condition in given.conditions],
            then=[write.model_dump(exclude_unset=True) for write in given.writes],
            reason=given.reason,
        )
        return results.TransactionResult(
            # There is no else branch: where a condition does not hold nothing was written.
            done=answer["branch"] == "then",
            revision=answer["revision"],
            results=[dict(result) for result in answer["results"]],
        )

    async def _lock(self, given: args.LockArguments) -> results.LockResult:
        written = await self.context.set(
            given.key, {"held": True}, if_revision=0, ttl=given.ttl, reason="lock"
        )
        return results.LockResult(
            key=given.key, token=written["revision"], expires_at=written["expires_at"]
        )

    async def _unlock(self, given: args.UnlockArguments) -> results.UnlockResult:
        try:
            gone = await self.context.delete(given.key, if_revision=given.token, reason="unlock")
        except ConflictError:
            # The lock has passed on, or expired and was taken by another: nothing of theirs is
            # touched.
            return results.UnlockResult(key=given.key, released=False)
        return results.UnlockResult(key=given.key, released=gone["deleted"])


def _entry_result(key: str, entry: Mapping[str, Any] | None) -> results.EntryResult:
    if entry is None:
        return results.EntryResult(key=key, exists=False)
    return results.EntryResult.model_validate({**entry, "key": key, "exists": True})


def _change_results(changes: Any) -> list[results.ChangeResult]:
    return [results.ChangeResult.model_validate(dict(change)) for change in changes]


def _as_text(result: BaseModel) -> str:
    return one_line(result.model_dump(mode="json", exclude_unset=True))
