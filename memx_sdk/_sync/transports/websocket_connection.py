# Generated from memx_sdk/_async/transports/websocket_connection.py by tools/unasync.py; change that file, not this one.
"""WebSockets to a memX server, by the websockets library."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from websockets.sync.client import connect
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException

from memx_sdk._sync._concurrency import abandon, next_message
from memx_sdk.config import shown_url
from memx_sdk.core.forks import watch_forks
from memx_sdk.core.responses import success_body
from memx_sdk.core.transport import Response, TransportOptions
from memx_sdk.errors import InvalidRequestError, MemxConnectionError, MemxError, MemxTimeout

_QUEUED_MESSAGES: Final = 64
"""Messages that wait for a slow reader before the server is held back."""

_CLOSING_SECONDS: Final = 1.0
"""Seconds that the server may take to answer a close frame."""


_CREDENTIAL: Final = "x-api-key"

_HEADER_ENCODING: Final = (
    "utf-8" if Headers(x="é").serialize() == "x: é\r\n\r\n".encode() else "iso-8859-1"
)
"""The encoding in which this version of the library writes headers; on the wire they are UTF-8."""


def _hide_credential(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple) and _CREDENTIAL in record.args:
        record.args = (_CREDENTIAL, "[hidden]")
    return True


log = logging.getLogger("memx_sdk.websocket")
log.addFilter(_hide_credential)  # at its lowest level the library logs every header


class WebSocket:
    """One WebSocket; also the stream of messages that a transport hands out.

    Args:
        connection: The library's connection.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        watch_forks(self)

    def receive(self, timeout: float | None = None) -> bytes:
        """Return the next message; see `MessageStream.receive`."""
        try:
            return next_message(self._connection, timeout)
        except TimeoutError:
            # The connection stays usable, as `MessageStream.receive` promises: the library
            # loses no message by a wait that ends.
            raise MemxTimeout("timeout", "no message came in time") from None
        except ConnectionClosed as error:
            raise _closed(error) from error

    def send(self, message: bytes) -> None:
        """Send a text message.

        Raises:
            MemxConnectionError: The WebSocket is closed.
        """
        try:
            self._connection.send(message, text=True)
        except ConnectionClosed as error:
            raise _closed(error) from error

    def close(self) -> None:
        """Close it; a pending ``receive`` raises. Closing twice is harmless."""
        self._connection.close()

    def forget_parent(self) -> None:
        """Close nothing but this process's copy of the socket, in a forked child."""
        # No close frame: the socket is the parent's, and so is the conversation on it.
        abandon(self._connection)


def connect_websocket(
    options: TransportOptions, path: str, query: Mapping[str, str]
) -> WebSocket:
    """Open a WebSocket.

    Pings go out so often that a connection that is half open is noticed in about twice the timeout.

    Args:
        options: Where to, as whom.
        path: The path, not escaped.
        query: The query's parameters.

    Raises:
        RequestError: The server refused it.
        MemxConnectionError: It could not be reached.
        MemxTimeout: It did not answer in time.
    """
    try:
        connection = connect(
            _address(options.base_url, path, query),
            additional_headers=_headers(options),
            compression=None,  # it costs more time than it saves between hosts of one network
            max_size=None,  # the server bounds values; what it has taken must be readable
            max_queue=_QUEUED_MESSAGES,
            open_timeout=options.timeout,
            ping_interval=options.timeout,
            ping_timeout=options.timeout,
            close_timeout=_CLOSING_SECONDS,
            logger=log,
        ).__enter__()  # newer versions of the library want to be entered; close() leaves
    except InvalidStatus as error:
        # The server answered, but not with a WebSocket: its answer is read as that of any request,
        # so that a refused API key is the same error on either transport.
        raise _refusal(error) from error
    except InvalidURI as error:
        raise InvalidRequestError("invalid_request", str(error)) from error
    except TimeoutError as error:
        # Before OSError, of which it is a kind.
        raise MemxTimeout("timeout", _unanswered(options, "no answer in time")) from error
    except (OSError, EOFError, WebSocketException) as error:
        raise MemxConnectionError("connection", _unanswered(options, str(error))) from error
    return WebSocket(connection)


def _address(base_url: str, path: str, query: Mapping[str, str]) -> str:
    # ``https`` becomes ``wss`` by the same replacement.
    root = "ws" + base_url.removeprefix("http") if base_url.startswith("http") else base_url
    return f"{root}{quote(path)}" + (f"?{urlencode(query)}" if query else "")


def _headers(options: TransportOptions) -> dict[str, str]:
    given = {_CREDENTIAL: options.api_key, "x-memx-agent": options.agent}
    return {
        # Encoded by the library with the encoding found above, the bytes on the wire are UTF-8.
        name: value.encode().decode(_HEADER_ENCODING)
        for name, value in given.items()
        if value is not None
    }


def _refusal(error: InvalidStatus) -> MemxError:
    answer = error.response
    response = Response(
        status=answer.status_code,
        body=bytes(answer.body or b""),
        content_type=answer.headers.get("content-type", ""),
        # Lower case as `Response.headers` says; the library keeps the case that came.
        headers={name.lower(): value for name, value in answer.headers.raw_items()},
    )
    try:
        success_body(response)
    except MemxError as refused:
        return refused
    return MemxConnectionError("connection", "the server answered without opening a WebSocket")


def _closed(error: ConnectionClosed) -> MemxConnectionError:
    # What the server sent tells why; what was sent from here at most that this side closed.
    closing = error.rcvd or error.sent
    if closing is None:
        return MemxConnectionError("connection", "the connection broke")
    detail = closing.reason or f"the connection was closed: {error}"
    # The code goes along for `core.reconnect.refusal`: codes from 4400 on are refusals, by which a
    # subscription ends for good.
    return MemxConnectionError("connection", detail, {"close_code": int(closing.code)})


def _unanswered(options: TransportOptions, reason: str) -> str:
    where = shown_url(options.base_url)
    return f"{where} did not answer: {reason}; is the server running, and base_url right?"
