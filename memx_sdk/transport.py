"""The protocol that transports implement: how a context reaches a server.

A transport moves requests and streams; it knows nothing of retries, models or refusals. Built in
are ``http`` (the default) and ``websocket`` (everything over one socket). Others register under the
entry-point group ``memx_sdk.transports``, and are chosen by ``transport="name"`` or by the scheme
of ``base_url``, such as ``embedded:/path``. The entry point names a callable that takes
`TransportOptions` and returns an `AsyncTransport`, without waiting: it opens what it needs at the
first request. The synchronous context runs that on an event loop in a thread of its own.
"""

from __future__ import annotations

from memx_sdk._async.transports.opening import open_transport
from memx_sdk.core.transport import (
    ENTRY_POINTS,
    AsyncMessageStream,
    AsyncTransport,
    MessageStream,
    Request,
    Response,
    Transport,
    TransportFactory,
    TransportOptions,
)

__all__ = [
    "ENTRY_POINTS",
    "AsyncMessageStream",
    "AsyncTransport",
    "MessageStream",
    "Request",
    "Response",
    "Transport",
    "TransportFactory",
    "TransportOptions",
    "open_transport",
]
