"""The operations over HTTP: a thin layer of plain ASGI in front of the web framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from time import perf_counter
from typing import Any

from memx_sdk.protocol.errors import ProtocolError
from memx_server.routes.api.credentials import RequestCredentials, read_headers
from memx_server.routes.api.decoding import decode_body, decode_query
from memx_server.routes.api.errors import (
    Headers,
    error_body,
    error_headers,
    method_not_allowed,
    unexpected,
)
from memx_server.routes.api.operation import Call, Operation
from memx_server.services import Services

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_JSON = (b"content-type", b"application/json")


class ClientGone(Exception):  # noqa: N818 - it is no error: the client left before it had sent all
    """The client went away while its request was read."""


def http_operations(
    operations: Iterable[Operation], services: Services
) -> dict[str, HttpOperations]:
    """Make what answers each path of ``operations``."""
    by_path: dict[str, list[Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, []).append(operation)
    return {path: HttpOperations(found, services) for path, found in by_path.items()}


class HttpOperations:
    """Answers the requests for one path of the table."""

    def __init__(self, operations: Sequence[Operation], services: Services) -> None:
        self._by_method = {operation.method: operation for operation in operations}
        if "GET" in self._by_method:
            self._by_method["HEAD"] = self._by_method["GET"]
        self._allowed = [*self._by_method, "OPTIONS"]
        self._services = services
        self._body_limit = services.settings.limits.body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        begun, name, outcome = perf_counter(), "", "client_gone"
        try:
            operation = self._by_method.get(scope["method"])
            if operation is None:
                await self._other_method(scope["method"], send)
                return
            name = operation.name
            answer = await self._answer(operation, scope, receive)
        except ProtocolError as error:
            outcome = error.code
            await send_json(send, error.status, error_body(error), error_headers(error))
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - nobody else is there to turn it into an answer
            outcome = "internal"
            hidden = unexpected(error)
            await send_json(send, hidden.status, error_body(hidden))
        else:
            outcome = "ok"
            await send_json(send, 200, answer)
        finally:
            if name:
                self._services.requests.count(name, outcome, perf_counter() - begun)

    async def _answer(self, operation: Operation, scope: Scope, receive: Receive) -> bytes:
        presented = read_headers(scope["headers"])
        services = self._services
        principal = await services.authenticator.authenticate(presented.credential)
        if services.rates is not None:
            await services.rates.admit(principal)
        query: bytes = scope["query_string"]
        if operation.method == "GET":
            request = decode_query(operation, query)
        else:
            request = await self._decode(operation, presented, query, receive)
        call = Call(principal, presented.agent, presented.idempotency_key, services=services)
        services.presence.seen(call)
        return await operation.run(call, request)

    async def _decode(
        self, operation: Operation, presented: RequestCredentials, query: bytes, receive: Receive
    ) -> Any:
        if int(presented.content_length or 0) > self._body_limit:
            raise _too_long(self._body_limit)
        body = await read_body(receive, self._body_limit)
        if operation.method == "DELETE" and not body:
            return decode_query(operation, query)
        _check_content_type(presented.content_type)
        if query:
            raise ProtocolError(
                "invalid_request",
                "this call takes its parameters in the body, none in the query",
                field="query",
            )
        return decode_body(operation, body)

    async def _other_method(self, method: str, send: Send) -> None:
        if method != "OPTIONS":
            raise method_not_allowed(method, self._allowed)
        await send({"type": "http.response.start", "status": 204, "headers": [self._allow()]})
        await send({"type": "http.response.body", "body": b""})

    def _allow(self) -> tuple[bytes, bytes]:
        return (b"allow", ", ".join(self._allowed).encode())


async def read_body(receive: Receive, limit: int) -> bytes:
    """Read a request's body.

    Raises:
        ProtocolError: ``too_large`` as soon as it passes ``limit`` bytes.
        ClientGone: The client went away.
    """
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if size > limit:
            raise _too_long(limit)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def send_json(send: Send, status: int, body: bytes, headers: Headers | None = None) -> None:
    """Send a whole answer."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [_JSON, (b"content-length", b"%d" % len(body)), *(headers or ())],
        }
    )
    await send({"type": "http.response.body", "body": body})


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
