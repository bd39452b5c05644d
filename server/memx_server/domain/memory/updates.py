"""Updates: changing an entry by what it holds, with the locks that keep updates of a key in line."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import validate_key
from memx_server.domain import responses
from memx_server.domain.access import Caller
from memx_server.domain.evaluator import Evaluator
from memx_server.domain.memory.commits import (
    Committer,
    TransactionDraft,
    idempotency_of,
    milliseconds,
)
from memx_server.domain.memory.writes import condition
from memx_server.domain.request_schemas import UPDATES
from memx_server.domain.requests import (
    AppendOperation,
    Computed,
    IncrementOperation,
    MergeOperation,
    PatchOperation,
    TouchOperation,
    UpdateRequest,
)
from memx_server.settings import Settings
from memx_server.storage.base import (
    Committed,
    Compare,
    Idempotency,
    Put,
    Store,
    StoreUnavailable,
    Touch,
)
from memx_server.storage.encoding import decode_entry, is_unlogged

_LOGGED_NOTE_BYTES = 512
"""Up to this length a new value that the log has too is kept with its idempotency token.

A longer one is read from the log where the update is sent again. A copy of it beside each update would be
the most of what a space keeps for its tokens.
"""

_NOTE_BYTES = 16 * 1024
"""The same for a value that the log does not have (``history: false``)."""

_OPTIONS = ("minimum", "maximum", "cap", "ttl")

_TURN_SECONDS = 8.0
"""How long an update waits for those of the same key before it.

It is not the deadline of a write, which counts from its turn on: a queue of 200 updates is no fault of the
store, and each of them takes a sync of the disk. It is below what the SDK waits for an answer.
"""

_REMEMBERED = 1024
"""Keys whose entries are remembered while nobody updates them."""

_REMEMBERED_BYTES = 4096
"""The longest entry that is remembered so."""


class Updates:
    """The operation ``update``: merge, patch, increment, append and touch.

    Args:
        store: Where the present value is read.
        evaluator: Computes new values.
        commits: Commits them.
        settings: Limits and deadlines.
    """

    def __init__(
        self, store: Store, evaluator: Evaluator, commits: Committer, settings: Settings
    ) -> None:
        self._store = store
        self._evaluator = evaluator
        self._commits = commits
        self._limits = settings.limits
        self._deadline = settings.write_deadline
        self._locks = KeyLocks()

    async def update(self, caller: Caller, request: UpdateRequest) -> bytes:
        """Change an entry by what it holds, however many others do the same.

        Raises:
            ProtocolError: ``invalid_update`` where the update does not fit the present value, and
                whatever a write may be refused for; ``unavailable`` where the deadline passes while
                others update the same key.
        """
        key = validate_key(request.key)
        caller.principal.require_read_and_write(key)
        self._commits.checked_reason(request.reason)
        operation = operation_of(request)
        if isinstance(operation, TouchOperation):
            return await self._touch(caller, request, operation)
        try:
            async with self._locks.hold(caller.space, key, _TURN_SECONDS) as lock:
                return await self._update(caller, request, operation, lock)
        except TimeoutError:
            raise StoreUnavailable("waited too long for the lock of a contended key") from None

    async def _update(
        self, caller: Caller, request: UpdateRequest, operation: Computed, lock: KeyLock
    ) -> bytes:
        """Compute a value and commit it, until a commit finds the entry that it was computed from.

        The lock keeps the other updates of this process away. Writers of other processes, and plain
        sets, can still get in between: then the commit's compare fails, which brings the entry as it
        is now, and the value is computed anew from that.
        """
        idempotency = idempotency_of(caller, "update", request)
        give_up = time.monotonic() + self._deadline
        while time.monotonic() < give_up:
            # A condition is decided by what the store says now. Without one, an entry that is out of
            # date costs no more than the lost commit which tells so.
            if request.if_revision is not None or not lock.is_known:
                lock.note_read((await self._store.read(caller.space, (request.key,)))[0])
            value: bytes | None = None
            try:
                put, base = await self._planned(caller, request, operation, lock.entry)
                value = put.value
                # What the log does not have is kept with the token.
                has_log = put.log_value and not _is_unlogged_by(put, lock.entry)
                noted = _noted(idempotency, put, has_log=has_log)
                outcome = await self._commits.try_commit(
                    TransactionDraft(caller, (put,), (base,), noted)
                )
            except StoreUnavailable:
                raise
            except ProtocolError as refusal:
                # A refusal may rest on a remembered entry that has changed since (a counter below
                # its bound again): only one that rests on a fresh entry is the answer.
                if not lock.is_fresh:
                    lock.forget()
                    continue
                outcome = await self._commits.earlier_answer(caller, idempotency, refusal)
            if isinstance(outcome, Committed):
                return await self._updated(caller, request.key, outcome, value, lock)
            lock.note_read(outcome.entry)
        raise StoreUnavailable("lost every race for a contended key")

    async def _planned(
        self, caller: Caller, request: UpdateRequest, operation: Computed, present: bytes | None
    ) -> tuple[Put, Compare]:
        """Compute the write, and the compare that ties it to what it was computed from."""
        entry = None if present is None else decode_entry(present)
        revision = 0 if entry is None else entry.revision
        if request.if_revision not in (None, revision):
            raise responses.conflict(caller, request.key, present)
        held = None if entry is None else bytes(entry.value)
        value = await self._evaluator.compute(caller.space, operation, held)
        return computed_put(operation, value, request.reason), Compare(request.key, revision)

    async def _updated(
        self, caller: Caller, key: str, committed: Committed, value: bytes | None, lock: KeyLock
    ) -> bytes:
        """Make the answer, and note in the lock what the next update may start from."""
        if committed.replayed_note is not None:
            # The update was applied when it was first sent: what was computed just now is void, and
            # others may have written since.
            value = committed.replayed_note or await self._logged_value(caller, key, committed)
            lock.forget()
        else:
            lock.note_written(responses.new_entry(caller, key, committed, value))
        return responses.updated(caller, key, committed, value)

    async def _logged_value(self, caller: Caller, key: str, committed: Committed) -> bytes | None:
        """Return what an update wrote when it was first sent; None where the log has it no longer."""
        revision = committed.position.revision
        page = await self._store.history(caller.space, key, 1, until=revision)
        return responses.value_of(page.changes[0], revision) if page.changes else None

    async def _touch(
        self, caller: Caller, request: UpdateRequest, operation: TouchOperation
    ) -> bytes:
        key = request.key
        touch = Touch(key, milliseconds(operation.touch))
        idempotency = idempotency_of(caller, "update", request)
        committed = await self._commits.commit(
            TransactionDraft(caller, (touch,), condition(key, request.if_revision), idempotency)
        )
        (entry,) = await self._store.read(caller.space, (key,))
        if entry is None or not committed.written[0].changed:
            raise ProtocolError(
                "not_found", f"there is no entry {key!r} whose expiry could be moved", key=key
            )
        return responses.touched(entry, committed)


def computed_put(operation: Computed, value: bytes, reason: str | None) -> Put:
    """Make the write of a computed value; without a ``ttl`` of its own it keeps the present expiry."""
    return Put(
        operation.key,
        value,
        ttl_ms=milliseconds(operation.ttl),
        keep_expiry=operation.ttl is None,
        log_value=operation.history,
        reason=reason,
        logged=operation.logged,
    )


def _is_unlogged_by(put: Put, present: bytes | None) -> bool:
    """Tell whether a write is one of an unlogged key, which holds ``present``."""
    return put.logged is False if present is None else is_unlogged(present)


def _noted(idempotency: Idempotency | None, put: Put, *, has_log: bool) -> Idempotency | None:
    longest = _LOGGED_NOTE_BYTES if has_log else _NOTE_BYTES
    if idempotency is None or len(put.value) > longest:
        return idempotency
    return replace(idempotency, note=put.value)


def operation_of(request: UpdateRequest) -> Computed | TouchOperation:
    """Return the one operation that an update request is for.

    Raises:
        ProtocolError: ``invalid_request`` unless it has exactly one, with its own options.
    """
    given = [kind for kind in UPDATES if getattr(request, kind) is not UNSET]
    if len(given) != 1:
        raise ProtocolError(
            "invalid_request",
            f"an update takes exactly one of {', '.join(UPDATES)}; this one has "
            + (" and ".join(given) or "none"),
            field=given[1] if given else "merge",
        )
    _check_options(request, given[0])
    return _operation(request)


def _operation(request: UpdateRequest) -> Computed | TouchOperation:
    key = request.key
    if not isinstance(request.touch, UnsetType):
        return TouchOperation(key=key, touch=request.touch)
    operation = _computed(request)
    operation.ttl, operation.history = request.ttl, request.history
    operation.logged = request.logged
    return operation


def _computed(request: UpdateRequest) -> Computed:
    key = request.key
    if not isinstance(request.merge, UnsetType):
        return MergeOperation(key=key, merge=request.merge)
    if not isinstance(request.patch, UnsetType):
        return PatchOperation(key=key, patch=request.patch)
    if not isinstance(request.append, UnsetType):
        return AppendOperation(key=key, append=request.append, cap=request.cap)
    assert not isinstance(request.increment, UnsetType)
    return IncrementOperation(
        key=key,
        increment=request.increment,
        minimum=request.minimum,
        maximum=request.maximum,
    )


def _check_options(request: UpdateRequest, kind: str) -> None:
    misplaced = [
        name
        for name in _OPTIONS
        if getattr(request, name) not in (UNSET, None) and name not in UPDATES[kind]
    ]
    if misplaced:
        raise ProtocolError(
            "invalid_request", f"{misplaced[0]} does not go with {kind}", field=misplaced[0]
        )


class KeyLock:
    """The lock of one key, and what is known of the entry under it.

    Attributes:
        entry: What the key holds (JSON text), as far as is known here.
        is_known: Whether ``entry`` says anything.
        is_fresh: Whether the present holder of the lock got ``entry`` from the store; False where
            the holder before left it, since other processes may have written in between.
        mutex: Locked while one update works on the key.
        users: How many updates hold the lock or wait for it.
    """

    __slots__ = ("entry", "is_fresh", "is_known", "mutex", "users")

    def __init__(self) -> None:
        self.mutex = asyncio.Lock()
        self.users = 0
        self.entry: bytes | None = None
        self.is_known = False
        self.is_fresh = False

    def note_read(self, entry: bytes | None) -> None:
        """Note what the store holds under the key at this moment."""
        self.entry, self.is_known, self.is_fresh = entry, True, True

    def note_written(self, entry: bytes) -> None:
        """Note the entry that the holder has committed, for the next one to start from."""
        self.entry, self.is_known, self.is_fresh = entry, True, False

    def forget(self) -> None:
        """Make the next round, or the next holder, read the store."""
        self.entry, self.is_known, self.is_fresh = None, False, False


class KeyLocks:
    """The locks of the keys that this process is updating, and the entries that updates left.

    Under contention updates of a key wait for each other here, in the order in which they came, and
    not in a storm of lost commits. The entry that an update leaves is remembered for a while: the
    next one starts from it without reading the store. Where another process has written since, the
    commit finds that out and brings the entry, which takes no more round trips than to read first.
    """

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], KeyLock] = {}
        self._remembered: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    @asynccontextmanager
    async def hold(self, space: str, key: str, patience: float) -> AsyncIterator[KeyLock]:
        """Hold the lock of ``key`` for the length of the context.

        Args:
            space: The key's space.
            key: The key.
            patience: Seconds to wait for the lock at the most.

        Raises:
            TimeoutError: The updates before this one took longer.
        """
        name = (space, key)
        lock = self._locks.get(name) or self._create(name)
        # A lock stays in the table while anybody uses it, so that all who come for the key meet.
        lock.users += 1
        try:
            async with asyncio.timeout(patience):
                await lock.mutex.acquire()
        except BaseException:
            self._release(name, lock)
            raise
        try:
            lock.is_fresh = False
            yield lock
        except BaseException:
            # The commit may or may not have happened (a lost reply, a cancelled request).
            lock.forget()
            raise
        finally:
            lock.mutex.release()
            self._release(name, lock)

    def _create(self, name: tuple[str, str]) -> KeyLock:
        lock = self._locks[name] = KeyLock()
        entry = self._remembered.pop(name, None)
        if entry is not None:
            lock.note_written(entry)
        return lock

    def _release(self, name: tuple[str, str], lock: KeyLock) -> None:
        lock.users -= 1
        if lock.users:
            return
        del self._locks[name]
        if lock.entry is not None and len(lock.entry) <= _REMEMBERED_BYTES:
            self._remembered[name] = lock.entry
            if len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
