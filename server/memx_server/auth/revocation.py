"""The task that ends the open connections of API keys which were revoked or changed."""

from __future__ import annotations

import asyncio
import logging

from memx_sdk.protocol.errors import ProtocolError
from memx_server.auth.base import Authenticator
from memx_server.domain.access import Principal
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

    async def check(principal: Principal) -> None:
        try:
            current = await authenticator.current(principal.credential)
        except ProtocolError as error:
            # The authenticator raises only once the grace of a key is over. 1013 is 'try again later'.
            sessions.revoke(principal.credential, 1013, error.detail)
            return
        except Exception:  # noqa: BLE001 - whatever a fault of the authenticator raises
            # The task must outlive a fault of one look-up, or nothing would be revoked any more.
            _log.exception("the API key of %s could not be checked", principal.name)
            return
        if current is None:
            _log.info("%s was revoked: its connections end", principal.name)
            sessions.revoke(principal.credential)
        elif not current.permits_the_same_as(principal):
            # 1012 lets the client connect again, and so be authorised by the new scopes.
            sessions.revoke(principal.credential, 1012, "what the API key may do has changed")

    while True:
        await asyncio.sleep(interval)
        # The keys are checked side by side: one look-up may take seconds, and there may be thousands.
        # The authenticator bounds how many of its queries run at the same time.
        await asyncio.gather(*(check(each) for each in sessions.principals()))
