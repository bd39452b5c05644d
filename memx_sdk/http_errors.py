"""The errors of memX that are errors of httpx too.

Code written for the first memX catches ``httpx`` exceptions. So an error made from an HTTP answer is also an
``httpx.HTTPStatusError``, with ``.request`` and ``.response``, and one made from a failed exchange is also the
exception that httpx raised. Each class here joins the two; programs catch one of its bases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import httpx

from memx_sdk import errors
from memx_sdk.errors import MemxError


class _HttpError(MemxError):
    def __reduce__(self) -> tuple[Any, ...]:
        # A request and a response cannot be pickled: the copy is the plain error of memX.
        return type(self).__bases__[1], (self.code, self.detail, self.extra)


# For each answer of a server: an error of memX, and the httpx.HTTPStatusError of its status.


class HttpRequestError(_HttpError, errors.RequestError, httpx.HTTPStatusError):
    """`RequestError` over HTTP."""


class HttpInvalidRequestError(_HttpError, errors.InvalidRequestError, httpx.HTTPStatusError):
    """`InvalidRequestError` over HTTP."""


class HttpSchemaViolationError(_HttpError, errors.SchemaViolationError, httpx.HTTPStatusError):
    """`SchemaViolationError` over HTTP."""


class HttpUnauthenticatedError(_HttpError, errors.UnauthenticatedError, httpx.HTTPStatusError):
    """`UnauthenticatedError` over HTTP."""


class HttpForbiddenError(_HttpError, errors.ForbiddenError, httpx.HTTPStatusError):
    """`ForbiddenError` over HTTP."""


class HttpNotFoundError(_HttpError, errors.NotFoundError, httpx.HTTPStatusError):
    """`NotFoundError` over HTTP."""


class HttpConflictError(_HttpError, errors.ConflictError, httpx.HTTPStatusError):
    """`ConflictError` over HTTP."""


class HttpCompactedError(_HttpError, errors.CompactedError, httpx.HTTPStatusError):
    """`CompactedError` over HTTP."""


class HttpDivergedError(_HttpError, errors.DivergedError, httpx.HTTPStatusError):
    """`DivergedError` over HTTP."""


class HttpTooLargeError(_HttpError, errors.TooLargeError, httpx.HTTPStatusError):
    """`TooLargeError` over HTTP."""


class HttpIdempotencyMismatchError(
    _HttpError, errors.IdempotencyMismatchError, httpx.HTTPStatusError
):
    """`IdempotencyMismatchError` over HTTP."""


class HttpTakenOverError(_HttpError, errors.TakenOverError, httpx.HTTPStatusError):
    """`TakenOverError` over HTTP."""


class HttpRateLimitedError(_HttpError, errors.RateLimitedError, httpx.HTTPStatusError):
    """`RateLimitedError` over HTTP."""


class HttpQuotaExceededError(_HttpError, errors.QuotaExceededError, httpx.HTTPStatusError):
    """`QuotaExceededError` over HTTP."""


class HttpServerError(_HttpError, errors.ServerError, httpx.HTTPStatusError):
    """`ServerError` over HTTP."""


class HttpUnavailableError(_HttpError, errors.UnavailableError, httpx.HTTPStatusError):
    """`UnavailableError` over HTTP."""


class HttpBadAnswerError(_HttpError, errors.BadAnswerError, httpx.HTTPStatusError):
    """`BadAnswerError` over HTTP."""


# For each way in which an exchange fails: MemxTimeout or MemxConnectionError, and httpx's exception.


class HttpTimeoutError(_HttpError, errors.MemxTimeout, httpx.TimeoutException):
    """`MemxTimeout` for a timeout that httpx has no narrower class for."""


class HttpConnectTimeoutError(_HttpError, errors.MemxTimeout, httpx.ConnectTimeout):
    """`MemxTimeout` while connecting."""


class HttpReadTimeoutError(_HttpError, errors.MemxTimeout, httpx.ReadTimeout):
    """`MemxTimeout` while waiting for the answer."""


class HttpWriteTimeoutError(_HttpError, errors.MemxTimeout, httpx.WriteTimeout):
    """`MemxTimeout` while sending the request."""


class HttpPoolTimeoutError(_HttpError, errors.MemxTimeout, httpx.PoolTimeout):
    """`MemxTimeout` while waiting for a free connection."""


class HttpTransportError(_HttpError, errors.MemxConnectionError, httpx.TransportError):
    """`MemxConnectionError` for a failure that httpx has no narrower class for."""


class HttpConnectError(_HttpError, errors.MemxConnectionError, httpx.ConnectError):
    """`MemxConnectionError` while connecting."""


class HttpReadError(_HttpError, errors.MemxConnectionError, httpx.ReadError):
    """`MemxConnectionError` while reading the answer."""


class HttpWriteError(_HttpError, errors.MemxConnectionError, httpx.WriteError):
    """`MemxConnectionError` while sending the request."""


class HttpCloseError(_HttpError, errors.MemxConnectionError, httpx.CloseError):
    """`MemxConnectionError` while closing the connection."""


class HttpLocalProtocolError(_HttpError, errors.MemxConnectionError, httpx.LocalProtocolError):
    """`MemxConnectionError` for a request that breaks the rules of HTTP."""


class HttpRemoteProtocolError(_HttpError, errors.MemxConnectionError, httpx.RemoteProtocolError):
    """`MemxConnectionError` for an answer that breaks the rules of HTTP."""


class HttpProxyError(_HttpError, errors.MemxConnectionError, httpx.ProxyError):
    """`MemxConnectionError` for a proxy that does not connect."""


class HttpUnsupportedProtocolError(
    _HttpError, errors.MemxConnectionError, httpx.UnsupportedProtocol
):
    """`MemxConnectionError` for a URL whose scheme is unknown."""


class HttpDecodingError(_HttpError, errors.MemxConnectionError, httpx.DecodingError):
    """`MemxConnectionError` for an answer that cannot be decompressed."""


_STATUS_ERRORS: Final[tuple[type[MemxError], ...]] = (
    HttpRequestError,
    HttpInvalidRequestError,
    HttpSchemaViolationError,
    HttpUnauthenticatedError,
    HttpForbiddenError,
    HttpNotFoundError,
    HttpConflictError,
    HttpCompactedError,
    HttpDivergedError,
    HttpTooLargeError,
    HttpIdempotencyMismatchError,
    HttpTakenOverError,
    HttpRateLimitedError,
    HttpQuotaExceededError,
    HttpServerError,
    HttpUnavailableError,
    HttpBadAnswerError,
)
_EXCHANGE_ERRORS: Final[tuple[type[MemxError], ...]] = (
    HttpTimeoutError,
    HttpConnectTimeoutError,
    HttpReadTimeoutError,
    HttpWriteTimeoutError,
    HttpPoolTimeoutError,
    HttpTransportError,
    HttpConnectError,
    HttpReadError,
    HttpWriteError,
    HttpCloseError,
    HttpLocalProtocolError,
    HttpRemoteProtocolError,
    HttpProxyError,
    HttpUnsupportedProtocolError,
    HttpDecodingError,
)
_BY_MEMX_CLASS: Final[Mapping[type, type[MemxError]]] = {
    kind.__bases__[1]: kind for kind in _STATUS_ERRORS
}
_BY_HTTPX_CLASS: Final[Mapping[type, type[MemxError]]] = {
    kind.__bases__[2]: kind for kind in _EXCHANGE_ERRORS
}


def status_error(error: MemxError, response: httpx.Response) -> MemxError:
    """Return ``error``, which was made from ``response``, as an ``httpx.HTTPStatusError`` too."""
    kind = _BY_MEMX_CLASS[type(error)]
    joined: Any = kind(error.code, error.detail, error.extra)
    joined.response = response
    joined.request = response.request
    return cast("MemxError", joined)


def exchange_error(error: httpx.RequestError, detail: str) -> MemxError:
    """Return what httpx raised as a `MemxTimeout` or `MemxConnectionError` too."""
    # A class that a later httpx adds is known by the nearest of its bases.
    kind = next(
        (_BY_HTTPX_CLASS[base] for base in type(error).__mro__ if base in _BY_HTTPX_CLASS),
        HttpTransportError,
    )
    code = "timeout" if issubclass(kind, errors.MemxTimeout) else "connection"
    joined: Any = kind(code, detail)
    joined.request = error.request
    return cast("MemxError", joined)
