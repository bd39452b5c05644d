"""memX: shared memory for teams of LLM agents.

`memxContext` is the client for ordinary code, `AsyncMemxContext` the one for coroutines; they have
the same calls.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from memx_sdk._version import __version__ as __version__
from memx_sdk.errors import (
    BadAnswerError,
    CompactedError,
    ConflictError,
    DivergedError,
    ForbiddenError,
    IdempotencyMismatchError,
    InvalidRequestError,
    LockLostError,
    MemxClosedError,
    MemxConnectionError,
    MemxError,
    MemxTimeout,
    ModelError,
    NotFoundError,
    QuotaExceededError,
    RateLimitedError,
    RequestError,
    SchemaViolationError,
    ServerError,
    TakenOverError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from memx_sdk.models import Change, ChangePage, Entry, Reset, TxnResult, Validation, WriteResult

if TYPE_CHECKING:
    from memx_sdk._async.agents.agent import AsyncAgent
    from memx_sdk._async.client import AsyncMemxContext
    from memx_sdk._async.feed.subscription import AsyncSubscription
    from memx_sdk._async.lock import AsyncLock
    from memx_sdk._sync.agents.agent import Agent
    from memx_sdk._sync.client import memxContext
    from memx_sdk._sync.feed.subscription import Subscription
    from memx_sdk._sync.lock import Lock

__all__ = [
    "Agent",
    "AsyncAgent",
    "AsyncLock",
    "AsyncMemxContext",
    "AsyncSubscription",
    "BadAnswerError",
    "Change",
    "ChangePage",
    "CompactedError",
    "ConflictError",
    "DivergedError",
    "Entry",
    "ForbiddenError",
    "IdempotencyMismatchError",
    "InvalidRequestError",
    "Lock",
    "LockLostError",
    "MemxClosedError",
    "MemxConnectionError",
    "MemxError",
    "MemxTimeout",
    "ModelError",
    "NotFoundError",
    "QuotaExceededError",
    "RateLimitedError",
    "RequestError",
    "Reset",
    "SchemaViolationError",
    "ServerError",
    "Subscription",
    "TakenOverError",
    "TooLargeError",
    "TxnResult",
    "UnauthenticatedError",
    "UnavailableError",
    "Validation",
    "WriteResult",
    "memxContext",
]


_HOME = {
    "Agent": "memx_sdk._sync.agents.agent",
    "AsyncAgent": "memx_sdk._async.agents.agent",
    "AsyncLock": "memx_sdk._async.lock",
    "AsyncMemxContext": "memx_sdk._async.client",
    "AsyncSubscription": "memx_sdk._async.feed.subscription",
    "Lock": "memx_sdk._sync.lock",
    "Subscription": "memx_sdk._sync.feed.subscription",
    "memxContext": "memx_sdk._sync.client",
}
"""Names that are imported at first use: HTTP takes a while to load, and the server needs none of it."""


def __getattr__(name: str) -> Any:
    if name in _HOME:
        globals()[name] = getattr(import_module(_HOME[name]), name)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
