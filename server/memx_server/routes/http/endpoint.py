"""The operations over HTTP: a thin layer of plain ASGI in front of the web framework."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.byte_budget import LARGE_RESPONSE
from memx_server.routes.api.decoding import (
    KNOWN_HEAD,
    KnownHead,
    RequestCredentials,
    decode_body,
    decode_query,
    read_headers,
)
from memx_server.routes.api.errors import error_body, error_headers, method_not_allowed
from memx_server.routes.api.gateway import Gateway
from memx_server.routes.api.operation import Call, Operation
from memx_server.routes.asgi import Receive, Scope, Send
from memx_server.routes.http.protocol import DEADLINES
from memx_server.routes.http.response_writing import send_json

_PIECE = 256 * 1024
"""Bytes of a large response that are sent at once; the next piece waits until the client has taken most of them."""


class ClientGone(BaseException):  # no Exception: it is no error that anybody is to be answered
    """The client went away while its request was read."""


def http_operations(operations: Iterable[Operation], gateway: Gateway) -> dict[str, HttpOperations]:
    """Make the endpoint of each path of ``operations``."""
    by_path: dict[str, list[Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, []).append(operation)
    return {path: HttpOperations(found, gateway) for path, found in by_path.items()}


class HttpOperations:
    """Answers the requests for one path of the table of operations.

    Args:
        operations: The operations of the path, by distinct methods.
        gateway: The way in.
    """

    def __init__(self, operations: Sequence[Operation], gateway: Gateway) -> None:
        self._by_method = {operation.method: operation for operation in operations}
        if "GET" in self._by_method:
            # uvicorn leaves the body of the response to a HEAD away.
            self._by_method["HEAD"] = self._by_method["GET"]
        self._allowed = [*self._by_method, "OPTIONS"]
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        operation = self._by_method.get(scope["method"])
        if operation is None:
            await self._answer_other_method(scope["method"], send)
            return
        request = _HttpRequest(self._gateway, operation, scope, receive)
        try:
            (result,) = await self._gateway.run(
                (operation.name,), request.identify, request.run, requests=(request,)
            )
        except ClientGone:
            return
        if isinstance(result, ProtocolError):
            await send_json(send, result.status, error_body(result), error_headers(result))
        elif len(result) <= LARGE_RESPONSE:
            await send_json(send, 200, result)
        else:
            await self._send_large(request.space, result, send)

    async def _send_large(self, space: str, result: bytes, send: Send) -> None:
        """Send a response that counts as long as its client has not taken it."""
        responses = self._gateway.services.responses
        try:
            responses.take(space, len(result))
        except ProtocolError as error:
            await send_json(send, error.status, error_body(error), error_headers(error))
            return
        try:
            await send_json(send, 200, result, piece=_PIECE)
        finally:
            responses.give_back(space, len(result))

    async def _answer_other_method(self, method: str, send: Send) -> None:
        if method != "OPTIONS":
            error = method_not_allowed(method, self._allowed)
            await send_json(send, error.status, error_body(error), error_headers(error))
            return
        allow = (b"allow", ", ".join(self._allowed).encode())
        await send({"type": "http.response.start", "status": 204, "headers": [allow]})
        await send({"type": "http.response.body", "body": b""})


class _HttpRequest:
    """One request on its way through the gateway.

    Attributes:
        request: What it asks for, once that is read; kept only for those who observe.
        space: The caller's space.
    """

    __slots__ = (
        *("_gateway", "_held", "_length", "_operation", "_presented", "_receive", "_scope"),
        *("request", "space"),
    )

    space: str
    _presented: RequestCredentials
    request: Any
    _length: bytes | None

    def __init__(
        self, gateway: Gateway, operation: Operation, scope: Scope, receive: Receive
    ) -> None:
        self._gateway = gateway
        self._operation = operation
        self._scope = scope
        self._receive = receive
        self._held = 0

    def identify(self) -> Awaitable[Call]:
        """Return the caller that the headers name, to be awaited."""
        known: KnownHead | None = self._scope.get(KNOWN_HEAD)
        if known is None:
            self._presented = read_headers(self._scope["headers"])
            self._length = self._presented.content_length
        else:
            self._presented, self._length = known.credentials, known.content_length
        return self._gateway.identify(self._scope, self._presented)

    async def run(self, call: Call, _count: int) -> tuple[bytes]:
        """Read the parameters, and run the operation.

        The body is read only now: the server holds nothing but the head of a request that it refuses before.
        """
        operation = self._operation
        self.space = call.space
        try:
            if operation.method == "GET":
                parameters = decode_query(operation, self._scope["query_string"])
            else:
                parameters = await self._read_parameters(call)
            if self._gateway.is_observed:
                self.request = parameters
            return (await operation.run(call, parameters),)
        finally:
            # The body counts until the operation has ended: by then nothing holds it any more.
            if self._held:
                call.services.bodies.give_back(call.space, self._held)

    async def _read_parameters(self, call: Call) -> Any:
        """Read the parameters of a POST from its body, those of a DELETE from its body or else its query."""
        presented, query = self._presented, self._scope["query_string"]
        limit = call.services.settings.limits.body_bytes
        # The length that is announced saves reading what is too long; the bytes that come are counted all the same.
        if int(self._length or 0) > limit:
            raise _too_long(limit)
        body = await self._read_body(call, limit)
        # Many clients cannot send a DELETE with a body, and some proxies drop it.
        if self._operation.method == "DELETE" and not body:
            return decode_query(self._operation, query)
        _check_content_type(presented.content_type)
        if query:
            raise ProtocolError(
                "invalid_request",
                "this call takes its parameters in the body, none in the query",
                field="query",
            )
        await call.services.evaluator.read(call.space, body)
        return decode_body(self._operation, body)

    async def _read_body(self, call: Call, limit: int) -> bytes:
        """Read the body.

        Raises:
            ProtocolError: ``too_large`` as soon as it passes ``limit`` bytes, ``request_timeout``, ``unavailable``
                where the large requests under way hold too much.
            ClientGone: The client went away.
        """
        # memX's own protocol keeps the deadline of a body by itself, for less than this timeout costs.
        if DEADLINES in self._scope.get("state", ()):
            return await self._read_pieces(call, limit)
        seconds = call.services.settings.body_timeout
        try:
            async with asyncio.timeout(seconds):
                return await self._read_pieces(call, limit)
        except TimeoutError:
            raise ProtocolError(
                "request_timeout",
                f"the body of the request took longer than {seconds:g} seconds to arrive",
                limit="body_seconds",
            ) from None

    async def _read_pieces(self, call: Call, limit: int) -> bytes:
        """Read a body; what one that comes in pieces holds counts until its response is made."""
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            if len(body) > limit:
                raise _too_long(limit)
            return body
        pieces: list[bytes] = []
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece: bytes = message.get("body", b"")
            if self._held + len(piece) > limit:
                raise _too_long(limit)
            # Counted before it is kept. What `take` refuses is dropped with this request.
            call.services.bodies.take(call.space, len(piece))
            self._held += len(piece)
            pieces.append(piece)
            if not message.get("more_body", False):
                return b"".join(pieces)
            message = await self._receive()


def _too_long(limit: int) -> ProtocolError:
    return ProtocolError(
        "too_large",
        f"the request is longer than {limit} bytes",
        field="body",
        limit="body_bytes",
    )


def _check_content_type(content_type: bytes | None) -> None:
    if content_type is None:
        return
    kind = content_type.partition(b";")[0].strip().lower()
    if kind != b"application/json" and not kind.endswith(b"+json"):
        raise ProtocolError(
            "unsupported_media_type",
            "the body is JSON: send it with Content-Type: application/json",
            field="content-type",
        )
