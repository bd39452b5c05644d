# Generated from memx_sdk/_async/transports/opening.py by tools/unasync.py; change that file, not this one.
"""The choice of a transport: built in, installed, or ready made."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Final

from memx_sdk._sync._concurrency import adopt
from memx_sdk.core.transport import (
    ENTRY_POINTS,
    Transport,
    TransportFactory,
    TransportOptions,
)

_NAME_BY_SCHEME: Final = {"http": "http", "https": "http", "ws": "websocket", "wss": "websocket"}


def open_transport(
    choice: str | Transport | None, options: TransportOptions
) -> Transport:
    """Open a transport.

    Args:
        choice: ``http``, ``websocket``, the name of an installed one, or one ready made; None
            chooses by the scheme of the base URL.
        options: Where to, as whom.

    Raises:
        ValueError: There is none of that name.
    """
    # Ready made by the caller, for a test or to be shared; the options of the context are not
    # looked at.
    if choice is not None and not isinstance(choice, str):
        return choice
    scheme = options.base_url.partition(":")[0]
    # A scheme that is not of the network names its transport itself: ``embedded:/path`` is for the
    # entry point ``embedded``.
    name = choice or _NAME_BY_SCHEME.get(scheme, scheme)
    if name == "http":
        # Each is imported where it is chosen, so that neither library is loaded for a program that
        # uses the other.
        from memx_sdk._sync.transports.http import HttpTransport

        return HttpTransport(options)
    if name == "websocket":
        from memx_sdk._sync.transports.websocket import WebSocketTransport

        return WebSocketTransport(options)
    return adopt(_installed(name), options)


def _installed(name: str) -> TransportFactory:
    # The first one found. Nothing is loaded for the list below: a broken plug-in of another name
    # must not get in the way.
    for found in entry_points(group=ENTRY_POINTS, name=name):
        factory: TransportFactory = found.load()
        return factory
    others = ", ".join(sorted(found.name for found in entry_points(group=ENTRY_POINTS)))
    raise ValueError(
        f"there is no transport {name!r}; there are http, websocket{', ' if others else ''}{others}"
        + ("" if others else " (`pip install memx-server` brings embedded)")
    )
