"""The one table of error codes, for HTTP, WebSocket, SDK exceptions and tools alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STATUS_BY_CODE: Mapping[str, int] = {
    "invalid_request": 400,  # the body, a field or a parameter is missing, unknown or of the wrong type
    "invalid_json": 400,  # the body is no JSON that can be kept exactly
    "invalid_key": 400,
    "invalid_pattern": 400,
    "invalid_cursor": 400,
    "invalid_schema": 400,
    "invalid_value": 400,  # JSON, but not one that can be kept exactly (NaN, 1e999, duplicate names ...)
    "invalid_update": 400,  # an update that does not fit the present value
    "schema_violation": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,  # a request, or a part of it, took too long to arrive
    "conflict": 409,
    "diverged": 409,
    "taken_over": 409,  # a durable subscription has another holder now
    "quota_exceeded": 409,  # there is no room for more: waiting alone makes none, so it is no 429
    "compacted": 410,
    "too_large": 413,
    "unsupported_media_type": 415,
    "idempotency_mismatch": 422,
    "rate_limited": 429,
    "head_too_large": 431,
    "internal": 500,
    "unavailable": 503,
}
"""The HTTP status of each error code. The code, not the status, is what a program should test.

``quota_exceeded`` is at odds with the present state, which its owner can change: 409. It is not about
the size (413) or the pace (429, which HTTP clients send again by themselves) of the request, nor
about who asks (403); and 507 would blame the server.
"""


class ProtocolError(Exception):
    """A request that breaks a rule; carries what the wire's error object says.

    Attributes:
        code: A key of ``STATUS_BY_CODE``.
        detail: What is wrong and what to do next, for a person or a model.
        extra: Further members of the error object (``field``, ``key``, ``entry``, ``errors`` ...).
    """

    def __init__(self, code: str, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.extra = extra

    @property
    def status(self) -> int:
        """The HTTP status that stands for ``code``."""
        return STATUS_BY_CODE[self.code]

    def as_dict(self) -> dict[str, Any]:
        """The error object as it goes over the wire."""
        return {"error": self.code, "detail": self.detail, **self.extra}

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"
