"""The checks of ``Origin`` and ``Host``: which pages of a browser may connect.

A browser names the page that connects in ``Origin``, with every WebSocket handshake and every request
across origins (RFC 6454; RFC 6455, section 10.2). Programs send none and are not concerned.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from memx_sdk.protocol.errors import ProtocolError
from memx_server.routes.asgi import Scope

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check_origin(scope: Scope, hosts: Sequence[str], origins: Sequence[str]) -> None:
    """Refuse pages other than the server's own and those that the operator names; programs send no ``Origin``.

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
    # Both conditions count. A page whose own name was made to point here has an Origin that equals its Host; that the
    # name is one of this server's is what it cannot have.
    if _is_of(origin, host) and ("*" in hosts or host_name(host) in hosts):
        return
    raise ProtocolError(
        "forbidden",
        f"pages of {origin} may not connect here; an operator permits them by MEMX_ALLOWED_ORIGINS, and "
        "further names of this server by MEMX_ALLOWED_HOSTS",
    )


def calls_by_name(scope: Scope, hosts: Sequence[str]) -> bool:
    """Return whether a request calls this server by one of its names.

    The request of a page that made its own name point here (DNS rebinding) does not, though to the browser this
    server is the page's own.

    Args:
        scope: The request.
        hosts: The server's names; ``*`` for any.
    """
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    return not host or "*" in hosts or host_name(host) in hosts


def check_host(scope: Scope, hosts: Sequence[str]) -> None:
    """Refuse a request unless ``calls_by_name``.

    Raises:
        ProtocolError: ``forbidden``.
    """
    if not calls_by_name(scope, hosts):
        raise ProtocolError(
            "forbidden",
            "this server does not go by the name in the header Host; an operator gives it further names by "
            "MEMX_ALLOWED_HOSTS",
        )


_DEFAULT_PORTS = {"http": 80, "https": 443}


def _is_of(origin: str, host: str) -> bool:
    """Return whether a page of ``origin`` came from ``host``, where a default port is as good as none.

    A browser leaves the default port of the page's scheme away (RFC 6454, section 6.2); a proxy may put it into Host.
    """
    try:
        page, server = urlsplit(origin), urlsplit(f"//{host}")
        default = _DEFAULT_PORTS.get(page.scheme)
        ports = (page.port or default, server.port or default)
    except ValueError:  # a port that is no number
        return False
    # A Host with what no Host has, such as a user's name, is none of this server's.
    plain = server.netloc == host and "@" not in host and "@" not in page.netloc
    return plain and page.hostname == server.hostname and ports[0] == ports[1]


@lru_cache(maxsize=64)  # clients repeat themselves, and a Host is no longer than a head may be
def host_name(host: str) -> str:
    """Return the name, without a port, of a header ``Host``; empty where it holds none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
