"""The HTTP transport: pooled, kept-alive connections by httpx."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, cast
from urllib.parse import quote, urlencode

import httpx

from memx_sdk._async._concurrency import abandon, current_loop
from memx_sdk._async.transports.http_pools import LIMITS, AsyncHttpPools
from memx_sdk._version import __version__
from memx_sdk.config import shown_url
from memx_sdk.core.forks import forked_error, watch_forks
from memx_sdk.core.transport import AsyncMessageStream, Request, Response, TransportOptions
from memx_sdk.errors import InvalidRequestError, MemxClosedError, MemxError
from memx_sdk.http_errors import exchange_error, status_error
from memx_sdk.protocol import durability

_CREDENTIAL: Final = "x-api-key"


class AsyncHttpTransport:
    """Sends each request over HTTP, and opens a WebSocket for each subscription.

    Args:
        options: Where to, as whom.
        send_through: Replaces httpx's own transport, for tests.
    """

    def __init__(
        self, options: TransportOptions, send_through: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._options = options
        self._send_through = send_through
        self._base_url = options.base_url
        if self._base_url.startswith("ws"):
            self._base_url = "http" + self._base_url.removeprefix("ws")
        # Loading the certificates takes longer than many programs run; plain HTTP needs none.
        self._verify = httpx.create_ssl_context() if self._base_url.startswith("https") else False
        # By event loop (None for threads); at most one is used, those of ended loops are dropped.
        self._pools: dict[object | None, AsyncHttpPools] = {}
        # The event loop that a forked child has taken over from its parent. It must not be used
        # here, as its selector is shared with the parent.
        self._parents_loop: object | None = None
        self._closed = False
        watch_forks(self)

    async def request(self, request: Request) -> Response:
        """Send ``request`` once; see `AsyncTransport.request`."""
        # Taken once: another thread may close the transport meanwhile, and the look below is for
        # the pools that were used.
        pools = self._pools_here()
        try:
            answer = await pools.send(self._http_request(pools, request))
        except (httpx.TransportError, httpx.DecodingError) as error:
            # Whether the request has reached the server is not known. The caller repeats it all the
            # same, under the same idempotency key.
            raise self._failure(error) from error
        except RuntimeError as error:  # httpx's way to say that the client is closed
            # A RuntimeError of another kind is a mistake of somebody, and is not to be hidden
            # behind a repetition.
            if not pools.first.is_closed:
                raise
            raise MemxClosedError("closed", "the context was closed meanwhile") from error
        # The status is not judged here: what an answer means is decided in one place for all
        # transports, `core.responses`.
        return Response(
            status=answer.status_code,
            body=answer.content,
            content_type=answer.headers.get("content-type", ""),
            headers=answer.headers,
            convert_error=partial(_as_status_error, answer),
        )

    async def connect(self, path: str, query: Mapping[str, str]) -> AsyncMessageStream:
        """Open a WebSocket; see `AsyncTransport.connect`."""
        # Loaded at the first subscription: a program that only reads and writes does not pay for
        # the websockets library.
        from memx_sdk._async.transports.websocket_connection import connect_websocket

        return await connect_websocket(self._options, path, query)

    async def close(self) -> None:
        """Close the pool; see `AsyncTransport.close`."""
        # Before the pools are closed, so that no request opens new ones behind them.
        self._closed = True
        # What belongs to an event loop that has ended cannot be closed by another one.
        if (pools := self._pools.get(current_loop())) is not None:
            await pools.close()

    def forget_parent(self) -> None:
        """Let the next request, in a forked child, open connections of its own."""
        # Not closed: TLS would say good-bye on the parent's sockets. The loop is remembered, so
        # that a child which goes on in it gets an error instead of the parent's answers.
        for loop, pools in self._pools.items():
            abandon(pools)
            self._parents_loop = loop
        self._pools = {}

    def _open_client(self) -> httpx.AsyncClient:
        headers = {
            "accept": b"application/json",
            "content-type": b"application/json",
            "user-agent": f"memx-sdk/{__version__}".encode(),
        }
        # Header values are bytes in UTF-8, as the server reads them; httpx would refuse letters
        # beyond ASCII in a text, or write them in another encoding.
        if self._options.api_key is not None:
            headers[_CREDENTIAL] = self._options.api_key.encode()
        if self._options.agent is not None:
            headers["x-memx-agent"] = self._options.agent.encode()
        return httpx.AsyncClient(
            headers=cast("Mapping[bytes, bytes]", headers),
            timeout=self._options.timeout,
            limits=LIMITS,
            transport=self._send_through,
            verify=self._verify,
        )

    def _pools_here(self) -> AsyncHttpPools:
        """Return the pools; new ones where another event loop runs than before."""
        # Connections belong to the loop that opened them. Those of a loop that has ended can be
        # neither used nor closed by this one, so they are dropped.
        loop = current_loop()
        pools = self._pools.get(loop)
        if pools is None:
            # Only where new pools would be opened: what has pools goes on, and learns from httpx
            # that they are closed.
            if self._closed:
                raise MemxClosedError("closed", "the context was closed meanwhile")
            if loop is not None and loop is self._parents_loop:
                raise forked_error("this event loop")
            if loop is not None:
                self._pools = {}
            # Threads may come here at the same time. `setdefault` is one step for them: all go on with
            # the same pools, and what the others made has no connection yet.
            pools = self._pools.setdefault(loop, AsyncHttpPools(self._open_client))
            # `close` sets the flag before it looks for pools: it closes these, or they are seen here.
            if self._closed:
                raise MemxClosedError("closed", "the context was closed meanwhile")
        return pools

    def _http_request(self, pools: AsyncHttpPools, request: Request) -> httpx.Request:
        url = self._base_url + request.path
        body = None
        # A DELETE has its parameters in the URL as a GET has, since proxies may drop its body.
        if request.method not in ("GET", "DELETE"):
            body = request.body()
        elif request.fields:
            # ``quote`` with nothing safe: a ``+`` for a space, or a bare ``:`` or ``/`` of a key,
            # is not read alike by everything on the way.
            url += "?" + urlencode(request.query(), quote_via=quote, safe="")
        headers = {}
        if request.idempotency_key is not None:
            headers["idempotency-key"] = request.idempotency_key.encode()
        if request.durability is not None:
            headers[durability.HEADER] = request.durability.encode()
        try:
            # Any client serves: all are made alike, and the request is sent by the one that has
            # capacity.
            return pools.first.build_request(
                request.method,
                url,
                content=body,
                headers=cast("Mapping[bytes, bytes]", headers),
                timeout=self._timeout(request),
            )
        except httpx.InvalidURL as error:
            raise InvalidRequestError(
                "invalid_request", f"the request does not fit a URL: {error}"
            ) from None

    def _timeout(self, request: Request) -> httpx.Timeout:
        usual = self._options.timeout
        # Only reading gets the patience: a long poll holds its answer back on purpose, while
        # connecting and sending should be quick as ever.
        return httpx.Timeout(usual, read=usual + request.patience)

    def _failure(self, error: httpx.RequestError) -> MemxError:
        where = shown_url(self._base_url)
        # Some of httpx's errors have no text, and an empty reason helps nobody.
        reason = str(error) or type(error).__name__
        # The exception carries its request, and error reporters write out all of it.
        _hide_credential(error.request)
        return exchange_error(
            error, f"{where} did not answer: {reason}; is the server running, and base_url right?"
        )


def _as_status_error(answer: httpx.Response, error: MemxError) -> MemxError:
    """Return ``error`` as one that code for httpx catches too."""
    _hide_credential(answer.request)
    return status_error(error, answer)


def _hide_credential(request: httpx.Request) -> None:
    """Take the API key out of a request that was sent, since errors get printed and reported."""
    if _CREDENTIAL in request.headers:
        request.headers[_CREDENTIAL] = "[hidden]"
