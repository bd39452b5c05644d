"""The bridge by which threads use an asynchronous transport, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from memx_sdk.core.forks import watch_forks
from memx_sdk.core.transport import (
    AsyncMessageStream,
    AsyncTransport,
    Request,
    Response,
    TransportFactory,
    TransportOptions,
)
from memx_sdk.errors import MemxClosedError

T = TypeVar("T")


class BridgedTransport:
    """A `Transport` made from an `AsyncTransport`; nothing starts before its first use.

    Args:
        factory: Makes the asynchronous transport, on the event loop.
        options: For ``factory``.
    """

    def __init__(self, factory: TransportFactory, options: TransportOptions) -> None:
        # The transport is made on its loop and not here: what it makes (locks, connections) belongs
        # to the loop that runs then.
        self._factory = factory
        self._options = options
        # Reentrant: the garbage collector may run `close` inside `run`, in the same thread.
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._transport: AsyncTransport | None = None
        # Set under the lock; `run` reads it there too, so that nothing gets onto a loop that is
        # about to stop.
        self._closed = False
        watch_forks(self)

    def request(self, request: Request) -> Response:
        """See `Transport.request`."""
        return self.run(self._request(request))

    def connect(self, path: str, query: Mapping[str, str]) -> BridgedStream:
        """See `Transport.connect`."""
        return BridgedStream(self, self.run(self._connect(path, query)))

    def close(self) -> None:
        """See `Transport.close`."""
        with self._lock:
            # Only the first call closes: a loop that has ended takes no more work, and waiting for
            # it would never end.
            closed, self._closed = self._closed, True
        if closed or self._loop is None or self._thread is None:
            return
        # Outside of the lock: the work that is cancelled by this may be what another thread waits
        # for in `run`, and its way out takes no lock.
        closing = asyncio.run_coroutine_threadsafe(self._shut(), self._loop)
        # The garbage collector may call this in the loop's own thread, which must not wait for itself.
        if threading.current_thread() is not self._thread:
            closing.result()
            self._thread.join()

    def forget_parent(self) -> None:
        """Let the next request, in a forked child, start a loop and a transport of its own."""
        # The parent's loop does not run here. It is kept alive, since collecting what hangs on it
        # would touch what the two processes share.
        _abandoned.append((self._loop, self._transport))
        self._lock = threading.RLock()
        self._loop = self._thread = self._transport = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the loop and wait for it.

        Raises:
            MemxClosedError: The transport was closed.
        """
        # Under the lock, so that `close` comes before this work or after it is on the loop. In the
        # second case `_serve` cancels what still runs.
        with self._lock:
            if self._closed:
                # A coroutine that is never run warns when it is collected.
                work.close()
                raise MemxClosedError("closed", "the context was closed")
            loop = self._started_loop()
            running = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return running.result()
        except CancelledError:
            # Nobody but `_cancel_all` cancels this work, so the loop is ending.
            raise MemxClosedError("closed", "the context was closed meanwhile") from None
        except BaseException:  # Ctrl-C while waiting must not leave the work behind
            running.cancel()
            raise

    async def _request(self, request: Request) -> Response:
        return await self._opened().request(request)

    async def _connect(self, path: str, query: Mapping[str, str]) -> AsyncMessageStream:
        return await self._opened().connect(path, query)

    def _opened(self) -> AsyncTransport:
        if self._transport is None:
            self._transport = self._factory(self._options)
        return self._transport

    def _started_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            # A daemon, so that a program which forgot to close its context can end.
            self._thread = threading.Thread(
                target=_serve, args=(self._loop,), name="memx-transport", daemon=True
            )
            self._thread.start()
        return self._loop

    async def _shut(self) -> None:
        try:
            if self._transport is not None:
                await self._transport.close()
        finally:
            # Also after a failure, or the thread would run for ever. `_serve` runs the loop a
            # little further, by which this coroutine ends and `close` gets its result.
            asyncio.get_running_loop().stop()


class BridgedStream:
    """A `MessageStream` made from an `AsyncMessageStream`."""

    def __init__(self, bridge: BridgedTransport, stream: AsyncMessageStream) -> None:
        self._bridge = bridge
        self._stream = stream

    def receive(self, timeout: float | None = None) -> str | bytes:
        """See `MessageStream.receive`."""
        return self._bridge.run(self._receive(timeout))

    def close(self) -> None:
        """See `MessageStream.close`."""
        try:
            self._bridge.run(self._close())
        except MemxClosedError:
            # The bridge was closed, and the stream with it.
            return

    async def _receive(self, timeout: float | None) -> str | bytes:
        return await self._stream.receive(timeout)

    async def _close(self) -> None:
        await self._stream.close()


_abandoned: list[object] = []


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        # After the stop: threads still wait in `run` for work that nothing would finish any more.
        loop.run_until_complete(_cancel_all())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


async def _cancel_all() -> None:
    """Cancel whatever still runs, so that the threads that wait for it go on."""
    # Not this task itself: it has to see the others end.
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
