"""The task that ends the open connections of API keys which were revoked or changed."""

from __future__ import annotations

import asyncio
import logging

from memx_sdk.protocol.errors import ProtocolError
from memx_server.auth.base import Authenticator
from memx_server.domain.feed.connections import OpenConnections

_log = logging.getLogger("memx_server.auth")


async def watch_revocations(
    authenticator: Authenticator, sessions: OpenConnections, interval: float
) -> None:
    """Compare the API keys that hold a connection open with their source, until it is cancelled.

    Args:
        authenticator: The source of the keys.
        sessions: The open connections.
        interval: Seconds between two comparisons.
    """
    while True:
        await asyncio.sleep(interval)
        for principal in sessions.principals():
            try:
                current = await authenticator.current(principal.credential)
            except ProtocolError:
                continue  # the source cannot be reached: the authenticator bounds how long that may last
            if current is None:
                _log.info("%s was revoked: its connections end", principal.name)
                sessions.revoke(principal.credential)
            elif not current.permits_the_same_as(principal):
                # 1012 lets the client connect again, and so be authorised by the new scopes.
                sessions.revoke(principal.credential, 1012, "what the API key may do has changed")
