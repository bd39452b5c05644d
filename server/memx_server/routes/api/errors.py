"""Errors as responses: one form for all of them, and the handlers that give it to FastAPI's own."""

from __future__ import annotations

import logging
import secrets

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.responses import to_json
from memx_server.routes.asgi import Headers

_log = logging.getLogger("memx_server")


def error_body(error: ProtocolError) -> bytes:
    """The error object's JSON text."""
    return to_json(error.as_dict())


def error_headers(error: ProtocolError) -> Headers:
    """What an HTTP answer says beside the error object."""
    headers: Headers = []
    if error.code == "unauthenticated":
        headers.append(
            (b"www-authenticate", b"Bearer")
        )  # a 401 names a scheme (RFC 9110, section 11.6.1)
    if (wait := error.extra.get("retry_after")) is not None:
        # Whole seconds, at least one: clients take 0 for "at once" (RFC 9110, section 10.2.3).
        headers.append((b"retry-after", b"%d" % max(1, round(wait))))
    if allowed := error.extra.get("allowed"):
        headers.append((b"allow", ", ".join(allowed).encode()))
    return headers


def unexpected(error: BaseException) -> ProtocolError:
    """Log an exception that nobody expected, and return the error that names its entry in the log."""
    # The client gets a mark and no more: the message of an exception may show what the client must not see.
    mark = secrets.token_hex(6)
    _log.error("unexpected error %s", mark, exc_info=error)
    return ProtocolError(
        "internal", f"the server failed; its log says why under the id {mark}", id=mark
    )


def not_found(path: str) -> ProtocolError:
    """The error for a path that nothing answers."""
    return ProtocolError("not_found", f"nothing is at {path}; /docs lists what there is", path=path)


def method_not_allowed(method: str, allowed: list[str]) -> ProtocolError:
    """The error for a method that the path does not take."""
    return ProtocolError(
        "method_not_allowed",
        f"{method} is not possible here; try {' or '.join(allowed)}",
        allowed=allowed,
    )


def install_error_handlers(app: FastAPI) -> None:
    """Give the errors of FastAPI itself the one form of errors."""
    app.add_exception_handler(ProtocolError, _on_protocol_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(Exception, _on_unexpected)


def error_response(error: ProtocolError) -> Response:
    """The HTTP answer that ``error`` becomes in a FastAPI route."""
    headers = {name.decode(): value.decode() for name, value in error_headers(error)}
    return Response(error_body(error), error.status, headers, "application/json")


async def _on_protocol_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProtocolError)
    return error_response(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return error_response(not_found(request.url.path))
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "GET").split(", ")
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": ", ".join([*allowed, "OPTIONS"])})
        return error_response(method_not_allowed(request.method, allowed))
    return error_response(ProtocolError("invalid_request", str(error.detail)))


async def _on_invalid_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(step) for step in first["loc"][1:]) or "body"
    return error_response(ProtocolError("invalid_request", f"{field}: {first['msg']}", field=field))


async def _on_unexpected(_: Request, error: Exception) -> Response:
    return error_response(unexpected(error))
