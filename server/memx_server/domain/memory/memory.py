"""The memory: every operation on entries, schemas and the change log of a space."""

from __future__ import annotations

from memx_server.domain.memory.reads import EntryReads
from memx_server.domain.memory.transactions import Transactions
from memx_server.domain.memory.writes import EntryWrites
from memx_server.domain.schema.registry import SchemaRegistry


class Memory(EntryReads, EntryWrites, Transactions, SchemaRegistry):
    """Serves requests whose shape has been checked; checks what they mean and who may ask for it.

    Every method takes the caller and a request struct, returns JSON text, and raises
    ``ProtocolError``.
    """
