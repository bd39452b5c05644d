"""Ends the open connections of API keys that have been revoked or changed."""

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
    """Look again, for as long as it is not cancelled, at the API keys that hold a connection open.

    Args:
        authenticator: Says what they stand for now.
        sessions: The open connections.
        interval: Seconds between two looks.
    """
    while True:
        await asyncio.sleep(interval)
        for principal in sessions.principals():
            try:
                current = await authenticator.current(principal.credential)
            except ProtocolError:
                continue  # nobody can tell: the authenticator bounds how long that may last
            if current is None:
                _log.info("%s was revoked: its connections end", principal.name)
                sessions.revoke(principal.credential)
            elif not current.permits_the_same_as(principal):
                sessions.revoke(principal.credential, 1012, "what the API key may do has changed")
