"""The Store on SQLite, the embedded default: one file, one process, nothing to install."""

from memx_server.storage.errors import CannotOpen
from memx_server.storage.lockfile import InUse, read_holder
from memx_server.storage.sqlite.store import LOG_MAX_BYTES, LOG_MAX_RECORDS, SqliteStore

__all__ = [
    "LOG_MAX_BYTES",
    "LOG_MAX_RECORDS",
    "CannotOpen",
    "InUse",
    "SqliteStore",
    "read_holder",
]
