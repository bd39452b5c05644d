"""The exceptions of memX, in one tree.

::

    MemxError                        .code .detail .extra
    ├── RequestError                 .status; the server refused the request (4xx)
    │   ├── InvalidRequestError      what cannot be; also found before sending
    │   ├── SchemaViolationError     .key .schema .errors; a schema refuses the value
    │   ├── UnauthenticatedError     no API key was given
    │   ├── ForbiddenError           the API key is unknown or may not do this
    │   ├── NotFoundError            no such schema or path
    │   ├── ConflictError            .entry; another write came first
    │   ├── CompactedError           .cursor; the log no longer reaches back that far
    │   ├── DivergedError            .cursor; the position is from a history that was lost
    │   ├── TooLargeError            a limit of the server, named in .detail
    │   ├── IdempotencyMismatchError the idempotency key was used for another request
    │   ├── TakenOverError           another subscriber holds the durable name now
    │   ├── RateLimitedError         .retry_after; too many requests of one API key
    │   └── QuotaExceededError       no more keys, durable names or subscriptions fit
    ├── ServerError                  .status; the server failed (5xx)
    │   └── UnavailableError         .retry_after; it or its store cannot serve now
    ├── BadAnswerError               .status; what answered is no memX server
    ├── MemxConnectionError          .close_code; no answer. Also a ConnectionError
    ├── MemxTimeout                  no answer, or nothing happened, in time. Also a TimeoutError
    ├── ModelError                   a value does not fit ``model=``. Also a ValueError
    ├── LockLostError                a lock is not, or no longer, held
    └── MemxClosedError              the context or subscription was closed

An error made from an HTTP answer is also an ``httpx.HTTPStatusError``, with ``.request`` and
``.response``; one made from a failed HTTP exchange is also the ``httpx`` exception for it. No
error holds the API key in its text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from memx_sdk.core.vocabulary import in_calls
from memx_sdk.models import Entry
from memx_sdk.protocol.errors import STATUS_BY_CODE


class MemxError(Exception):
    """The root of the tree.

    Attributes:
        code: What went wrong, for a program: a code of ``memx_sdk.protocol.errors``, or
            ``connection``, ``timeout``, ``bad_answer``, ``closed`` for what the client found.
        detail: What went wrong and what to do next, for a person or a model.
        extra: Further members of the server's error object (``field``, ``key``, ``entry`` ...).
    """

    code: str
    detail: str
    extra: dict[str, Any]

    def __init__(self, code: str, detail: str, extra: Mapping[str, Any] | None = None) -> None:
        Exception.__init__(self, code, detail)  # a class mixed in takes other arguments
        self.code = code
        self.detail = detail
        self.extra = dict(extra or {})

    def __str__(self) -> str:
        # Not ``extra``: it may hold a value, which does not belong into every log.
        return f"{self.code}: {self.detail}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code!r}, {self.detail!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are pickled between processes, and the default way would lose ``extra``.
        return type(self), (self.code, self.detail, self.extra)


class _AnsweredError(MemxError):
    """An error that came with a status."""

    @property
    def status(self) -> int:
        """The HTTP status of the answer, or the one that stands for its code on a WebSocket."""
        # A WebSocket brings a code and no status, and programs that look at one find the same on
        # either transport.
        return int(self.extra.get("status") or STATUS_BY_CODE.get(self.code, 500))

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asks to wait; None where it did not say."""
        seconds = self.extra.get("retry_after")
        return None if seconds is None else float(seconds)


class RequestError(_AnsweredError):
    """The server refused the request; sending it again unchanged will not help."""


class InvalidRequestError(RequestError):
    """A key, pattern, cursor, value, field or update that cannot be."""


class SchemaViolationError(RequestError):
    """The schema that governs the key refuses the value."""

    @property
    def key(self) -> str | None:
        """The key that was to be written."""
        return self.extra.get("key")

    @property
    def schema(self) -> str | None:
        """The key or pattern whose schema refused."""
        return self.extra.get("schema")

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The first faults, each with ``path``, ``rule``, ``expected``, ``found``, ``message``."""
        return list(self.extra.get("errors") or ())


class UnauthenticatedError(RequestError):
    """The request carried no API key."""


class ForbiddenError(RequestError):
    """The API key is unknown, or its scopes do not allow this."""


class NotFoundError(RequestError):
    """There is no such thing: no schema under exactly this key, no such path."""


class ConflictError(RequestError):
    """The entry no longer has the expected revision."""

    @property
    def entry(self) -> Entry | None:
        """What the key holds now; None if nothing, or if the API key may not read it."""
        entry = self.extra.get("entry")
        return None if entry is None else Entry(entry)


class _LogGapError(RequestError):
    @property
    def cursor(self) -> str | None:
        """Where to go on from, after reading the present state."""
        return self.extra.get("cursor")


class CompactedError(_LogGapError):
    """The log or the key's history no longer reaches back that far."""


class DivergedError(_LogGapError):
    """The position belongs to a history that was lost, or to another space."""


class TooLargeError(RequestError):
    """A limit of the server is exceeded; the detail names it."""


class IdempotencyMismatchError(RequestError):
    """The idempotency key was used before, for another request."""


class TakenOverError(RequestError):
    """Another subscriber has taken the durable name over; this one's turn is over."""


class RateLimitedError(RequestError):
    """The API key made too many requests; ``retry_after`` says when to come again."""


class QuotaExceededError(RequestError):
    """The quota of keys, of durable names or of subscriptions is used up.

    The detail says which, how many there may be and how to free some.
    """


class ServerError(_AnsweredError):
    """The server failed."""


class UnavailableError(ServerError):
    """The server or its store cannot serve now; ``retry_after`` says when to come again."""


class BadAnswerError(_AnsweredError):
    """What answered is no memX server: a proxy's page, a redirect, no JSON."""


class MemxConnectionError(MemxError, ConnectionError):
    """There was no answer: the connection was refused, reset or closed."""

    @property
    def close_code(self) -> int | None:
        """The code that a WebSocket was closed with."""
        return self.extra.get("close_code")


class MemxTimeout(MemxError, TimeoutError):  # noqa: N818 - a published name, beside TimeoutError
    """There was no answer, or what was waited for did not happen, in time."""


class ModelError(MemxError, ValueError):
    """A stored value does not fit the model that it was to be read as."""


class LockLostError(MemxError):
    """The lock is not held, or was lost: its holder gave no sign of life for too long."""


class MemxClosedError(MemxError):
    """The context or subscription was closed."""


_CLASS_BY_CODE: Final[Mapping[str, type[MemxError]]] = {
    "schema_violation": SchemaViolationError,
    "unauthenticated": UnauthenticatedError,
    "forbidden": ForbiddenError,
    "not_found": NotFoundError,
    "conflict": ConflictError,
    "compacted": CompactedError,
    "diverged": DivergedError,
    "too_large": TooLargeError,
    "head_too_large": TooLargeError,
    "request_timeout": RequestError,
    "idempotency_mismatch": IdempotencyMismatchError,
    "taken_over": TakenOverError,
    "rate_limited": RateLimitedError,
    "quota_exceeded": QuotaExceededError,
    "internal": ServerError,
    "unavailable": UnavailableError,
    "connection": MemxConnectionError,
    "timeout": MemxTimeout,
    "bad_answer": BadAnswerError,
    "model_mismatch": ModelError,
    "closed": MemxClosedError,
}

_CODE_BY_STATUS: Final[Mapping[int, str]] = {
    400: "invalid_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    410: "compacted",
    413: "too_large",
    429: "rate_limited",
    502: "unavailable",
    503: "unavailable",
    504: "unavailable",
}


def error_class(code: str) -> type[MemxError]:
    """Return the class for ``code``, also for one that this version does not know."""
    # A code of the table without a class of its own says that the request cannot be. A newer server
    # may have codes that are not in the table.
    if known := _CLASS_BY_CODE.get(code):
        return known
    if code in STATUS_BY_CODE:
        return InvalidRequestError
    return RequestError


def error_from(answer: Mapping[str, Any], *, status: int | None = None) -> MemxError:
    """Make the exception for an error object as it came over the wire.

    Args:
        answer: ``{"error": code, "detail": text, ...}``, or the first memX's ``{"detail": text}``.
        status: The HTTP status it came with, if any.
    """
    code = answer.get("error")
    # The first memX's server, FastAPI's own errors and proxies have a status only.
    if not isinstance(code, str):
        code = _CODE_BY_STATUS.get(status or 0, "internal" if (status or 0) >= 500 else "refused")
    detail = answer.get("detail")
    # FastAPI's own detail is a list.
    # Routes are the server's words for what this program has calls for.
    text = (
        in_calls(detail) if isinstance(detail, str) else f"the server gave no detail ({detail!r})"
    )
    extra = {name: answer[name] for name in answer if name not in ("error", "detail", "ok")}
    if status is not None:
        extra["status"] = status
    kind = error_class(code)
    # A code that is unknown here with a status of a failure: to call it refused would keep callers
    # from trying again.
    if kind is RequestError and extra.get("status", 400) >= 500:
        kind = ServerError
    return kind(code, text, extra)
