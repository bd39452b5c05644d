"""The runner of the tools of ``memx_sdk.tools`` on a context."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from memx_sdk._async.client import AsyncMemxContext
from memx_sdk.errors import ConflictError, InvalidRequestError, MemxError, NotFoundError
from memx_sdk.tools import arguments as args
from memx_sdk.tools import results
from memx_sdk.tools._async.agent_keys import AsyncAgentKeys
from memx_sdk.tools._async.bounded_reads import AsyncBoundedReads, entry_result
from memx_sdk.tools.budget import (
    ABOUT,
    MAX_CHARACTERS,
    errors_that_fit,
    piece_of,
    results_that_fit,
    size_of,
)
from memx_sdk.tools.catalogue import TOOLS, ToolSpec, permitted_tools
from memx_sdk.tools.explain import explain_bad_arguments, explain_error, lock_is_lost
from memx_sdk.tools.json_value import is_json_text, one_line
from memx_sdk.tools.outcome import ToolOutcome

_LEAST_CHARACTERS = 2000

_IS_TEXT = (
    "The value is a text that holds JSON, and was taken as the text. If you mean the object or list itself, send "
    "it without quotes around it."
)


class AsyncToolRunner:
    """Runs memX tools for a model: checks arguments, returns typed results and errors as text.

    Args:
        context: Whose keys.
        reserved: Whether the tools reach programs' own records too: see ``memx_sdk.collections.RESERVED_PREFIX``.
        max_characters: The budget of an answer, about three times its tokens. What does not fit is left out, and
            the answer says how to get it.

    Raises:
        ValueError: The budget is below 2,000 characters, which no answer would keep to.
    """

    def __init__(
        self,
        context: AsyncMemxContext,
        *,
        reserved: bool = False,
        max_characters: int = MAX_CHARACTERS,
    ) -> None:
        if max_characters < _LEAST_CHARACTERS:
            raise ValueError(f"max_characters must be {_LEAST_CHARACTERS} at least")
        self.context = context
        self._keys = AsyncAgentKeys(context, reserved=reserved)
        self._reads = AsyncBoundedReads(context, self._keys, max_characters)
        self._budget = max_characters - ABOUT
        # Written out and not found by name with ``getattr``: a type checker sees that each exists,
        # and a model cannot reach any other method.
        self._run_by_name: dict[str, Callable[[Any], Awaitable[BaseModel]]] = {
            "memx_get": self._get,
            "memx_list": self._reads.list_keys,
            "memx_set": self._set,
            "memx_update": self._update,
            "memx_delete": self._delete,
            "memx_changes": self._reads.changes,
            "memx_history": self._reads.history,
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

    async def run(
        self,
        name: str,
        arguments: Mapping[str, Any] | args.Arguments,
        *,
        longest_wait: float | None = None,
    ) -> ToolOutcome:
        """Call a tool; whatever goes wrong comes back as an outcome that a model can read.

        Args:
            name: A key of ``TOOLS``.
            arguments: As JSON members, or already as the tool's argument model.
            longest_wait: Seconds after which whoever called stops listening: ``memx_wait`` answers before,
                with a cursor to go on from. None for no such bound.

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
            if isinstance(checked, args.WaitArguments):
                result: BaseModel = await self._reads.wait(checked, longest_wait)
            else:
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
        entry = await self.context.get(given.key, at=given.at)
        result = entry_result(given.key, entry)
        if entry is None:
            return result
        piece = piece_of(entry.value, given.path, given.start, self._budget, tool="memx_get")
        members = result.model_dump(exclude={"value"}, exclude_unset=True)
        return results.EntryResult.model_validate({**members, **piece.members})

    async def _set(self, given: args.SetArguments) -> results.WrittenResult:
        written = await self.context.set(
            given.key,
            given.value,
            if_revision=given.if_revision,
            ttl=given.ttl,
            reason=given.reason,
        )
        result = results.WrittenResult(
            key=given.key, revision=written["revision"], version=written["version"]
        )
        if is_json_text(given.value):
            result.note = _IS_TEXT
        return result

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
        members: dict[str, Any] = {"key": given.key, **entry}
        # The write has happened: where the new value is long, its length stands for it.
        if "value" in members and (characters := size_of(members["value"])) > self._budget:
            del members["value"]
            members["characters"] = characters
            members["note"] = "The new value is long: read it with memx_get."
        return results.WrittenResult.model_validate(members)

    async def _delete(self, given: args.DeleteArguments) -> results.DeleteResult:
        gone = await self.context.delete(
            given.key, if_revision=given.if_revision, reason=given.reason
        )
        return results.DeleteResult(key=given.key, deleted=gone["deleted"])

    async def _get_schema(self, given: args.SchemaArguments) -> results.SchemaResult:
        try:
            found = await self.context.get_schema(given.key)
        except NotFoundError:
            # For a model that asks whether there is a schema, this is an answer and no error.
            return results.SchemaResult(key=given.key, exists=False)
        piece = piece_of(
            found["schema"], given.path, given.start, self._budget, tool="memx_get_schema"
        )
        members = dict(piece.members)
        if "value" in members:
            members["json_schema"] = members.pop("value")
        return results.SchemaResult.model_validate({"key": given.key, "exists": True, **members})

    async def _check(self, given: args.CheckArguments) -> results.CheckResult:
        validation = await self.context.validate(given.key, given.value)
        result = results.CheckResult(
            valid=validation["valid"],
            schema_key=validation.get("schema"),
            errors=errors_that_fit(validation.get("errors", []), self._budget),
        )
        if is_json_text(given.value):
            result.note = _IS_TEXT
        return result

    async def _set_schema(self, given: args.SetSchemaArguments) -> results.SchemaResult:
        await self.context.set_schema(given.key, given.json_schema)
        # Not the schema itself: whoever set it knows it.
        return results.SchemaResult(key=given.key, exists=True)

    async def _transaction(self, given: args.TransactionArguments) -> results.TransactionResult:
        answer = await self.context.txn(
            if_=[condition.model_dump(exclude_unset=True) for condition in given.conditions],
            then=[write.model_dump(exclude_unset=True) for write in given.writes],
            reason=given.reason,
        )
        result = results.TransactionResult(
            # There is no else branch: where a condition does not hold nothing was written.
            done=answer["branch"] == "then",
            revision=answer["revision"],
            results=list(results_that_fit(map(dict, answer["results"]), self._budget)),
        )
        values = [condition.value for condition in given.conditions]
        values += [write.value for write in given.writes]
        if any(map(is_json_text, values)):
            result.note = _IS_TEXT
        return result

    async def _lock(self, given: args.LockArguments) -> results.LockResult:
        if given.token is not None:
            return await self._renew(given.key, given.token, given.ttl)
        written = await self.context.set(
            given.key, {"held": True}, if_revision=0, ttl=given.ttl, reason="lock"
        )
        return results.LockResult(
            key=given.key, token=written["revision"], expires_at=written["expires_at"]
        )

    async def _renew(self, key: str, token: int, ttl: float) -> results.LockResult:
        try:
            # On condition of the token: a lock that has passed on is not prolonged for its next holder.
            entry = await self.context.touch(key, ttl, if_revision=token)
        except (ConflictError, NotFoundError) as error:
            raise lock_is_lost(error) from None
        return results.LockResult(key=key, token=token, expires_at=entry["expires_at"])

    async def _unlock(self, given: args.UnlockArguments) -> results.UnlockResult:
        try:
            gone = await self.context.delete(given.key, if_revision=given.token, reason="unlock")
        except ConflictError:
            # The lock has passed on, or expired and was taken by another: nothing of theirs is
            # touched.
            return results.UnlockResult(key=given.key, released=False)
        return results.UnlockResult(key=given.key, released=gone["deleted"])


def _as_text(result: BaseModel) -> str:
    return one_line(result.model_dump(mode="json", exclude_unset=True))
