"""The types of a transport: requests, responses, streams, and the protocols of both halves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from memx_sdk.errors import MemxError
from memx_sdk.protocol.durability import Durability

ENTRY_POINTS: Final = "memx_sdk.transports"
"""The entry-point group of transports."""


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """What a context tells the transport that it opens.

    Attributes:
        base_url: Where the server is; for an entry point's transport ``scheme:location``.
        api_key: The credential; a transport never shows it.
        agent: The name by which the writer calls itself, if any.
        timeout: Seconds to wait for a connection or an answer.
    """

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    agent: str | None = None
    timeout: float = 10.0

    @property
    def location(self) -> str:
        """What follows the scheme of ``base_url``: the path in ``embedded:/path``."""
        return self.base_url.partition(":")[2]


@dataclass(frozen=True, slots=True)
class Request:
    """One operation.

    Attributes:
        op: Its name, as on ``/ws``.
        method: The HTTP method.
        path: The HTTP path.
        fields: Its parameters, as JSON text by name.
        idempotency_key: Makes a repetition safe; None for reads.
        durability: How safe a write is to be when it is answered; None for the server's setting.
        patience: Seconds that the server may take beyond the usual, for a request that waits.
    """

    op: str
    method: str
    path: str
    fields: Mapping[str, bytes]
    idempotency_key: str | None = None
    durability: Durability | None = None
    patience: float = 0.0

    def body(self) -> bytes:
        """The fields as one JSON object."""
        # Joined and not encoded again: the fields are JSON text, and a value goes out byte for
        # byte.
        members = (b'"%s":%s' % (name.encode(), text) for name, text in self.fields.items())
        return b"{%s}" % b",".join(members)

    def query(self) -> dict[str, str]:
        """The fields as query parameters: a string as it is, anything else as JSON."""
        return {
            # A text goes into a URL as itself and not in quotes. JSON text that begins with a quote
            # is a string, and nothing else is.
            name: json.loads(text) if text.startswith(b'"') else text.decode()
            for name, text in self.fields.items()
        }


def _unchanged(error: MemxError) -> MemxError:
    return error


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a request, before anything is read from it.

    Attributes:
        status: The HTTP status, or the one that stands for the error's code.
        body: JSON text, if the server is a memX server.
        content_type: What the answer says it is.
        headers: Header fields, with names in lower case.
        convert_error: Makes the error of this response one of the transport's own kind as well.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    convert_error: Callable[[MemxError], MemxError] = field(default=_unchanged, repr=False)


class AsyncMessageStream(Protocol):
    """A subscription's messages."""

    async def receive(self, timeout: float | None = None) -> str | bytes:
        """Return the next message.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            MemxTimeout: Nothing came in time; the stream stays usable.
            MemxConnectionError: It was closed, by whichever side; ``close_code`` says how.
        """

    async def close(self) -> None:
        """Close it; a pending ``receive`` raises. Closing twice is harmless."""


class AsyncTransport(Protocol):
    """What `AsyncMemxContext` asks of a transport; many tasks may use one at the same time."""

    async def request(self, request: Request) -> Response:
        """Send ``request`` once and return the answer, whatever its status.

        Raises:
            MemxConnectionError: It may or may not have reached the server.
            MemxTimeout: No answer came in time; the same holds.
        """

    async def connect(self, path: str, query: Mapping[str, str]) -> AsyncMessageStream:
        """Open a stream.

        Args:
            path: ``/subscribe/`` and the key or pattern, not escaped.
            query: ``event``, ``since``, ``snapshot``, ``conflate`` as far as they are given.

        Raises:
            RequestError: The server refused the subscription.
            MemxConnectionError: It could not be reached.
            MemxTimeout: It did not answer in time.
        """

    async def close(self) -> None:
        """Release everything. Closing twice is harmless."""


class MessageStream(Protocol):
    """`AsyncMessageStream` for threads."""

    def receive(self, timeout: float | None = None) -> str | bytes:
        """See `AsyncMessageStream.receive`."""

    def close(self) -> None:
        """See `AsyncMessageStream.close`."""


class Transport(Protocol):
    """`AsyncTransport` for threads: what `memxContext` asks of a transport."""

    def request(self, request: Request) -> Response:
        """See `AsyncTransport.request`."""

    def connect(self, path: str, query: Mapping[str, str]) -> MessageStream:
        """See `AsyncTransport.connect`."""

    def close(self) -> None:
        """See `AsyncTransport.close`."""


TransportFactory = Callable[[TransportOptions], AsyncTransport]
"""The type of an entry point of the group."""
