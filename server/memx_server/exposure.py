"""The warning at the start of a server that other machines can reach while its ACL file holds a sample key."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from memx_server.auth.acl_file import AclFile
from memx_server.auth.base import Authenticator
from memx_server.auth.sample_keys import MAKE_A_KEY, is_loopback
from memx_server.settings import Settings

_log = logging.getLogger("memx_server.auth")

_PATIENCE = 10.0
"""Seconds after the start in which the process must have begun to listen."""
_INTERVAL = 0.1


async def warn_of_sample_keys(authenticator: Authenticator, settings: Settings) -> None:
    """Log a warning if the server listens on an address of the network and the ACL file holds sample keys.

    ASGI does not tell an application where its server listens, and uvicorn begins to listen only after the
    application has started. The sockets of the process say it whatever started the server.

    Args:
        authenticator: The source of the API keys; only an ACL file is checked.
        settings: The settings of the server, which may say that the port is published on loopback alone.
    """
    if settings.published_on_loopback or not isinstance(authenticator, AclFile):
        return
    count = authenticator.count_sample_keys()
    if not count:
        return
    exposed = await _exposed_address()
    if exposed:
        _log.warning(
            "the server listens on %s, and %s holds %d sample API keys, which everybody knows; they are refused "
            "there. Make a key of your own: %s",
            exposed,
            settings.acl_file,
            count,
            MAKE_A_KEY,
        )


async def _exposed_address() -> str | None:
    """Return an address of the network that this process listens on; None where there is none."""
    deadline = asyncio.get_running_loop().time() + _PATIENCE
    while asyncio.get_running_loop().time() < deadline:
        found = set(_listening_hosts())
        if found:
            return next((host for host in sorted(found) if not is_loopback(host)), None)
        await asyncio.sleep(_INTERVAL)
    return None


def _listening_hosts() -> Iterator[str]:
    """Yield the IP addresses on which sockets of this process accept connections."""
    try:
        numbers = [int(each.name) for each in Path("/dev/fd").iterdir()]
    except OSError:  # Windows has no such folder
        return
    for number in numbers:
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            copy = os.dup(number)
        except OSError:
            continue  # it was closed meanwhile
        # The copy belongs to the object, which closes it; the server keeps its own.
        with socket.socket(fileno=copy) as listener:
            if listener.family in (socket.AF_INET, socket.AF_INET6) and listener.getsockopt(
                socket.SOL_SOCKET, socket.SO_ACCEPTCONN
            ):
                yield listener.getsockname()[0]
