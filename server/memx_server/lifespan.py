"""The start and the end of a server's parts."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from memx_server.auth.revocation import watch_revocations
from memx_server.collector import SocketGarbage
from memx_server.exposure import warn_of_sample_keys
from memx_server.log_redaction import redact_uvicorn
from memx_server.services import Services
from memx_server.signals import StuckProcessWatch, end_with_parent, on_shutdown_signal
from memx_server.storage.base import Store, StoreUnavailable

_REVOCATION_CHECK = 2.0
"""Seconds between two looks at the API keys that hold a connection open."""

_OPENING_PATIENCE = 1.0
"""Seconds that a start waits for the store, before it serves without one."""

_WARMING_PATIENCE = 20.0
"""Seconds that a start waits for the evaluation processes."""

_RETRY_OPENING = 0.5
"""Seconds between two attempts to open a store that does not answer."""

_log = logging.getLogger("memx_server")


@asynccontextmanager
async def running(services: Services, store: Store, garbage: SocketGarbage) -> AsyncIterator[None]:
    """Open the store and start what runs beside the requests; at the end, stop and close it all.

    A store that does not answer yet does not keep the server from starting: it is opened in the
    background, and until then every request that needs it gets 503.

    Args:
        services: The parts of the server.
        store: The store that they use.
        garbage: Takes the garbage collector over, where the process is the server's alone.

    Raises:
        CannotOpen: The store cannot be used: a damaged file, or one of a newer memX.
    """
    if services.settings.workers > 1:
        end_with_parent()
    if services.settings.owns_process:
        redact_uvicorn()
    watch = StuckProcessWatch() if services.settings.owns_process else None
    # A worker that does not end is killed by its supervisor.
    is_alone = services.settings.workers == 1
    opening = asyncio.create_task(_open(store))
    supabase = services.settings.supabase
    warning = asyncio.create_task(_warn_if_exposed(services))
    warming = asyncio.create_task(_warm_up(services))
    telling = asyncio.create_task(_tell_figures(services))
    watching = asyncio.create_task(
        watch_revocations(
            services.authenticator,
            services.sessions,
            _REVOCATION_CHECK if supabase is None else supabase.cache_seconds / 2,
        )
    )
    try:
        await asyncio.wait({opening}, timeout=_OPENING_PATIENCE)
        if opening.done():
            opening.result()  # raises CannotOpen, which keeps the server from starting
        else:
            opening.add_done_callback(partial(_end_if_refused, services.settings.owns_process))
        await asyncio.wait({warming}, timeout=_WARMING_PATIENCE)
        if services.settings.owns_process:
            garbage.take_over()
        # Streams that never end by themselves are ended as soon as a signal comes: a server lets its
        # open responses finish before it leaves this block.
        with on_shutdown_signal(services.sessions.end_all, watch, is_alone=is_alone):
            yield
    finally:
        opening.cancel()
        watching.cancel()
        warning.cancel()
        warming.cancel()
        telling.cancel()
        await asyncio.gather(opening, watching, warning, warming, telling, return_exceptions=True)
        # From the readers to what they read: the feed and the presence still use the store as they end.
        await services.feed.close()
        await services.presence.close()
        await store.close()
        await services.evaluation.close()
        if watch is not None:
            watch.close()


async def _warm_up(services: Services) -> None:
    # The first value that has to be validated there would else wait for a process to start. On a busy machine
    # that may take long; the server then serves, and only such values wait.
    if services.settings.owns_process:
        await services.evaluation.start()


async def _tell_figures(services: Services) -> None:
    # A server of one process tells its figures by itself.
    if services.worker_figures is not None:
        await services.worker_figures.run()


async def _warn_if_exposed(services: Services) -> None:
    # A server inside another program's process shares its sockets, which say nothing about the server.
    if services.settings.owns_process:
        await warn_of_sample_keys(services.authenticator, services.settings)


def _end_if_refused(owns_process: bool, opening: asyncio.Task[None]) -> None:
    """End the server where the store answers late, and then with what keeps a server from starting."""
    refusal = None if opening.cancelled() else opening.exception()
    if refusal is None:
        return
    _log.error("the store cannot be used: %s", refusal)
    if owns_process:
        os.kill(os.getpid(), signal.SIGTERM)


async def _open(store: Store) -> None:
    """Open the store; where it does not answer, try again until it does."""
    logged: tuple[object, ...] = ()
    while True:
        try:
            await store.open()
        except StoreUnavailable as error:
            if error.args != logged:  # each reason once, however many attempts have it
                logged = error.args
                _log.warning("the store does not answer yet: %s; trying again", *logged)
            await asyncio.sleep(_RETRY_OPENING)
        else:
            return
