"""The memory: every operation on entries, schemas and the change log of a space."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain import requests
from memx_server.domain.access import Caller
from memx_server.domain.evaluator import Evaluator
from memx_server.domain.memory.commits import Committer
from memx_server.domain.memory.listing import KeyListing
from memx_server.domain.memory.lists import EntryLists
from memx_server.domain.memory.pattern_deletes import PatternDeletes
from memx_server.domain.memory.reads import ChangesPage, EntryReads
from memx_server.domain.memory.scan import EntryScan
from memx_server.domain.memory.transactions import Transactions
from memx_server.domain.memory.updates import Updates
from memx_server.domain.memory.writes import EntryWrites
from memx_server.domain.schema.cache import SchemaCache
from memx_server.domain.schema.registry import SchemaRegistry
from memx_server.settings import Settings
from memx_server.storage.base import Store


class Memory:
    """The operations as the routes call them, each handed on to the part that does it.

    A request that arrives here has the right form: its members are there and of the right types.
    What they mean, and whether the caller may ask for it, is checked by the parts. Each operation
    takes the caller and a request struct, returns JSON text, and raises ``ProtocolError``. The page
    of ``changes`` is not rendered yet, since a long poll has to look at it first.

    Args:
        store: Where everything is kept.
        schemas: The schemas of the spaces in use.
        evaluator: Validates values and computes new ones.
        settings: Limits and deadlines.
    """

    def __init__(
        self, store: Store, schemas: SchemaCache, evaluator: Evaluator, settings: Settings
    ) -> None:
        commits = Committer(store, schemas, evaluator, settings)
        listing = KeyListing(store, settings.limits)
        self._reads = EntryReads(store, settings.limits)
        self._lists = EntryLists(
            listing, EntryScan(store, evaluator, settings.limits), settings.limits
        )
        self._writes = EntryWrites(commits)
        self._pattern_deletes = PatternDeletes(listing, commits)
        self._updates = Updates(store, evaluator, commits, settings)
        self._transactions = Transactions(store, evaluator, commits, settings)
        self._schemas = SchemaRegistry(schemas, evaluator, commits, settings.limits)

    def get(self, caller: Caller, request: requests.GetRequest) -> Awaitable[bytes]:
        """Read an entry; ``null`` where there is none."""
        return self._reads.get(caller, request)

    def get_each(
        self, caller: Caller, keys: Sequence[str]
    ) -> Awaitable[list[bytes | ProtocolError]]:
        """Read entries of one moment; a key that may not be read gets an error of its own."""
        return self._reads.get_each(caller, keys)

    def mget(self, caller: Caller, request: requests.MgetRequest) -> Awaitable[bytes]:
        """Read several entries of one moment, and a cursor that misses nothing after it."""
        return self._reads.mget(caller, request)

    def keys(self, caller: Caller, request: requests.KeysRequest) -> Awaitable[bytes]:
        """List the readable keys (or whole entries) that match a pattern, a page at a time."""
        return self._lists.keys(caller, request)

    def history(self, caller: Caller, request: requests.HistoryRequest) -> Awaitable[bytes]:
        """Read the changes of one key, newest first."""
        return self._reads.history(caller, request)

    def changes(self, caller: Caller, request: requests.ChangesRequest) -> Awaitable[ChangesPage]:
        """Read what has changed after a cursor, and the cursor to go on from."""
        return self._reads.changes(caller, request)

    def set(self, caller: Caller, request: requests.SetRequest) -> Awaitable[bytes]:
        """Set an entry; without ``ttl`` it never expires."""
        return self._writes.set(caller, request)

    def delete(self, caller: Caller, request: requests.DeleteRequest) -> Awaitable[bytes]:
        """Remove an entry, or a number of those that match a pattern."""
        if request.pattern is not None:
            return self._pattern_deletes.delete(caller, request.pattern, request)
        return self._writes.delete(caller, request)

    def write_each(
        self, writes: Sequence[tuple[Caller, requests.SetRequest | requests.DeleteRequest]]
    ) -> Awaitable[list[bytes | ProtocolError]]:
        """Set and delete entries of one space, in this order, each for itself."""
        return self._writes.write_each(writes)

    def update(self, caller: Caller, request: requests.UpdateRequest) -> Awaitable[bytes]:
        """Change an entry by what it holds, however many others do the same."""
        return self._updates.update(caller, request)

    def txn(self, caller: Caller, request: requests.TxnRequest) -> Awaitable[bytes]:
        """Compare, then run one of two branches, all or nothing."""
        return self._transactions.txn(caller, request)

    def validate(self, caller: Caller, request: requests.ValidateRequest) -> Awaitable[bytes]:
        """Try a value against the schema of its key; nothing is written."""
        return self._schemas.validate(caller, request)

    def set_schema(self, caller: Caller, request: requests.SetSchemaRequest) -> Awaitable[bytes]:
        """Register a schema; it holds for every write that commits after it."""
        return self._schemas.set_schema(caller, request)

    def get_schema(self, caller: Caller, request: requests.SchemaRequest) -> Awaitable[bytes]:
        """Read the schema of exactly this key or pattern."""
        return self._schemas.get_schema(caller, request)

    def delete_schema(self, caller: Caller, request: requests.SchemaRequest) -> Awaitable[bytes]:
        """Remove the schema of exactly this key or pattern."""
        return self._schemas.delete_schema(caller, request)

    def schemas(self, caller: Caller, request: requests.EmptyRequest) -> Awaitable[bytes]:
        """List the schemas that the caller may see."""
        return self._schemas.schemas(caller, request)
