"""Which pages of a browser may connect.

A browser names the page that connects in ``Origin``, with every WebSocket handshake and every request
across origins (RFC 6454; RFC 6455, section 10.2). Programs send none and are not concerned.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from memx_sdk.protocol.errors import ProtocolError
from memx_server.routes.http import Scope

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check_origin(scope: Scope, hosts: Sequence[str], origins: Sequence[str]) -> None:
    """Let in programs, the server's own pages, and pages that the operator names.

    The name under which the server's own page was reached must be one of its names: a foreign name that was
    made to point here (DNS rebinding) is refused.

    Args:
        scope: The handshake or request.
        hosts: The server's names; ``*`` for any.
        origins: Origins of other pages that may connect; ``*`` for any.

    Raises:
        ProtocolError: ``forbidden``.
    """
    headers = dict(scope["headers"])
    origin = headers.get(b"origin", b"").decode("latin-1")
    if not origin or "*" in origins or origin in origins:
        return
    host = headers.get(b"host", b"").decode("latin-1")
    if urlsplit(origin).netloc == host and ("*" in hosts or _name(host) in hosts):
        return
    raise ProtocolError(
        "forbidden",
        f"pages of {origin} may not connect here; an operator permits them by MEMX_ALLOWED_ORIGINS, and "
        "further names of this server by MEMX_ALLOWED_HOSTS",
    )


def check_host(scope: Scope) -> None:
    """Let in who calls this server by a name of this machine: a page that made its own name point here does not.

    Raises:
        ProtocolError: ``forbidden``.
    """
    host = dict(scope["headers"]).get(b"host", b"localhost").decode("latin-1")
    if _name(host) not in LOOPBACK:
        raise ProtocolError(
            "forbidden",
            f"this is told on the server's own machine only, not to callers of {host!r}",
        )


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
