"""The rule of the sample API keys, which everybody knows: they work on the server's own machine alone.

A page in a browser reaches a server on the same machine under a name of its own, which it makes point there (DNS
rebinding), and a proxy makes everybody a caller from its machine. So a request with such a key has to show that it is
neither, whatever started the server: it came to a loopback address, under a name of the server, and past no proxy.
"""

from __future__ import annotations

from memx_sdk.protocol.errors import ProtocolError
from memx_server.auth.sample_keys import MAKE_A_KEY, SAMPLE_CREDENTIALS, is_loopback
from memx_server.routes.api.origin_checks import LOOPBACK, host_name
from memx_server.routes.asgi import IN_PROCESS, Scope
from memx_server.settings import Settings

_FORWARDING = frozenset(
    {
        b"cf-connecting-ip",
        b"fastly-client-ip",
        b"forwarded",
        b"true-client-ip",
        b"via",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-envoy-external-address",
        b"x-original-forwarded-for",
        b"x-original-host",
        b"x-real-ip",
    }
)
"""Headers that proxies add, beside those that begin with ``x-forwarded``."""


def check_sample_key(credential: str, scope: Scope, settings: Settings) -> None:
    """Refuse a sample key from anywhere but the server's own machine; every other key passes.

    Args:
        credential: The digest of the API key, as in ``Principal.credential``.
        scope: The request or handshake.
        settings: The names of the server, and whether its port is published on a loopback address.

    Raises:
        ProtocolError: ``forbidden``, with the command that makes an API key.
    """
    if credential not in SAMPLE_CREDENTIALS or IN_PROCESS in scope.get("extensions", ()):
        return
    fault = _fault_of(scope, settings)
    if fault is not None:
        raise ProtocolError(
            "forbidden",
            "this is a sample API key, which everybody knows; it works on the server's own machine alone, and "
            f"{fault}. Make a key of your own: {MAKE_A_KEY}",
        )


def _fault_of(scope: Scope, settings: Settings) -> str | None:
    address = (scope.get("server") or ("a socket file", None))[0]
    if not (settings.published_on_loopback or is_loopback(address)):
        return f"this connection was made to {address}"
    host = None
    for name, value in scope["headers"]:
        if name == b"host":
            host = value if host is None else host
        elif name in _FORWARDING or name.startswith(b"x-forwarded"):
            return f"the header {name.decode()} shows that a proxy passed this request on"
    called = "" if host is None else host_name(host.decode("latin-1"))
    # A `*` in MEMX_ALLOWED_HOSTS names no host, so it is none of the server's names.
    if not called or (called not in LOOPBACK and called not in settings.allowed_hosts):
        return "this request calls it by another name than its own (the header Host; MEMX_ALLOWED_HOSTS)"
    return None
