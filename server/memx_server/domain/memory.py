"""The memory: every operation on entries, schemas and the change log of a space."""

from __future__ import annotations

from memx_server.domain.reads import Reads
from memx_server.domain.schema_desk import SchemaDesk
from memx_server.domain.transactions import Transactions
from memx_server.domain.writes import Writes


class Memory(Reads, Writes, Transactions, SchemaDesk):
    """Serves requests whose shape has been checked; checks what they mean and who may ask for it.

    Every method takes the caller and a request struct, returns JSON text, and raises
    ``ProtocolError``.
    """
